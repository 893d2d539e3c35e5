// SPDX-License-Identifier: Apache-2.0
#include "agent/gate/gate.h"

#include <algorithm>
#include <cstdint>
#include <future>
#include <utility>

#include "agent/base/encoding.h"
#include "agent/base/log.h"
#include "agent/gate/admission.h"
#include "agent/gate/answers.h"
#include "agent/gate/deadlines.h"
#include "agent/gate/operation.h"
#include "agent/gate/refusals.h"
#include "agent/gate/request_check.h"
#include "agent/wire/messages.h"

namespace keyagent::gate {

using namespace std::chrono_literals;

namespace {

// Answers to who is refused more often than is recorded line by line: so each of its requests under
// way waits, and with its share of these (net::Limits) it is read no faster.
constexpr auto kFloodDelay = 500ms;

// One request for the token: shared by its job, its deadline and anyone who answers.
struct Flight {
  Flight(State& state, const policy::Principal& principal, wire::Request request,
         std::shared_ptr<Reply> to)
      : call{state, principal, std::move(request), {}, {}, {}, {}, {}, {}, {}, false, {}},
        caller(caller_of(principal)),
        reply(std::move(to)) {}
  ~Flight() {
    wire::wipe(call.request);
    wire::wipe(call.response);
  }
  Call call;
  const std::string caller;
  const std::shared_ptr<Reply> reply;
  const Operation* operation = nullptr;
  audit::Event event;  // complete but for its outcome before the request is admitted
  bool begun = false;  // a change whose begin was recorded
  std::shared_ptr<std::atomic<bool>> abandoned;
};
using Held = std::shared_ptr<Flight>;

// Counts a request as waiting, then as running, and takes its deadline away with it: also when the
// queue drops it unrun.
class Ticket {
 public:
  Ticket(GateCounters& counters, Deadlines& deadlines, Deadlines::Handle entry)
      : counters_(counters), deadlines_(deadlines), entry_(entry) {
    ++counters_.queued;
  }
  Ticket(const Ticket&) = delete;
  ~Ticket() {
    --(running_ ? counters_.running : counters_.queued);
    deadlines_.remove(entry_);
  }
  void begin() {
    running_ = true;
    ++counters_.running;
    --counters_.queued;
  }

 private:
  GateCounters& counters_;
  Deadlines& deadlines_;
  const Deadlines::Handle entry_;
  bool running_ = false;
};

// Faults of the token that repeat themselves until it is back.
bool outage(Code code) {
  return layer_of(code) == Layer::kToken || code == Code::kKeyLost;
}

}  // namespace

struct Gate::Impl {
  State state;
  Admission admission;
  std::shared_ptr<Refusals> refusals;
  std::shared_ptr<Deadlines> deadlines;

  Impl(const GateOptions& options, Services services, Timer timer)
      : state(options, std::move(services)),
        admission(options.token_operations, options.queue),
        refusals(std::make_shared<Refusals>(state.services.audit, state.services.clock, timer,
                                            state.options.refusals)),
        deadlines(std::make_shared<Deadlines>(state.services.clock, std::move(timer))) {}

  void handle(const policy::Principal& principal, wire::Request request,
              std::shared_ptr<Reply> reply);
  void authorize(Call& call, const Operation& operation);
  void begin(const Held& flight);
  void admit(const Held& flight);
  void run(Flight& flight);
  void finish(const Held& flight);
  void refuse(const Held& flight, const Error& error);
  void fail(const Held& flight, const Error& error);
  void miss_deadline(const Held& flight);
  bool report(const Flight& flight, const Error& error);
  void log_failure(const Flight& flight, const Error& error, std::uint64_t withheld);
  void count_failed_open(const Flight& flight);
  void require_room_for_change(const Held& flight);
  void answer(const Held& flight, const wire::Response& response, bool flooding);
  SteadyTime answer_time(const Call& call) const;
};

void Gate::Impl::handle(const policy::Principal& principal, wire::Request request,
                        std::shared_ptr<Reply> reply) {
  ++state.counters.requests;
  state.lists.forget_old();
  const auto flight =
      std::make_shared<Flight>(state, principal, std::move(request), std::move(reply));
  Call& call = flight->call;
  call.started = state.services.clock.now_steady();
  call.response.set_id(call.request.id());
  try {
    check_request(call.request);
  } catch (const Error& error) {
    return fail(flight, error);
  }
  flight->operation = find_operation(call.request);
  if (flight->operation == nullptr) {
    return fail(
        flight,
        Error(Code::kUsage,
              "this agent does not support the request: it is older than the caller; update it"));
  }
  try {
    begin(flight);
  } catch (const Error& error) {
    error.code() == Code::kDenied ? refuse(flight, error) : fail(flight, error);
  } catch (const std::exception& error) {
    log_error("gate", error.what());
    fail(flight, Error(Code::kInternal, "internal error of the agent; see its log"));
  }
}

void Gate::Impl::begin(const Held& flight) {
  Call& call = flight->call;
  const Operation& operation = *flight->operation;
  audit::Event& event = flight->event;
  event.what = operation.name;
  event.who = call.principal.text();
  event.pid = call.principal.pid;
  call.policy = state.services.around.policy();
  if (operation.action) call.query.action = *operation.action;
  operation.resolve(call);
  event.key = call.key ? call.key->name.text() : call.which;
  event.kid = call.key ? call.key->kid.text() : "";
  authorize(call, operation);
  event.rule = call.decision.rule;
  operation.needs_token(call.request) ? admit(flight) : finish(flight);
}

void Gate::Impl::authorize(Call& call, const Operation& operation) {
  if (!operation.action) return;
  call.decision = policy::decide(*call.policy, call.principal, call.query);
  const bool unknown = operation.names_key && !call.key;
  if (call.decision.allowed && !unknown) return;
  const bool sees = call.decision.allowed ||
                    call.may(policy::Action::kPublic, call.query.key, call.query.purpose);
  throw unknown && sees ? not_present(call) : denied(call);
}

void Gate::Impl::admit(const Held& flight) {
  Call& call = flight->call;
  const auto longest = state.options.deadline * flight->operation->patience;
  const std::chrono::milliseconds asked(call.request.deadline_ms());
  const auto deadline = asked > 0ms ? std::min(asked, longest) : longest;
  flight->abandoned = std::make_shared<std::atomic<bool>>(false);
  const auto entry =
      deadlines->add(call.started + deadline, [this, flight] { miss_deadline(flight); });
  auto ticket = std::make_shared<Ticket>(state.counters, *deadlines, entry);
  auto job = [this, flight, ticket] {
    ticket->begin();
    finish(flight);
  };
  const auto busy = [this, flight] {
    ++state.counters.busy;
    fail(flight, Error(Code::kBusy, "the token has " + std::to_string(state.options.queue) +
                                        " requests waiting; try again"));
  };
  const bool slow = flight->operation->patience > 1;
  if (admission.submit({queue_of(call.principal), std::move(job), flight->abandoned, busy, slow}) ==
      Admission::Answer::kBusy)
    busy();
}

// A key that the token has lost is not asked for again with each item of a queue.
void Gate::Impl::run(Flight& flight) {
  Call& call = flight.call;
  const bool uses = flight.operation->record == Record::kUse && call.key;
  if (!uses) return flight.operation->run(call);
  const std::string& kid = call.key->kid.text();
  state.lost_keys.require_not_lost(kid, state.services.keys.reconciliations());
  try {
    flight.operation->run(call);
    state.lost_keys.found(kid);
  } catch (const Error& error) {
    if (error.code() == Code::kKeyLost)
      state.lost_keys.lost(kid, error, state.services.keys.reconciliations());
    throw;
  }
}

// audit → run → audit → answer: nothing leaves that is not recorded.
void Gate::Impl::finish(const Held& flight) {
  Call& call = flight->call;
  const Operation& operation = *flight->operation;
  auto& audit = state.services.audit;
  try {
    audit::AuditLog::Room room;
    if (operation.record != Record::kNever) room = audit.reserve();
    if (operation.record == Record::kChange) {
      require_room_for_change(flight);
      audit::Event begun = flight->event;
      begun.outcome = "begun";
      audit.record_now(std::move(begun));
      flight->begun = true;
    }
    run(*flight);
    audit::Event done = flight->event;
    if (call.key) {
      done.key = call.key->name.text();
      done.kid = call.key->kid.text();
    }
    done.outcome = "ok";
    if (!call.detail.empty()) done.detail = call.detail;
    if (flight->abandoned && *flight->abandoned)
      done.detail = "completed after its deadline; not delivered";
    const bool happened = operation.record == Record::kEvent && !call.detail.empty();
    if (operation.record == Record::kUse || happened) {
      audit.record(std::move(done), std::move(room));
    } else if (operation.record == Record::kChange) {
      audit.record_now(std::move(done));
    }
    flight->reply->answer(call.response);
  } catch (const Error& error) {
    error.code() == Code::kDenied ? refuse(flight, error) : fail(flight, error);
  } catch (const std::exception& error) {
    log_error("gate", std::string(operation.name) + ": " + error.what());
    fail(flight, Error(Code::kInternal, "internal error of the agent; see its log"));
  }
}

// A change that fails leaves a record of its begin: who has made too many of those waits. None is
// begun that cannot be carried out.
void Gate::Impl::require_room_for_change(const Held& flight) {
  if (const auto why = state.services.around.use_only(); !why.empty())
    throw Error(Code::kKeyState, why);
  if (!refusals->over_budget(flight->caller)) return;
  const auto refill = refusals->refill();
  flight->call.retry_after_ms = static_cast<std::uint32_t>(refill.count());
  throw Error(Code::kBusy,
              flight->call.principal.text() +
                  " had too many requests refused or failed: changes are delayed; try again in " +
                  std::to_string((refill.count() + 999) / 1000) + " s");
}

void Gate::Impl::answer(const Held& flight, const wire::Response& response, bool flooding) {
  if (!flooding) {
    flight->reply->answer(response);
  } else {
    flight->reply->answer_at(state.services.clock.now_steady() + kFloodDelay, response);
  }
}

void Gate::Impl::refuse(const Held& flight, const Error& error) {
  ++state.counters.refused;
  audit::Event event = flight->event;
  const std::string& detail = flight->call.detail;
  event.detail = "refused: " + event.what + (detail.empty() ? "" : ", " + detail);
  event.what = "refused";
  event.outcome = code_name(error.code());
  event.rule = flight->call.decision.rule;
  refusals->submit(flight->caller, std::move(event),
                   [this, flight, response = failure(flight->call, error)](bool flooding) {
                     answer(flight, response, flooding);
                   });
}

// A failed decryption keeps its thread and its token slot until the fixed time, and is counted,
// recorded and answered only then: other callers cannot observe when it failed.
void Gate::Impl::fail(const Held& flight, const Error& error) {
  const Call& call = flight->call;
  const bool failed_open = (error.code() == Code::kInput || call.failed_to_open) && call.key;
  const SteadyTime when = failed_open ? answer_time(call) : SteadyTime{};
  if (failed_open) state.options.wait_until(when);
  ++state.counters.failed;
  if (failed_open) count_failed_open(*flight);
  const bool flooding = report(*flight, error);
  const auto response = failure(call, error);
  if (failed_open) {
    const auto pause = flooding ? SteadyTime::duration(kFloodDelay) : SteadyTime::duration(0);
    return flight->reply->answer_at(when + pause, response);
  }
  answer(flight, response, flooding);
}

void Gate::Impl::log_failure(const Flight& flight, const Error& error, std::uint64_t withheld) {
  const std::string kid = error.kid().empty() ? flight.event.kid : error.kid();
  log_error("gate",
            flight.event.what + ": " + std::string(code_name(error.code())) +
                (kid.empty() ? "" : " kid=" + kid) + ": " + error.what() +
                (withheld > 0 ? " (and " + std::to_string(withheld) + " times before)" : ""));
}

// The log has at most one line a minute for a code and a key; so has the audit log for what an
// absent token refuses, because no key was used (RELIABILITY 23). Returns true once the caller's
// further failures are only counted.
bool Gate::Impl::report(const Flight& flight, const Error& error) {
  const Code code = error.code();
  const bool change = flight.operation != nullptr && flight.operation->record == Record::kChange;
  if (code == Code::kUsage || code == Code::kBusy || code == Code::kConfirm) {
    if (change && code != Code::kBusy && flight.begun) refusals->charge(flight.caller);
    return false;
  }
  const std::string kid = error.kid().empty() ? flight.event.kid : error.kid();
  const auto withheld = state.limiter.admit(std::string(code_name(code)) + " " + kid);
  if (withheld && code != Code::kInput) log_failure(flight, error, *withheld);
  if (flight.operation == nullptr || flight.operation->record == Record::kNever) return false;
  if (flight.operation->record == Record::kEvent) return false;
  if (outage(code) && !withheld) return false;
  audit::Event event = flight.event;
  event.outcome = code_name(code);
  if (outage(code) && *withheld > 0)
    event.detail = "and " + std::to_string(*withheld) + " times before";
  try {
    return refusals->note(flight.caller, std::move(event));
  } catch (const std::exception& fault) {
    if (state.limiter.admit("audit")) log_error("gate", fault.what());
    return false;
  }
}

void Gate::Impl::count_failed_open(const Flight& flight) {
  const auto& key = *flight.call.key;
  const auto effect = state.budget.count_failure(flight.caller, key.kid.text());
  if (effect == FailureBudget::Effect::kNone) return;
  const bool strained = effect == FailureBudget::Effect::kStrained;
  const std::string text =
      strained
          ? "key " + key.name.text() + " kid=" + key.kid.text() +
                ": too many failed envelopes of several callers in a day; callers that send "
                "failing envelopes are paused sooner"
          : flight.caller + " is paused with key " + key.name.text() + " kid=" + key.kid.text() +
                " for a day: " + std::to_string(state.budget.max()) + " failed envelopes";
  log_error("gate", text);
  audit::Event alarm;
  alarm.what = "alarm";
  alarm.who = "internal:gate";
  alarm.key = key.name.text();
  alarm.kid = key.kid.text();
  alarm.outcome = code_name(Code::kKeyState);
  alarm.detail = text;
  try {
    state.services.audit.record(std::move(alarm));
  } catch (const std::exception& fault) {
    log_error("gate", fault.what());
  }
}

void Gate::Impl::miss_deadline(const Held& flight) {
  *flight->abandoned = true;
  ++state.counters.deadline;
  const Error error(
      Code::kDeadline,
      "no response within the deadline: the token is slow, busy or hung; run: keyagent status",
      flight->event.kid);
  if (flight->reply->answer(failure(flight->call, error))) report(*flight, error);
}

// Failed decryptions are answered at fixed intervals after the start of the request, so that the
// response time reveals nothing about the failure (RELIABILITY 104).
SteadyTime Gate::Impl::answer_time(const Call& call) const {
  const auto quantum =
      std::chrono::duration_cast<SteadyTime::duration>(state.options.failure_quantum);
  const auto passed = state.services.clock.now_steady() - call.started;
  return call.started + (passed / quantum + 1) * quantum;
}

Gate::Gate(GateOptions options, Services services, Timer timer)
    : impl_(std::make_shared<Impl>(options, std::move(services), std::move(timer))) {}

Gate::~Gate() {
  stop();
}

void Gate::handle(const policy::Principal& principal, wire::Request request,
                  std::shared_ptr<Reply> reply) {
  impl_->handle(principal, std::move(request), std::move(reply));
}

const GateCounters& Gate::counters() const {
  return impl_->state.counters;
}

void Gate::forgive(std::size_t failures_per_key_per_day) {
  impl_->state.budget.reset(failures_per_key_per_day);
}

void Gate::set_budgets(const RefusalLimits& refusals, std::uint32_t proofs_per_minute) {
  impl_->refusals->set_limits(refusals);
  impl_->state.proofs.set_limits(State::proof_limits(proofs_per_minute));
}

std::vector<LimitUsage> Gate::usage() const {
  const auto& state = impl_->state;
  auto out = impl_->refusals->usage();
  out.push_back({"limits.census-rows", "", state.services.keys.census().size(),
                 state.options.census.rows,
                 "keyagent census list, then keyagent census forget SOURCE, or raise it", false});
  return out;
}

void Gate::record_refusal(const policy::Principal& principal, audit::Event event) {
  auto done = std::make_shared<std::promise<void>>();
  impl_->refusals->submit(caller_of(principal), std::move(event),
                          [done](bool) { done->set_value(); });
  done->get_future().wait();
}

void Gate::stop() {
  impl_->deadlines->stop();
  impl_->refusals->flush();
}

}  // namespace keyagent::gate
