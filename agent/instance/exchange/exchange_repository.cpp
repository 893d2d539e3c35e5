// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/exchange/exchange_repository.h"

#include <algorithm>
#include <tuple>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/store/exchanges.h"
#include "agent/store/peers.h"

namespace keyagent::instance {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kMaxOpen = 1000;
constexpr auto kClaim = 2min;  // a replica that was killed meanwhile is not waited for any longer

unsigned one_random_byte() {
  return random_bytes(1)[0];
}

bool tells_why(ExchangeEvent event) {
  using enum ExchangeEvent;
  return event == kFail || event == kFault || event == kReject || event == kCancel ||
         event == kExpire || event == kRetry;
}

Outcome outcome_of(const ExchangeStep& step) {
  if (step.alarm) return Outcome::kAlarm;
  return step.to == ExchangeState::kRejected || step.to == ExchangeState::kExpired
             ? Outcome::kRefused
             : Outcome::kDone;
}

[[noreturn]] void refuse_step(const store::Exchange& row, ExchangeEvent event) {
  const auto next = next_step(state_of(row), facts_of(row), code_of_name(row.code));
  throw Error(Code::kKeyState, "the request " + row.id + " is " + row.state + ": no " +
                                   std::string(name_of(event)) + " from there" +
                                   (next.empty() ? "" : "; " + next));
}

Json key_json(const store::ExchangeKey& key) {
  return {{"specification", key.specification},
          {"kid", key.kid},
          {"outcome", key.outcome.empty() ? "under way" : key.outcome},
          {"code", key.code},
          {"text", key.text}};
}

}  // namespace

ExchangeState state_of(const store::Exchange& exchange) {
  const auto state = exchange_state_of(exchange.state);
  if (!state) throw Error(Code::kIntegrity, "the request " + exchange.id + " has no known state");
  return *state;
}

ExchangeFacts facts_of(const store::Exchange& exchange) {
  return {exchange_side_of(exchange.side).value_or(ExchangeSide::kTarget),
          !exchange.approved_by.empty(), exchange.exported, exchange.told,
          exchange.taken && !exchange.transcript.empty()};
}

bool ExchangeRepository::add(store::Exchange exchange, const std::string& actor) {
  exchange.state = name_of(ExchangeState::kPending);
  exchange.created = exchange.changed = clock_.now();
  exchange.due = due_of(exchange, false);
  const auto event =
      recorder_.make(Outcome::kDone, actor, "exchange.request", exchange.id,
                     exchange.frequency + ", source " +
                         (exchange.side == "source" ? exchange.own : exchange.peer) + ", target " +
                         (exchange.side == "source" ? exchange.peer : exchange.own));
  if (!store_.exchanges().add(exchange, kMaxOpen, event)) return false;
  Recorder::say(event);
  return true;
}

store::Exchange ExchangeRepository::require(const std::string& id, const std::string& own) {
  auto found = store_.exchanges().find(id);
  if (!found || found->own != own) throw Error(Code::kUsage, "there is no request '" + id + "'");
  return *std::move(found);
}

WallTime ExchangeRepository::due_of(const store::Exchange& row, bool fault) const {
  const auto state = state_of(row);
  const auto work = work_of(state, facts_of(row));
  const bool expires = !has_ended(state) && state != ExchangeState::kVerified;
  if (work == ExchangeWork::kNone) return expires ? row.expires : WallTime{};
  if (!fault) return clock_.now();
  const auto next = clock_.now() + exchange_wait(row.faults, one_random_byte());
  return expires ? std::min(next, row.expires) : next;
}

bool ExchangeRepository::move(store::Exchange& row, const std::vector<store::ExchangeKey>* keys,
                              const std::optional<store::Event>& event) {
  if (!store_.exchanges().move(row, keys, event)) return false;
  ++row.revision;
  if (event) Recorder::say(*event);
  return true;
}

bool ExchangeRepository::apply(store::Exchange& row, const ExchangeCause& what,
                               const std::vector<store::ExchangeKey>* keys,
                               const store::Peer* policy) {
  const auto from = state_of(row);
  const auto step = after(from, what.event, facts_of(row));
  if (!step) refuse_step(row, what.event);
  const bool fault = what.event == ExchangeEvent::kFault;
  const bool retry = what.event == ExchangeEvent::kRetry;
  if (step->to == from && !fault && !retry && keys == nullptr) return true;
  row.state = name_of(step->to);
  row.faults = fault ? row.faults + 1 : 0;
  if (step->to != from || retry) row.looks = 0;
  if (step->to != from) row.told = false;
  if (step->to != from) row.changed = clock_.now();
  // A step that is repeated gets a new transcript.
  if (step->to != from && step->to < ExchangeState::kImported)
    row.transcript = row.own_statement = row.peer_statement = "";
  row.exported |= step->to == ExchangeState::kExported;
  row.code = tells_why(what.event) && what.code != Code::kOk ? code_name(what.code) : "";
  row.text = tells_why(what.event) ? what.text : "";
  row.retried = retry || (row.retried && step->to == from);
  row.due = due_of(row, fault);
  const bool alarming = fault && row.faults == kAlarmingFaults;
  std::optional<store::Event> event;
  if (alarming || step->to != from || retry)
    event = recorder_.make(alarming ? Outcome::kAlarm : outcome_of(*step), what.actor,
                           "exchange." + std::string(name_of(what.event)), row.id, what.text);
  if (policy == nullptr) return move(row, keys, event);
  if (!event || !store_.exchanges().approve_by_policy(row, *policy, *event)) return false;
  ++row.revision;
  Recorder::say(*event);
  return true;
}

bool ExchangeRepository::look_again(store::Exchange& row) {
  row.due = std::min(clock_.now() + exchange_poll(row.looks), row.expires);
  ++row.looks;
  row.faults = 0;
  row.code = row.text = "";
  return move(row, nullptr, std::nullopt);
}

bool ExchangeRepository::claim(store::Exchange& row) {
  row.due = clock_.now() + kClaim;
  return move(row, nullptr, std::nullopt);
}

Json ExchangeRepository::describe(const store::Exchange& row) {
  const auto keys = store_.exchanges().keys(row.id);
  const auto counts = count_keys(keys);
  const auto peer = store_.peers().find(row.peer);
  Json results = Json::array();
  for (const auto& key : keys) results.push_back(key_json(key));
  return {{"id", row.id},
          {"side", row.side},
          {"peer", peer ? Json(peer->name) : Json()},
          {"source", row.side == "source" ? row.own : row.peer},
          {"target", row.side == "source" ? row.peer : row.own},
          {"frequency", row.frequency},
          {"specifications", row.specifications},
          {"rekey", row.rekey},
          {"state", row.state},
          {"code", row.code},
          {"text", row.text},
          {"next_step", next_step(state_of(row), facts_of(row), code_of_name(row.code))},
          {"requested_by", row.requested_by},
          {"approved_by", row.approved_by},
          {"imported", counts.imported},
          {"total", counts.total},
          {"keys", results},
          {"transcript", row.transcript},
          {"own_statement", row.own_statement},
          {"peer_statement", row.peer_statement},
          {"faults", row.faults},
          {"created", rfc3339(row.created)},
          {"changed", rfc3339(row.changed)},
          {"expires", rfc3339(row.expires)},
          {"due", time_json(row.due)},
          {"period_s", std::chrono::duration_cast<std::chrono::seconds>(row.period).count()},
          {"series", row.series},
          {"next", time_json(row.next)}};
}

KeyCounts count_keys(const std::vector<store::ExchangeKey>& keys) {
  KeyCounts counts;
  for (const auto& key : keys) {
    if (!key.kid.empty()) ++counts.total;
    if (key.outcome == "imported" || key.outcome == "already_there") ++counts.imported;
  }
  return counts;
}

std::string transcript_of(const store::Exchange& exchange,
                          const std::vector<store::ExchangeKey>& keys) {
  const bool source = exchange.side == "source";
  const auto counts = count_keys(keys);
  auto sorted = keys;
  std::sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) {
    return std::tie(a.specification, a.kid) < std::tie(b.specification, b.kid);
  });
  Json results = Json::array();
  for (const auto& key : sorted)
    results.push_back({{"specification", key.specification},
                       {"kid", key.kid},
                       {"outcome", key.outcome},
                       {"code", key.code}});
  return Json{{"format", 1},
              {"request", exchange.id},
              {"source", source ? exchange.own : exchange.peer},
              {"target", source ? exchange.peer : exchange.own},
              {"frequency", exchange.frequency},
              {"specifications", exchange.specifications},
              {"rekey", exchange.rekey},
              {"keys", results},
              {"imported", counts.imported},
              {"total", counts.total}}
      .dump();
}

std::string transcript_hash(const std::string& transcript) {
  return to_base64url(sha256(as_bytes(transcript)));
}

Json statement_of(const store::Exchange& exchange, const std::string& transcript) {
  return {{"format", 1},
          {"kind", "keyagent-exchange-transcript"},
          {"request", exchange.id},
          {"transcript", transcript}};
}

}  // namespace keyagent::instance
