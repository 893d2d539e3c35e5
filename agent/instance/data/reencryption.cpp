// SPDX-License-Identifier: Apache-2.0
// What people do with jobs of re-encryption; the work itself is in reencryption_work.cpp.

#include "agent/instance/data/reencryption.h"

#include <cmath>

#include "agent/base/error.h"
#include "agent/store/records.h"
#include "agent/store/reencryptions.h"

namespace keyagent::instance {
namespace {

constexpr int kMaxTries = 8;
constexpr std::int64_t kMaxRate = 1'000'000;

bool has_ended(const store::Reencryption& job) {
  return job.state != "running" && job.state != "paused";
}

// Records per second since the current holder started; 0: not known yet.
double speed_of(const store::Reencryption& job) {
  const std::chrono::duration<double> time = job.changed - job.since;
  const auto done = static_cast<double>(job.done - job.since_done);
  return time.count() > 0 && done > 0 ? done / time.count() : 0;
}

}  // namespace

Reencryption::Reencryption(DataKeys& keys, store::Store& store, Specifications& specifications,
                           Recorder& recorder, const Clock& clock, std::string replica)
    : keys_(keys),
      store_(store),
      specifications_(specifications),
      recorder_(recorder),
      clock_(clock),
      replica_(std::move(replica)) {}

store::Reencryption Reencryption::require(const std::string& specification) const {
  specifications_.require(specification);
  auto found = store_.reencryptions().find(specification);
  if (!found)
    throw Error(Code::kUsage, "the records of " + specification + " were never re-encrypted");
  return *std::move(found);
}

Json Reencryption::start(const std::string& specification, const Json& request,
                         const std::string& by) {
  specifications_.require(specification);
  begin(specification, number_of(request, "rate", 0, 0, kMaxRate), by, "user " + by);
  return show(specification);
}

void Reencryption::begin(const std::string& specification, std::int64_t rate, const std::string& by,
                         const std::string& actor) {
  const auto active = DataKeys::active(keys_.generations(specification));
  if (!active)
    throw Error(Code::kKeyNotPresent, "the specification " + specification +
                                          " has no active key in this instance's token; run: "
                                          "keyagent instance specification create " +
                                          specification);
  store::Reencryption job;
  job.specification = specification;
  job.state = "running";
  job.started_by = by;
  job.rate = rate;
  job.started = job.changed = job.since = clock_.now();
  for (const auto& [kid, count] : store_.records().count_by_kid(specification))
    job.total += kid == active->kid() ? 0 : count;
  const auto event = recorder_.make(Outcome::kDone, actor, "reencrypt.start", specification,
                                    std::to_string(job.total) + " records to " + active->kid());
  if (!store_.reencryptions().begin(job, event))
    throw Error(Code::kKeyState, "a re-encryption of " + specification +
                                     " is in progress; run: keyagent instance reencrypt status");
  Recorder::say(event);
  {
    const MutexLock lock(mutex_);
    news_ = true;
  }
  changed_.notify_all();
}

void Reencryption::follow_import(const std::string& specification, const std::string& by) {
  specifications_.require(specification);
  if (!DataKeys::active(keys_.generations(specification))) keys_.create(specification, true);
  for (int i = 0; i < kMaxTries; ++i) {
    auto job = store_.reencryptions().find(specification);
    if (!job || has_ended(*job)) {
      return begin(specification, 0, by, by);
    }
    job->kid.clear();
    job->position.clear();
    job->holder.clear();
    if (store_.reencryptions().move(*job)) return;
  }
  throw Error(Code::kBusy, "the re-encryption was changed concurrently; try again");
}

Json Reencryption::describe(const store::Reencryption& job) {
  const auto keys = keys_.generations(job.specification);
  const auto active = DataKeys::active(keys);
  std::int64_t left = 0;
  Json census = Json::array();
  for (const auto& [kid, count] : store_.records().count_by_kid(job.specification)) {
    std::string state = "not_present";
    for (const auto& key : keys) {
      if (key.kid() == kid) state = key.state();
    }
    census.push_back({{"kid", kid}, {"state", state}, {"records", count}});
    left += active && kid == active->kid() ? 0 : count;
  }
  const double speed = speed_of(job);
  const bool goes_on = job.state == "running" && speed > 0;
  const auto seconds = goes_on ? static_cast<double>(left) / speed : 0.0;
  return {
      {"specification", job.specification},
      {"state", job.state},
      {"started", rfc3339(job.started)},
      {"started_by", job.started_by},
      {"changed", rfc3339(job.changed)},
      {"rate", job.rate},
      {"total", job.total},
      {"done", job.done},
      {"failed", job.failed},
      {"left", left},
      {"speed", goes_on ? Json(speed) : Json()},
      {"ends", goes_on ? Json(rfc3339(clock_.now() + std::chrono::seconds(std::llround(seconds))))
                       : Json()},
      {"replica", job.holder},
      {"text", job.text},
      {"census", census}};
}

Json Reencryption::show(const std::string& specification) {
  return {{"reencryptions", Json::array({describe(require(specification))})}};
}

Json Reencryption::list() {
  Json out = Json::array();
  for (const auto& each : store_.reencryptions().all()) out.push_back(describe(each));
  return {{"reencryptions", out}};
}

// The fence goes up with it: what the replica that works at it is about to write is not written.
Json Reencryption::move(const std::string& specification, const std::string& from,
                        const std::string& to, const std::string& action, const std::string& by) {
  for (int i = 0; i < kMaxTries; ++i) {
    auto job = require(specification);
    if (job.state == to) return show(specification);
    if (job.state != from)
      throw Error(Code::kKeyState, "the re-encryption of " + specification + " is " + job.state +
                                       (has_ended(job) ? ": start a new one" : ""));
    job.state = to;
    job.holder.clear();
    job.changed = clock_.now();
    const auto event = recorder_.make(Outcome::kDone, "user " + by, action, specification,
                                      std::to_string(job.done) + " done");
    if (!store_.reencryptions().move(job, event)) continue;
    Recorder::say(event);
    return show(specification);
  }
  throw Error(Code::kBusy, "the re-encryption was changed concurrently; try again");
}

Json Reencryption::pause(const std::string& specification, const std::string& by) {
  return move(specification, "running", "paused", "reencrypt.pause", by);
}

Json Reencryption::resume(const std::string& specification, const std::string& by) {
  return move(specification, "paused", "running", "reencrypt.resume", by);
}

}  // namespace keyagent::instance
