#include "agent/gate/gate.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "agent/base/encoding.h"
#include "agent/base/log.h"
#include "agent/gate/admission.h"
#include "agent/gate/deadlines.h"
#include "agent/gate/operation.h"
#include "agent/gate/refusals.h"
#include "agent/wire/messages.h"

namespace keyagent::gate {

using namespace std::chrono_literals;

namespace {

// What a caller is told to wait when the queue is full: by then some of it has been worked off.
constexpr std::uint32_t kRetryAfterMs = 50;

// One request for the token: shared by its job, its deadline and whoever answers.
struct Flight {
  Flight(State& state, const policy::Principal& principal, wire::Request request,
         std::shared_ptr<Reply> to)
      : call{state, principal, std::move(request), {}, {}, {}, {}, {}, {}, {}, false, {}},
        reply(std::move(to)) {}
  ~Flight() {
    wire::wipe(call.request);
    wire::wipe(call.response);
  }
  Call call;
  const std::shared_ptr<Reply> reply;
  const Operation* operation = nullptr;
  audit::Event event;  // complete but for its outcome before the request is admitted
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

wire::Response failure(std::uint64_t id, const Error& error) {
  wire::Response response;
  response.set_id(id);
  auto& fault = *response.mutable_failure();
  fault.set_code(static_cast<wire::ErrorCode>(error.code()));
  fault.set_text(error.what());
  fault.set_kid(error.kid());
  if (error.code() == Code::kBusy) fault.set_retry_after_ms(kRetryAfterMs);
  return response;
}

// The same words for a key that is not there and for one that the caller may not see.
Error denied(const Call& call) {
  const std::string action(policy::name_of(call.query.action));
  // "-": the caller may open nothing at all, so the envelope was not even read.
  const std::string which = call.which == "-" ? "" : escape_controls(call.which);
  if (call.query.action == policy::Action::kCredential) {
    return Error(Code::kDenied, call.principal.text() + " may not have credential " + which +
                                    "; the deciding rule: keyagent why credential " + which);
  }
  if (call.query.action == policy::Action::kWork) {
    return Error(Code::kDenied, call.principal.text() + " may not work as handler " + which +
                                    "; the deciding rule: keyagent why work " + which);
  }
  const std::string peer = escape_controls(call.query.peer);
  return Error(
      Code::kDenied,
      call.principal.text() + " may not " + action + (which.empty() ? "" : " with key " + which) +
          (peer.empty() ? "" : ", peer " + peer) + "; the deciding rule: keyagent why " + action +
          (which.empty() ? "" : " " + which) + (peer.empty() ? "" : " --peer " + peer));
}

Error not_present(const Call& call) {
  const auto kid = Kid::parse(call.which);
  const std::string which = escape_controls(call.which);
  return Error(Code::kKeyNotPresent,
               "KEY_NOT_PRESENT " + std::string(kid ? "kid=" : "name=") + which +
                   ": this agent has no such key (see keyagent key list)",
               kid ? which : "");
}

// Faults of the token that repeat themselves until it is back.
bool outage(Code code) {
  return layer_of(code) == Layer::kToken || code == Code::kKeyLost;
}

}  // namespace

struct Gate::Impl {
  State state;
  Admission admission;
  Refusals refusals;
  std::shared_ptr<Deadlines> deadlines;

  Impl(const GateOptions& options, Services services, Timer timer)
      : state(options, std::move(services)),
        admission(options.token_operations, options.queue),
        refusals(*state.services.audit),
        deadlines(std::make_shared<Deadlines>(*state.services.clock, std::move(timer))) {}

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
  void report(const Flight& flight, const Error& error);
  void count_failed_open(const Flight& flight);
  SteadyTime answer_time(const Call& call) const;
};

void Gate::Impl::handle(const policy::Principal& principal, wire::Request request,
                        std::shared_ptr<Reply> reply) {
  ++state.counters.requests;
  const auto flight =
      std::make_shared<Flight>(state, principal, std::move(request), std::move(reply));
  Call& call = flight->call;
  call.started = state.services.clock->now_steady();
  call.response.set_id(call.request.id());
  flight->operation = find_operation(call.request.op_case());
  if (flight->operation == nullptr) {
    return fail(flight, Error(Code::kUsage,
                              "this agent does not know the request: it is older than the caller"));
  }
  try {
    begin(flight);
  } catch (const Error& error) {
    error.code() == Code::kDenied ? refuse(flight, error) : fail(flight, error);
  } catch (const std::exception& error) {
    log_error("gate", error.what());
    fail(flight, Error(Code::kInternal, "a defect in the agent: its log says more"));
  }
}

void Gate::Impl::begin(const Held& flight) {
  Call& call = flight->call;
  const Operation& operation = *flight->operation;
  audit::Event& event = flight->event;
  event.what = operation.name;
  event.who = call.principal.text();
  event.pid = call.principal.pid;
  call.policy = state.services.policy();
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
  const std::uint32_t uid = call.principal.uid;
  if (admission.submit({uid, std::move(job), flight->abandoned}) != Admission::Answer::kBusy)
    return;
  ++state.counters.busy;
  throw Error(Code::kBusy, "the token has " + std::to_string(state.options.queue) +
                               " requests waiting; try again");
}

// A key that the token has lost is not asked for again with each item of a queue.
void Gate::Impl::run(Flight& flight) {
  Call& call = flight.call;
  const bool uses = flight.operation->record == Record::kUse && call.key;
  if (!uses) return flight.operation->run(call);
  const std::string& kid = call.key->kid.text();
  state.lost_keys.require_not_lost(kid);
  try {
    flight.operation->run(call);
    state.lost_keys.found(kid);
  } catch (const Error& error) {
    if (error.code() == Code::kKeyLost) state.lost_keys.lost(kid, error);
    throw;
  }
}

// audit → run → audit → answer: nothing leaves that is not recorded.
void Gate::Impl::finish(const Held& flight) {
  Call& call = flight->call;
  const Operation& operation = *flight->operation;
  auto& audit = *state.services.audit;
  try {
    if (operation.record != Record::kNever && !audit.healthy())
      throw Error(Code::kInternal, "the audit log cannot be written; nothing is done unrecorded");
    if (operation.record == Record::kChange) {
      audit::Event begun = flight->event;
      begun.outcome = "begun";
      audit.record_now(std::move(begun));
    }
    run(*flight);
    audit::Event done = flight->event;
    if (call.key) {
      done.key = call.key->name.text();
      done.kid = call.key->kid.text();
    }
    done.outcome = "ok";
    if (!call.detail.empty()) done.detail = call.detail;
    if (flight->abandoned && *flight->abandoned) done.detail = "after its deadline; not delivered";
    const bool happened = operation.record == Record::kEvent && !call.detail.empty();
    if (operation.record == Record::kUse || happened) {
      audit.record(std::move(done));
    } else if (operation.record == Record::kChange) {
      audit.record_now(std::move(done));
    }
    flight->reply->answer(call.response);
  } catch (const Error& error) {
    error.code() == Code::kDenied ? refuse(flight, error) : fail(flight, error);
  } catch (const std::exception& error) {
    log_error("gate", std::string(operation.name) + ": " + error.what());
    fail(flight, Error(Code::kInternal, "a defect in the agent: its log says more"));
  }
}

void Gate::Impl::refuse(const Held& flight, const Error& error) {
  ++state.counters.refused;
  audit::Event event = flight->event;
  event.detail = "refused: " + event.what;
  event.what = "refused";
  event.outcome = code_name(error.code());
  event.rule = flight->call.decision.rule;
  refusals.submit(std::move(event), [flight, answer = failure(flight->call.request.id(), error)] {
    flight->reply->answer(answer);
  });
}

void Gate::Impl::fail(const Held& flight, const Error& error) {
  ++state.counters.failed;
  const auto answer = failure(flight->call.request.id(), error);
  report(*flight, error);
  const bool failed_open = error.code() == Code::kInput || flight->call.failed_to_open;
  if (failed_open && flight->call.key) {
    count_failed_open(*flight);
    return flight->reply->answer_at(answer_time(flight->call), answer);
  }
  flight->reply->answer(answer);
}

// The log has at most one line a minute for a code and a key; so has the audit log for what an
// absent token refuses, because no key was used (RELIABILITY 23).
void Gate::Impl::report(const Flight& flight, const Error& error) {
  const Code code = error.code();
  if (code == Code::kUsage || code == Code::kBusy || code == Code::kConfirm) return;
  const std::string name(code_name(code));
  const std::string kid = error.kid().empty() ? flight.event.kid : error.kid();
  const auto withheld = state.limiter.admit(name + " " + kid);
  if (withheld && code != Code::kInput) {
    log_error("gate",
              flight.event.what + ": " + name + (kid.empty() ? "" : " kid=" + kid) + ": " +
                  error.what() +
                  (*withheld > 0 ? " (and " + std::to_string(*withheld) + " times before)" : ""));
  }
  if (flight.operation == nullptr || flight.operation->record == Record::kNever) return;
  if (flight.operation->record == Record::kEvent) return;
  if (outage(code) && !withheld) return;
  audit::Event event = flight.event;
  event.outcome = name;
  if (outage(code) && *withheld > 0)
    event.detail = "and " + std::to_string(*withheld) + " times before";
  try {
    state.services.audit->record(std::move(event));
  } catch (const std::exception& fault) {
    if (state.limiter.admit("audit")) log_error("gate", fault.what());
  }
}

void Gate::Impl::count_failed_open(const Flight& flight) {
  const auto& key = *flight.call.key;
  if (!state.budget.count_failure(key.kid.text())) return;
  const std::string text = "key " + key.name.text() + " kid=" + key.kid.text() +
                           " is suspended for open: " + std::to_string(state.budget.most()) +
                           " failed envelopes in a day";
  log_error("gate", text);
  audit::Event alarm;
  alarm.what = "alarm";
  alarm.who = "internal:gate";
  alarm.key = key.name.text();
  alarm.kid = key.kid.text();
  alarm.outcome = code_name(Code::kKeyState);
  alarm.detail = text;
  try {
    state.services.audit->record(std::move(alarm));
  } catch (const std::exception& fault) {
    log_error("gate", fault.what());
  }
}

void Gate::Impl::miss_deadline(const Held& flight) {
  *flight->abandoned = true;
  ++state.counters.deadline;
  const Error error(Code::kDeadline,
                    "no answer within the deadline: the token is slow, busy or hung; see keyagent "
                    "status",
                    flight->event.kid);
  if (flight->reply->answer(failure(flight->call.request.id(), error))) report(*flight, error);
}

// Every failed decryption is answered on a beat that began with its request, so that its time says
// nothing (RELIABILITY 104).
SteadyTime Gate::Impl::answer_time(const Call& call) const {
  const auto quantum =
      std::chrono::duration_cast<SteadyTime::duration>(state.options.failure_quantum);
  const auto passed = state.services.clock->now_steady() - call.started;
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

void Gate::stop() {
  impl_->deadlines->stop();
}

}  // namespace keyagent::gate
