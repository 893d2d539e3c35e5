// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/exchange/exchange_target.h"

#include <algorithm>
#include <set>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/instance/data/data_keys.h"
#include "agent/instance/exchange/exchange_source.h"
#include "agent/instance/exchange/exchange_wire.h"
#include "agent/store/exchanges.h"
#include "agent/store/peers.h"

namespace keyagent::instance {
namespace {

using enum ExchangeEvent;

constexpr std::int64_t kMaxKeysTaken = 4096;

std::string actor_of(const store::Peer& peer) {
  return "peer " + peer.name;
}

// Parses a key of the source's answer, with its result or its package.
store::ExchangeKey read_key(const store::Exchange& row, const Json& said) {
  store::ExchangeKey key;
  key.specification = text_of(said, "specification");
  key.kid = text_of(said, "kid");
  key.outcome = text_of(said, "outcome");
  key.code = text_of(said, "code").substr(0, 32);
  key.text = escape_controls(text_of(said, "text")).substr(0, 500);
  key.package = text_of(said, "package", "");
  const auto& asked = row.specifications;
  static const std::set<std::string> kOutcomes{"", "refused", "failed", "not_found"};
  const bool fits =
      is_specification_name(key.specification) && kOutcomes.contains(key.outcome) &&
      key.outcome.empty() != key.package.empty() &&
      (key.outcome == "not_found") == key.kid.empty() &&
      (asked.empty() || std::find(asked.begin(), asked.end(), key.specification) != asked.end());
  if (!fits)
    throw Error(Code::kIntegrity, "the source sends keys that were not requested: specification " +
                                      escape_controls(key.specification).substr(0, 64));
  return key;
}

void require_different(const std::vector<store::ExchangeKey>& keys) {
  std::set<std::string> kids;
  for (const auto& key : keys) {
    if (!kids.insert(key.kid.empty() ? key.specification + "/" : key.kid).second)
      throw Error(Code::kIntegrity, "the source sends a key twice", key.kid);
  }
}

}  // namespace

store::Peer ExchangeTarget::peer_of(const store::Exchange& row) {
  auto peer = store_.peers().find(row.peer);
  if (!peer)
    throw Error(Code::kDenied, "its source " + row.peer + " is no longer a peer of this instance");
  return *std::move(peer);
}

Json ExchangeTarget::ask(const store::Peer& peer, const std::string& type, const Json& body) {
  const auto question = messages_.ask(peer, type, body);
  std::string answer;
  try {
    answer = line_.post(peer, question.text);
  } catch (const Error& error) {
    const bool said = error.code() == Code::kDenied || error.code() == Code::kIntegrity;
    if (said && Kid::parse(error.kid()) && error.kid() != peer.identity)
      throw Error(Code::kIntegrity,
                  "the instance at " + peer.url + " is " + error.kid() + ", pinned is " +
                      peer.identity + "; it reports: " + error.what(),
                  error.kid());
    // The refusal is not signed, so it is not a decision of the peer: retry.
    if (said || layer_of(error.code()) == Layer::kKey || error.code() == Code::kUsage)
      throw Error(Code::kPeer, peer.name + " at " + peer.url + ": " + error.what());
    throw;
  }
  return messages_.read_answer(peer, question.nonce, answer);
}

void ExchangeTarget::work(store::Exchange row) {
  switch (work_of(state_of(row), facts_of(row))) {
    case ExchangeWork::kAsk:
      return request(row);
    case ExchangeWork::kFetch:
      return fetch(row);
    case ExchangeWork::kImport:
      return import(row);
    case ExchangeWork::kReport:
      return report(row);
    case ExchangeWork::kFinish:
      return finish(row);
    case ExchangeWork::kTell:
      return tell(row);
    default:
      return;
  }
}

// How the request stands at the source, here too.
void ExchangeTarget::learn(store::Exchange& row, const Json& answer) {
  const auto peer = peer_of(row);
  const auto state = exchange_state_of(text_of(answer, "state"));
  if (!state) throw Error(Code::kIntegrity, "the source reports an unknown state");
  const auto text = escape_controls(text_of(answer, "text", "")).substr(0, 500);
  const auto code = code_of_name(text_of(answer, "code", ""));
  const auto actor = actor_of(peer);
  switch (*state) {
    case ExchangeState::kPending:
      row.retried = false;
      book_.look_again(row);
      return;
    case ExchangeState::kRejected:
      book_.apply(row, {kReject, actor, Code::kDenied, text});
      return;
    case ExchangeState::kExpired:
      book_.apply(row, {kExpire, actor, Code::kDeadline, "it has expired at the source"});
      return;
    case ExchangeState::kCancelled:
      book_.apply(row, {kCancel, actor, Code::kOk, text});
      return;
    case ExchangeState::kFailed:
      if (row.retried) {
        book_.look_again(row);
        return;
      }
      fail(row, answer, {kFail, actor, code, text});
      return;
    default:
      break;
  }
  if (row.state != name_of(ExchangeState::kPending)) return void(book_.look_again(row));
  row.approved_by = escape_controls(text_of(answer, "approved_by", "")).substr(0, 64);
  book_.apply(row, {kApprove, actor, Code::kOk, row.approved_by});
}

// Stores the reason for each key, if the source sent one.
void ExchangeTarget::fail(store::Exchange& row, const Json& answer, const ExchangeCause& what) {
  const auto results = answer.find("results");
  if (results == answer.end() || !results->is_array()) return void(book_.apply(row, what));
  std::vector<store::ExchangeKey> keys;
  for (const auto& each : *results) keys.push_back(read_key(row, each));
  require_different(keys);
  book_.apply(row, what, &keys);
}

void ExchangeTarget::request(store::Exchange& row) {
  const Json offer = parse_object(row.offer);
  learn(row, ask(peer_of(row), "request",
                 {{"request", row.id},
                  {"frequency", row.frequency},
                  {"specifications", row.specifications},
                  {"rekey", row.rekey},
                  {"requested_by", row.requested_by},
                  {"expires", rfc3339(row.expires)},
                  {"exchange_spki", text_of(offer, "exchange_spki")},
                  {"proof", text_of(offer, "proof")},
                  {"retry", row.retried}}));
}

void ExchangeTarget::fetch(store::Exchange& row) {
  const auto peer = peer_of(row);
  std::vector<store::ExchangeKey> keys;
  for (std::int64_t count = 1; static_cast<std::int64_t>(keys.size()) < count;) {
    const Json answer = ask(peer, "fetch", {{"request", row.id}, {"from", keys.size()}});
    if (!answer.contains("keys")) return learn(row, answer);
    count = number_of(answer, "count", 0, 1, kMaxKeysTaken);
    const Json& batch = answer["keys"];
    if (!batch.is_array() || batch.empty())
      throw Error(Code::kIntegrity, "the source sends fewer keys than it announced");
    for (const auto& each : batch) keys.push_back(read_key(row, each));
  }
  require_different(keys);
  book_.apply(row, {kExport, actor_of(peer), Code::kOk, std::to_string(keys.size()) + " keys"},
              &keys);
}

// What was taken in before a fault is noted with it, and not taken in again.
void ExchangeTarget::import(store::Exchange& row) {
  const auto peer = peer_of(row);
  auto keys = store_.exchanges().keys(row.id);
  ImportOrder order;
  order.request = row.id;
  order.source_spki = peer.spki;
  for (auto& key : keys) {
    if (!key.outcome.empty()) continue;
    // A person may have ended it, or the peer, since it was read: nothing more is taken in then.
    const auto now = store_.exchanges().find(row.id);
    if (!now || now->revision != row.revision || !store_.peers().find(row.peer)) return;
    order.package = key.package;
    order.specification = key.specification;
    try {
      key.outcome = door_.import_key(order) ? "imported" : "already_there";
      key.code = key.text = "";
    } catch (const Error& error) {
      if (retryable(error.code())) {
        book_.apply(row, {kFault, "instance", error.code(), error.what()}, &keys);
        return;
      }
      key = not_done(std::move(key), error);
    }
  }
  const auto counts = count_keys(keys);
  row.taken = counts.imported > 0;
  book_.apply(row,
              {kImport, "instance", Code::kOk,
               std::to_string(counts.imported) + " of " + std::to_string(counts.total)},
              &keys);
}

void ExchangeTarget::report(store::Exchange& row) {
  const auto peer = peer_of(row);
  const auto keys = store_.exchanges().keys(row.id);
  const auto counts = count_keys(keys);
  const auto hash = transcript_hash(transcript_of(row, keys));
  const auto statement = statement_of(row, hash);
  Json results = Json::array();
  for (const auto& key : keys)
    results.push_back({{"specification", key.specification},
                       {"kid", key.kid},
                       {"outcome", key.outcome},
                       {"code", key.code},
                       {"text", key.text}});
  row.own_statement = door_.sign(envelope::Statement::kExchangeTranscript, statement.dump());
  const Json answer = ask(peer, "results",
                          {{"request", row.id},
                           {"keys", results},
                           {"imported", counts.imported},
                           {"total", counts.total},
                           {"transcript", hash},
                           {"statement", row.own_statement}});
  row.peer_statement = text_of(answer, "statement");
  const auto source = peer_of(row);  // its key came with its first message
  if (text_of(answer, "transcript") != hash ||
      verified_json(source.spki, row.peer_statement, envelope::Statement::kExchangeTranscript) !=
          statement)
    throw Error(Code::kIntegrity, "the source's transcript differs from this side's", row.peer);
  row.transcript = hash;
  book_.apply(row, {kVerify, actor_of(peer), Code::kOk, hash});
}

void ExchangeTarget::finish(store::Exchange& row) {
  const auto peer = peer_of(row);
  const auto keys = store_.exchanges().keys(row.id);
  if (count_keys(keys).imported == 0)
    throw Error(first_code(keys), "no key could be imported; see the results");
  std::set<std::string> specifications;
  for (const auto& key : keys) {
    if (key.outcome == "imported" || key.outcome == "already_there")
      specifications.insert(key.specification);
  }
  if (row.rekey) {
    for (const auto& each : specifications) around_.follow_import(each, row.id);
  }
  ask(peer, "end", {{"request", row.id}, {"state", name_of(ExchangeState::kComplete)}});
  book_.apply(row, {ExchangeEvent::kFinish, "instance"});
}

void ExchangeTarget::tell(store::Exchange& row) {
  try {
    ask(peer_of(row), "end",
        {{"request", row.id}, {"state", row.state}, {"code", row.code}, {"text", row.text}});
  } catch (const Error& error) {
    if (retryable(error.code())) throw;  // else the source ended the request or does not know it
  }
  row.told = true;
  row.due = {};
  row.faults = 0;
  store_.exchanges().move(row);
}

void ExchangeTarget::go_on(store::Exchange row) {
  const auto due = row.next;
  row.next = clock_.now() + std::chrono::minutes(1);
  if (!store_.exchanges().move(row)) return;
  ++row.revision;
  if (!has_ended(state_of(row))) return;
  auto next = row;
  next.next = due;
  // What the first one offered is too old by now.
  const auto offer = door_.offer();
  next.offer =
      Json{{"exchange_spki", to_base64url(offer.exchange_spki)}, {"proof", offer.proof}}.dump();
  // The same at every replica: the second one finds that it is there.
  next.id = to_hex(sha256(as_bytes(row.series + " after " + row.id))).substr(0, 32);
  while (next.next <= clock_.now()) next.next += row.period;
  next.expires = clock_.now() + (row.expires - row.created);
  next.code = next.text = next.approved_by = next.transcript = next.own_statement =
      next.peer_statement = "";
  next.faults = next.looks = next.revision = 0;
  next.exported = next.told = next.retried = next.taken = false;
  book_.add(next, "instance");
  row.next = {};
  store_.exchanges().move(row);
}

}  // namespace keyagent::instance
