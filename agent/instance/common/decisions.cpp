// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/common/decisions.h"

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/store/decisions.h"
#include "agent/store/events.h"
#include "agent/store/users.h"

namespace keyagent::instance {
namespace {

using namespace std::chrono_literals;

constexpr auto kLife = 24h * 7;
constexpr auto kHistory = 24h * 90;
constexpr std::size_t kMaxOpen = 100;  // of one person
constexpr std::size_t kMaxExpiredAtOnce = 100;
constexpr std::size_t kMaxReason = 500;

constexpr const char* kPending = "pending";
constexpr const char* kApproved = "approved";
constexpr const char* kRejected = "rejected";

// Hides the hash of a token from users.
Json shown_request(const store::Decision& decision) {
  Json request = Json::parse(decision.request);
  request.erase("hash");
  return request;
}

Json describe(const store::Decision& decision) {
  return {{"id", decision.id},
          {"kind", decision.kind},
          {"subject", decision.subject},
          {"request", shown_request(decision)},
          {"state", decision.state},
          {"text", decision.text},
          {"requested_by", decision.requested_by},
          {"decided_by", decision.decided_by},
          {"created", rfc3339(decision.created)},
          {"changed", rfc3339(decision.changed)},
          {"expires", rfc3339(decision.expires)}};
}

Json answer(const store::Decision& decision) {
  return {{"decision", describe(decision)}};
}

// Found inside of the transaction, which is undone; what follows is recorded in another one.
struct Outdated {};

}  // namespace

void Decisions::handle(const std::string& kind, Handler handler) {
  handlers_[kind] = std::move(handler);
}

const Decisions::Handler& Decisions::handler_of(const std::string& kind) const {
  const auto found = handlers_.find(kind);
  if (found == handlers_.end())
    throw Error(Code::kIntegrity,
                "the store has a decision of unknown kind '" + escape_controls(kind) + "'");
  return found->second;
}

store::Decision Decisions::require(const std::string& id) const {
  auto found = store_.decisions().find(id);
  if (!found) throw Error(Code::kUsage, "there is no decision '" + escape_controls(id) + "'");
  return *std::move(found);
}

store::Event Decisions::event_of(const store::Decision& decision, const char* action,
                                 Outcome outcome, const std::string& by) const {
  return recorder_.make(outcome, by, action, decision.id,
                        decision.kind + " " + decision.subject + ", requested by " +
                            decision.requested_by +
                            (decision.text.empty() ? "" : ": " + decision.text));
}

Json Decisions::ask(const std::string& kind, const std::string& subject, const Json& request,
                    const std::string& text, const AuthenticatedUser& person) {
  const auto& handler = handler_of(kind);
  store::Decision decision;
  decision.id = to_hex(random_bytes(16));
  decision.kind = kind;
  decision.subject = subject;
  decision.request = request.dump();
  decision.precondition = handler.precondition(subject, request).dump();
  decision.state = kPending;
  decision.requested_by = person.name;
  decision.text = text;
  decision.created = decision.changed = clock_.now();
  decision.expires = decision.created + kLife;
  const auto event = event_of(decision, "decision.ask", Outcome::kDone, "user " + person.name);
  const auto added = store_.decisions().add(decision, kMaxOpen, event);
  if (!added)
    throw Error(Code::kBusy, std::to_string(kMaxOpen) +
                                 " of your requests are pending; wait until they are decided: "
                                 "keyagent instance decision list");
  if (added->id == decision.id) Recorder::say(event);
  return answer(*added);
}

Json Decisions::list(const std::string& state, std::size_t count) {
  Json out = Json::array();
  for (const auto& each : store_.decisions().list(state, count)) out.push_back(describe(each));
  return {{"decisions", out}};
}

Json Decisions::show(const std::string& id) {
  return answer(require(id));
}

AuthenticatedUser Decisions::require_right(const std::string& name, Right right) const {
  const auto user = store_.users().find(name);
  const auto role = user && !user->disabled ? role_of(user->role) : std::nullopt;
  if (!role || !has(*role, right))
    throw Error(Code::kDenied, "the role of " + name + " does not allow this decision");
  return {name, *role};
}

// REQUIRES: inside of a transaction. The decision is the last change: of two that approve at the
// same time one finds it no longer pending, and all that it did is undone.
void Decisions::carry_out(store::Decision& decision, const AuthenticatedUser& person) {
  const auto& handler = handler_of(decision.kind);
  const auto decider = require_right(person.name, handler.decide);
  require_right(decision.requested_by, handler.ask);
  const Json request = Json::parse(decision.request);
  if (handler.precondition(decision.subject, request).dump() != decision.precondition)
    throw Outdated();
  handler.act(decision.subject, request, decision.requested_by, decider);
  decision.state = kApproved;
  decision.decided_by = person.name;
  decision.changed = clock_.now();
  const auto event = event_of(decision, "decision.approve", Outcome::kDone, "user " + person.name);
  if (!store_.decisions().decide(decision, event))
    throw Error(Code::kBusy, "the request was decided by another person; check it again");
}

void Decisions::fail(store::Decision decision, const std::string& why) {
  decision.state = "failed";
  decision.text = why;
  decision.changed = clock_.now();
  const auto event = event_of(decision, "decision.fail", Outcome::kFailed, "instance");
  if (store_.decisions().decide(decision, event)) Recorder::say(event);
}

Json Decisions::approve(const std::string& id, const AuthenticatedUser& person) {
  auto decision = require(id);
  if (decision.state == kApproved && decision.decided_by == person.name) return answer(decision);
  if (decision.state != kPending)
    throw Error(Code::kKeyState, "the request is " + decision.state + "; it cannot be approved");
  if (decision.expires <= clock_.now())
    throw Error(Code::kKeyState, "the request has expired; submit it again");
  if (decision.requested_by == person.name) {
    const auto event =
        event_of(decision, "decision.approve", Outcome::kRefused, "user " + person.name);
    store_.events().add(event);
    Recorder::say(event);
    throw Error(Code::kDenied,
                "you cannot approve your own request; another person must approve it");
  }
  try {
    auto carried_out = decision;
    store_.together([&] {
      carried_out = decision;
      carry_out(carried_out, person);
    });
    decision = carried_out;
  } catch (const Error& error) {
    if (error.code() == Code::kDenied) {
      decision.text = error.what();
      const auto event =
          event_of(decision, "decision.approve", Outcome::kRefused, "user " + person.name);
      store_.events().add(event);
      Recorder::say(event);
    }
    throw;
  } catch (const Outdated&) {
    fail(decision, "its subject has changed since the request");
    throw Error(Code::kKeyState, "the subject of the request has changed since; submit it again: " +
                                     decision.kind + " " + decision.subject);
  }
  if (const auto& follow = handler_of(decision.kind).follow) follow(decision.subject);
  return answer(decision);
}

Json Decisions::reject(const std::string& id, const std::string& reason,
                       const AuthenticatedUser& person) {
  auto decision = require(id);
  if (decision.state == kRejected && decision.decided_by == person.name) return answer(decision);
  if (decision.requested_by != person.name)
    require_right(person.name, handler_of(decision.kind).decide);
  decision.state = kRejected;
  decision.decided_by = person.name;
  decision.text = reason.substr(0, kMaxReason);
  decision.changed = clock_.now();
  const auto event = event_of(decision, "decision.reject", Outcome::kDone, "user " + person.name);
  if (!store_.decisions().decide(decision, event))
    throw Error(Code::kKeyState, "the request is " + require(id).state + "; it cannot be rejected");
  Recorder::say(event);
  return answer(decision);
}

void Decisions::tick() {
  for (auto& each : store_.decisions().expired(clock_.now(), kMaxExpiredAtOnce)) {
    each.state = "expired";
    each.changed = clock_.now();
    const auto event = event_of(each, "decision.expire", Outcome::kDone, "instance");
    if (store_.decisions().decide(each, event)) Recorder::say(event);
  }
  store_.decisions().forget(clock_.now() - kHistory);
}

}  // namespace keyagent::instance
