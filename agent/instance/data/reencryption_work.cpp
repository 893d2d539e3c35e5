// SPDX-License-Identifier: Apache-2.0
// The work of re-encryption. The agent opens an envelope, seals what is in it under the active key,
// opens that again and compares; then the new one replaces the old one, if that is still there. So
// every record can be read at every moment, by its one envelope, and a job may be done twice.

#include <algorithm>
#include <atomic>
#include <exception>
#include <map>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/base/log.h"
#include "agent/envelope/envelope.h"
#include "agent/instance/data/reencryption.h"
#include "agent/store/records.h"
#include "agent/store/reencryptions.h"

namespace keyagent::instance {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kMaxBatch = 64;
constexpr unsigned kHands = 4;  // at the token at once
constexpr auto kPoll = 1s, kBeat = 1s, kLongestWait = 30s;

// The failure concerns the key or the agent's policy, not this record.
bool is_about_the_key(Code code) {
  return code != Code::kInput && code != Code::kIntegrity && code != Code::kUsage &&
         code != Code::kUnsupported;
}

std::size_t batch_size(std::int64_t rate) {
  return rate == 0 ? kMaxBatch
                   : static_cast<std::size_t>(std::clamp<std::int64_t>(rate, 1, kMaxBatch));
}

std::chrono::milliseconds pace(std::size_t records, std::int64_t rate) {
  return std::chrono::milliseconds(rate == 0 ? 0
                                             : static_cast<std::int64_t>(records) * 1000 / rate);
}

}  // namespace

// From the first record to the last, with what was found on the way.
struct Reencryption::Pass {
  std::string active;
  std::map<std::string, std::string> left;  // kid → why records stay under it
};

// A few records, opened and sealed at the same time.
struct Reencryption::Batch {
  std::vector<store::Replacement> replacements;
  std::size_t failed = 0;
  std::string last, failure;
  std::optional<Error> fault;
};

namespace {

// One slot a record: what its new envelope is, or why there is none.
struct Slot {
  std::optional<DataKeys::Sealed> sealed;
  std::optional<Error> error;
};

void seal_one(DataKeys& keys, const store::Record& record, Slot& slot) {
  try {
    slot.sealed = keys.seal_again(record.envelope);
    if (slot.sealed && envelope::inspect(as_bytes(slot.sealed->envelope)).kid != slot.sealed->kid)
      throw Error(Code::kIntegrity, "the new envelope names another key", record.kid);
  } catch (const Error& error) {
    slot.sealed.reset();
    slot.error = error;
  }
}

std::vector<Slot> seal_all(DataKeys& keys, const std::vector<store::Record>& records) {
  std::vector<Slot> slots(records.size());
  std::atomic<std::size_t> next{0};
  const auto hand = [&] {
    for (std::size_t i = next++; i < records.size(); i = next++)
      seal_one(keys, records[i], slots[i]);
  };
  std::vector<std::thread> others;
  for (unsigned i = 1; i < kHands && i < records.size(); ++i) others.emplace_back(hand);
  hand();
  for (auto& each : others) each.join();
  return slots;
}

}  // namespace

void Reencryption::run() {
  thread_ = std::thread([this] { loop(); });
}

void Reencryption::stop() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

bool Reencryption::stopping() {
  const MutexLock lock(mutex_);
  return stopping_;
}

void Reencryption::loop() {
  while (!stopping()) {
    try {
      if (auto job = store_.reencryptions().claim(replica_, clock_.now(), kLease)) {
        work(*std::move(job));
        continue;
      }
    } catch (const std::exception& error) {
      log_warning("instance", std::string("re-encryption: ") + error.what());
    }
    const MutexLock lock(mutex_);
    changed_.wait_for(mutex_, kPoll, [this]() REQUIRES(mutex_) {
      return stopping_ || std::exchange(news_, false);
    });
  }
}

// Keys that are old now are closed first: what is found under them is all there will ever be.
void Reencryption::work(store::Reencryption job) {
  for (;;) {
    Pass pass;
    const auto active = DataKeys::active(keys_.generations(job.specification));
    pass.active = active ? active->kid() : "";
    if (active) specifications_.note_key(job.specification, active->kid());
    specifications_.report_census(job.specification, false);
    if (!one_pass(job, pass)) break;
    // A rekey on the way: what came under the key before it is done again.
    const auto now = DataKeys::active(keys_.generations(job.specification));
    if (now && now->kid() != pass.active) {
      job.kid.clear();
      job.position.clear();
      continue;
    }
    return finish(job, pass);
  }
  if (!stopping()) return;  // paused, ended, or another replica's
  job.holder.clear();
  store_.reencryptions().move(job);
}

bool Reencryption::one_pass(store::Reencryption& job, Pass& pass) {
  std::map<std::string, std::string> states;
  for (const auto& key : keys_.generations(job.specification)) states[key.kid()] = key.state();
  for (const auto& [kid, count] : store_.records().count_by_kid(job.specification)) {
    if (kid == pass.active || kid < job.kid) continue;
    if (!states.contains(kid)) {
      pass.left[kid] = "KEY_NOT_PRESENT";
      continue;
    }
    if (kid != job.kid) job.position.clear();
    job.kid = kid;
    if (!one_key(job, pass, kid)) return false;
  }
  return true;
}

// The results of the records, up to the first one that reveals a problem of the key.
Reencryption::Batch Reencryption::make_batch(const std::vector<store::Record>& records) {
  Batch batch;
  const auto slots = seal_all(keys_, records);
  for (std::size_t i = 0; i < records.size(); ++i) {
    const auto& [sealed, error] = slots[i];
    if (error && is_about_the_key(error->code())) {
      batch.fault = error;
      break;  // the checkpoint is before it
    }
    batch.last = records[i].id;
    if (error) {
      ++batch.failed;
      batch.failure = std::string(code_name(error->code()));
    }
    if (sealed)
      batch.replacements.push_back(
          {records[i].id, records[i].envelope, sealed->envelope, sealed->kid});
  }
  return batch;
}

bool Reencryption::one_key(store::Reencryption& job, Pass& pass, const std::string& kid) {
  std::chrono::milliseconds wait = 1s;
  for (;;) {
    const auto began = clock_.now_steady();
    const auto records =
        store_.records().list_under(job.specification, kid, job.position, batch_size(job.rate));
    if (records.empty()) return true;
    const auto batch = make_batch(records);
    for (const auto& each : batch.replacements)
      specifications_.note_key(job.specification, each.kid);
    if (batch.failed > 0) pass.left[kid] = batch.failure;
    if (!write(job, batch)) return false;
    if (!batch.fault) {
      wait = 1s;
      if (!rest(job, pace(records.size(), job.rate) - (clock_.now_steady() - began))) return false;
      continue;
    }
    if (!retryable(batch.fault->code())) {
      pass.left[kid] = std::string(code_name(batch.fault->code())) + ": " + batch.fault->what();
      return true;
    }
    log_warning("instance", "re-encryption of " + job.specification + " waits " +
                                std::to_string(wait.count()) + " ms: " + batch.fault->what());
    if (!rest(job, wait)) return false;
    wait = std::min<std::chrono::milliseconds>(wait * 2, kLongestWait);
  }
}

bool Reencryption::write(store::Reencryption& job, const Batch& batch) {
  if (!batch.last.empty()) job.position = batch.last;
  job.failed += static_cast<std::int64_t>(batch.failed);
  job.changed = clock_.now();
  job.lease_until = job.changed + kLease;
  return store_.reencryptions().write_records(job, batch.replacements).has_value();
}

bool Reencryption::rest(store::Reencryption& job, SteadyTime::duration time) {
  const auto until = clock_.now_steady() + time;
  for (;;) {
    const auto now = clock_.now_steady();
    {
      const MutexLock lock(mutex_);
      const auto part = std::min<SteadyTime::duration>(until - now, kBeat);
      if (changed_.wait_for(mutex_, std::max<SteadyTime::duration>(part, 0ms),
                            [this]() REQUIRES(mutex_) { return stopping_; }))
        return false;
    }
    if (clock_.now_steady() >= until) return true;
    if (!write(job, {})) return false;
  }
}

void Reencryption::finish(store::Reencryption& job, const Pass& pass) {
  std::int64_t left = 0;
  std::string text;
  for (const auto& [kid, count] : store_.records().count_by_kid(job.specification)) {
    if (kid == pass.active) continue;
    left += count;
    const auto why = pass.left.find(kid);
    text += (text.empty() ? "" : "; ") + std::to_string(count) + " under " + kid + ": " +
            (why == pass.left.end() ? "not done, see the log" : why->second);
  }
  job.state = left == 0 ? "complete" : "partial";
  job.text = text;
  job.holder.clear();
  job.changed = clock_.now();
  const auto event = recorder_.make(
      left == 0 ? Outcome::kDone : Outcome::kFailed, "instance", "reencrypt." + job.state,
      job.specification, std::to_string(job.done) + " done" + (text.empty() ? "" : "; " + text));
  if (!store_.reencryptions().move(job, event)) return;
  Recorder::say(event);
  specifications_.report_census(job.specification, true);
}

}  // namespace keyagent::instance
