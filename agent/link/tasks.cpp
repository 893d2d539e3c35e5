// SPDX-License-Identifier: Apache-2.0
#include "agent/link/tasks.h"

#include <algorithm>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/base/ids.h"
#include "agent/base/log.h"

namespace keyagent::link {
namespace {

using namespace std::chrono_literals;
using keys::KeyEvent;
using Stage = TaskEntry::Stage;

constexpr std::size_t kMaxHandlers = 256, kMaxText = 500;
constexpr std::chrono::minutes kLongestLease{1};  // that is not known after a start of the agent
constexpr std::size_t kGrantSize = 32;
constexpr std::chrono::milliseconds kFirstPause = 1s, kLongestPause = 30s;

[[noreturn]] void gone() {
  throw Error(Code::kKeyState, "the lease of this task has expired");
}

void require_handler(const std::string& name) {
  if (KeyName::parse(name)) return;
  throw Error(Code::kUsage, "a handler name must be 1 to 63 of a-z, 0-9, '.', '_' and '-'");
}

bool is_outcome(const std::string& text) {
  return text == "done" || text == "failed" || text == "retry";
}

}  // namespace

Tasks::Tasks(const LinkContext& around, LinkStore& store, OwnKeys& keys, TlsLibrary& library,
             const InstanceConnection& uplink)
    : context_(around),
      store_(store),
      uplink_(uplink),
      journal_(around.folder / "tasks", *around.clock, around.tasks),
      line_(around, keys, library, store),
      leases_known_(around.clock->now_steady() + kLongestLease) {}

void Tasks::tell(KeyEvent::Weight weight, const char* what, const TaskEntry& entry, Code code,
                 const std::string& detail) const {
  const std::string outcome = code == Code::kOk ? "ok" : std::string(code_name(code));
  if (context_.tell)
    context_.tell({weight,
                   what,
                   entry.handler,
                   {},
                   "internal:link",
                   outcome,
                   "task " + entry.id + ": " + detail});
}

void Tasks::news() {
  const MutexLock lock(mutex_);
  ++news_;
}

bool Tasks::is_due(const std::string& handler, std::uint64_t& news) {
  const MutexLock lock(mutex_);
  news = news_;
  const auto look = looks_.find(handler);
  return look == looks_.end() || look->second.seen != news_ ||
         context_.clock->now_steady() >= look->second.next;
}

void Tasks::found_none(const std::string& handler, std::uint64_t news,
                       std::chrono::milliseconds pause) {
  const MutexLock lock(mutex_);
  if (looks_.size() >= kMaxHandlers) looks_.clear();
  looks_[handler] = {news, context_.clock->now_steady() + pause};
}

void Tasks::note_lease(const std::string& id, SteadyTime sent, std::chrono::milliseconds lease) {
  const MutexLock lock(mutex_);
  const auto now = context_.clock->now_steady();
  std::erase_if(leases_, [now](const auto& each) { return each.second < now; });
  leases_[id] = sent + lease;
}

std::uint32_t Tasks::lease_left(const std::string& id) const {
  const MutexLock lock(mutex_);
  const auto found = leases_.find(id);
  if (found == leases_.end()) return 0;
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
      found->second - context_.clock->now_steady());
  return static_cast<std::uint32_t>(std::max<std::int64_t>(0, left.count()));
}

void Tasks::take(std::uint32_t uid, const wire::TaskTakeRequest& request,
                 wire::TaskTakeReply& reply) {
  const std::string& handler = request.handler();
  require_handler(handler);
  TaskEntry entry;
  entry.uid = uid;
  entry.runs_as = request.has_runs_as() ? request.runs_as() : uid;
  if (entry.runs_as != uid && uid != 0)
    throw Error(Code::kDenied, "only a worker that runs as root can run handlers as another user");
  const SecretBytes grant = random_secret(kGrantSize);
  entry.grant = to_base64url(sha256(grant));
  const auto state = require_trusted(store_, uplink_);
  if (journal_.full())
    throw Error(Code::kBusy,
                "the outcomes of " + std::to_string(journal_.waiting()) +
                    " tasks are not delivered to the instance; no tasks are taken until then");
  std::uint64_t news = 0;
  if (uplink_.report().phase != Phase::kConnected || !is_due(handler, news)) return;
  if (!line_.turn().try_lock_for(context_.timing.answer)) return;
  const MutexLock asking(line_.turn(), std::adopt_lock);
  const auto task = ask(*state, handler);
  if (!task) return found_none(handler, news, context_.timing.ask);
  if (!is_new(*task) || !start(*state, *task, entry)) return;
  auto& out = *reply.mutable_task();
  out.set_id(task->id);
  out.set_handler(task->handler);
  out.set_input(task->input);
  out.set_credential(task->credential);
  out.set_repeatable(task->repeatable);
  out.set_attempt(task->attempt);
  out.set_seconds(task->seconds);
  reply.set_lease_ms(lease_left(task->id));
  reply.set_grant(grant.data(), grant.size());
}

std::string Tasks::credential_of(std::uint32_t uid,
                                 const wire::TaskCredentialRequest& request) const {
  const auto entry = require_own(uid, request.handler(), request.id());
  const auto shown = to_base64url(sha256(as_bytes(request.grant())));
  if (entry.stage != Stage::kStarted || !equal_secret(as_bytes(shown), as_bytes(entry.grant)))
    gone();
  if (entry.credential.empty())
    throw Error(Code::kDenied, "task " + entry.id + " has no credential");
  return entry.credential;
}

bool Tasks::runs_tasks(std::uint32_t uid) const {
  if (journal_.started() == 0) return false;
  const bool known = context_.clock->now_steady() >= leases_known_;
  const auto all = journal_.list();
  return std::any_of(all.begin(), all.end(), [&](const auto& each) {
    return each.stage == Stage::kStarted && each.runs_as == uid &&
           (!known || lease_left(each.id) > 0);
  });
}

// What hinders it now does not hinder the next poll for long.
std::optional<TakenTask> Tasks::ask(const LinkState& state, const std::string& handler) {
  try {
    auto task = line_.api(state).take_task(handler);
    if (task && (task->handler != handler || !is_task_id(task->id)))
      throw Error(Code::kPeer, "the instance sent a task that was not requested");
    return task;
  } catch (const Error& error) {
    line_.drop();
    if (!retryable(error.code())) throw;
    log_warning("link", std::string("tasks: ") + error.what());
    return std::nullopt;
  }
}

// False: its outcome is known here, and goes to the instance instead of the task to a worker. An
// attempt that failed and is known to have is over: the instance wants another.
bool Tasks::is_new(const TakenTask& task) {
  const auto known = journal_.find(task.id);
  if (!known) return true;
  if (known->stage == Stage::kStarted) {
    if (lease_left(task.id) == 0) return true;
    log_warning("link", "task " + task.id + " was sent again while it is running; it is not taken");
    return false;
  }
  const bool told = known->stage != Stage::kEnded;
  if (told && known->end.outcome != "done" && task.attempt > known->attempt) return true;
  journal_.deliver_again(task.id, task.lease);
  tell(KeyEvent::Weight::kWarning, "task.known", *known, Code::kOk,
       "it was sent again and is not run again; its outcome was " + known->end.outcome);
  return false;
}

// It is in the journal before the instance hears that it starts: an agent that
// dies in between has started nothing.
bool Tasks::start(const LinkState& state, const TakenTask& task, TaskEntry entry) {
  entry.id = task.id;
  entry.handler = task.handler;
  entry.lease = task.lease;
  entry.credential = task.credential;
  entry.attempt = task.attempt;
  journal_.start(entry);
  const auto sent = context_.clock->now_steady();
  try {
    note_lease(task.id, sent, line_.api(state).start_task(task.id, task.lease));
    return true;
  } catch (const Error& error) {
    line_.drop();
    log_warning("link", "task " + task.id + " is not started: " + error.what());
    if (error.code() == Code::kKeyState) {
      journal_.forget(task.id);
    } else {
      // The instance may think that it was.
      journal_.end(task.id, {"retry", "it was not started: the agent lost the instance", {}});
    }
    return false;
  }
}

TaskEntry Tasks::require_own(std::uint32_t uid, const std::string& handler,
                             const std::string& id) const {
  auto entry = journal_.find(id);
  if (!entry || entry->handler != handler) gone();
  if (entry->uid != uid)
    throw Error(Code::kDenied, "a user other than uid " + std::to_string(uid) + " took task " + id);
  return *entry;
}

// Refused as an agent for now, it may get something again before the lease is
// over: that is no word about the task.
void Tasks::require_served(const LinkState& state) {
  try {
    line_.api(state).credentials();
  } catch (const Error& error) {
    line_.drop();
    if (error.code() != Code::kKeyState) throw;
    throw Error(Code::kPeer, std::string("the instance sends no tasks: ") + error.what());
  }
}

void Tasks::keep(std::uint32_t uid, const wire::TaskKeepRequest& request,
                 wire::TaskKeepReply& reply) {
  const auto entry = require_own(uid, request.handler(), request.id());
  if (entry.stage != Stage::kStarted) gone();
  const auto state = store_.get();
  if (!state) gone();
  journal_.touch(entry.id);
  const auto phase = uplink_.report().phase;
  // Refused as an agent, it may be trusted again before the lease is over.
  if (phase == Phase::kUnreachable || phase == Phase::kRefusedByPeer)
    throw Error(Code::kPeer, std::string("the instance is ") + name_of(phase));
  if (!line_.turn().try_lock_for(context_.timing.answer))
    throw Error(Code::kBusy, "too many requests to the instance; try again");
  const MutexLock asking(line_.turn(), std::adopt_lock);
  const auto sent = context_.clock->now_steady();
  try {
    note_lease(entry.id, sent, line_.api(*state).keep_task(entry.id, entry.lease));
  } catch (const Error& error) {
    line_.drop();
    if (error.code() == Code::kKeyState) require_served(*state);
    throw;
  }
  reply.set_lease_ms(lease_left(entry.id));
}

void Tasks::end(std::uint32_t uid, const wire::TaskEndRequest& request) {
  const auto entry = require_own(uid, request.handler(), request.id());
  if (!is_outcome(request.outcome()))
    throw Error(Code::kUsage, "an outcome must be done, failed or retry");
  if (request.result().size() > kMaxResult)
    throw Error(Code::kUsage, "a result may have at most 64 KiB");
  if (entry.stage != Stage::kStarted) {
    if (entry.end.outcome == request.outcome()) return;
    throw Error(Code::kKeyState, "this task has ended with another outcome");
  }
  std::string text = escape_controls(request.text());
  if (text.size() > kMaxText) text = escape_controls(text.substr(0, kMaxText));
  journal_.end(entry.id, {request.outcome(), text, request.result()});
  const MutexLock lock(mutex_);
  leases_.erase(entry.id);
}

void Tasks::list(wire::TaskListReply& reply) const {
  for (const auto& entry : journal_.list()) {
    auto& out = *reply.add_tasks();
    out.set_id(entry.id);
    out.set_handler(entry.handler);
    out.set_stage(name_of(entry.stage));
    out.set_outcome(entry.end.outcome);
    out.set_text(entry.end.text);
    out.set_attempt(entry.attempt);
    out.set_uid(entry.uid);
    out.set_changed(entry.changed);
    if (entry.stage == Stage::kStarted) out.set_lease_ms(lease_left(entry.id));
  }
  reply.set_running(static_cast<std::uint32_t>(running()));
  reply.set_waiting(static_cast<std::uint32_t>(waiting()));
}

void Tasks::deliver() {
  const auto now = context_.clock->now_steady();
  const auto state = store_.get();
  if (!state || state->stage != LinkState::Stage::kTrusted || now < next_delivery_) return;
  try {
    // The link has more to do than this.
    while (context_.clock->now_steady() - now < kFirstPause && deliver_next(*state)) continue;
    failures_ = 0;
  } catch (const Error& error) {
    if (failures_ == 0)
      log_warning("link", std::string("the outcome of a task is not delivered: ") + error.what());
    const auto doubled = kFirstPause * (1 << std::min(failures_++, 5));
    next_delivery_ =
        context_.clock->now_steady() + std::min<SteadyTime::duration>(doubled, kLongestPause);
  }
}

bool Tasks::deliver_next(const LinkState& state) {
  if (journal_.waiting() == 0) return false;
  const MutexLock asking(line_.turn());
  // Not before its turn: a take may have brought it another lease.
  const auto entry = journal_.next();
  if (!entry) return false;
  try {
    line_.api(state).end_task(entry->id, entry->lease, entry->end.outcome, entry->end.text,
                              entry->end.result);
    journal_.answered(*entry, true);
    return true;
  } catch (const Error& error) {
    line_.drop();
    // What the instance does not understand it would not understand the next time either.
    const bool final = error.code() == Code::kKeyState || error.code() == Code::kUsage ||
                       error.code() == Code::kUnsupported || error.code() == Code::kInput;
    if (!final) throw;
    // An agent that gets nothing for now is refused with the same code: then it throws here too.
    line_.api(state).credentials();
    journal_.answered(*entry, false);
    tell(KeyEvent::Weight::kAlarm, "task.refused", *entry, error.code(),
         "its outcome, " + entry->end.outcome + ", is not accepted: " + error.what());
    return true;
  }
}

}  // namespace keyagent::link
