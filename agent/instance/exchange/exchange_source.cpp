// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/exchange/exchange_source.h"

#include <algorithm>
#include <set>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/base/ids.h"
#include "agent/instance/data/data_keys.h"
#include "agent/instance/exchange/exchange_wire.h"
#include "agent/store/exchanges.h"
#include "agent/store/peers.h"

namespace keyagent::instance {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kReasons = 256;     // results of a request whose keys were all refused
constexpr std::size_t kInOneAnswer = 64;  // packages; an answer is 1 MiB at most
constexpr std::size_t kMaxKeys = 4096, kMaxSpecifications = 256;
constexpr auto kLongest = std::chrono::hours(24 * 30);

std::string actor_of(const PeerMessage& message) {
  return "peer " + message.peer.name;
}

const Json& body_of(const PeerMessage& message) {
  const auto found = message.body.find("body");
  if (found == message.body.end() || !found->is_object())
    throw Error(Code::kUsage, "the message has no body");
  return *found;
}

bool wanted(const std::vector<std::string>& specifications, const std::string& specification) {
  return specifications.empty() || std::find(specifications.begin(), specifications.end(),
                                             specification) != specifications.end();
}

// "user sam", "policy of sam"
std::string person_of(const std::string& approver) {
  return approver.substr(approver.rfind(' ') + 1);
}

Json state_json(const store::Exchange& row) {
  return {{"state", row.state},
          {"code", row.code},
          {"text", row.text},
          {"approved_by", row.approved_by}};
}

Json result_json(const store::ExchangeKey& key) {
  return {{"specification", key.specification},
          {"kid", key.kid},
          {"outcome", key.outcome},
          {"code", key.code},
          {"text", key.text}};
}

bool is_request_id(const std::string& id) {
  return id.size() == 32 && from_hex(id).has_value();
}

// A row of what the target asks.
store::Exchange asked(const PeerMessage& message, const std::string& own, WallTime now) {
  const auto& body = body_of(message);
  store::Exchange row;
  row.id = text_of(body, "request");
  if (!is_request_id(row.id)) throw Error(Code::kUsage, "'request' must be 32 hexadecimal digits");
  row.side = name_of(ExchangeSide::kSource);
  row.own = own;
  row.peer = message.peer.identity;
  row.frequency = text_of(body, "frequency");
  if (!is_frequency(row.frequency))
    throw Error(Code::kUsage, "'frequency' must be adhoc, one-time-clone or recurring-clone");
  row.specifications = texts_of(body, "specifications");
  if (row.specifications.size() > kMaxSpecifications)
    throw Error(Code::kUsage, "more than " + std::to_string(kMaxSpecifications) +
                                  " specifications: ask for all, or in several requests");
  for (const auto& each : row.specifications) {
    if (!is_specification_name(each)) throw Error(Code::kUsage, "'specifications' must be names");
  }
  row.rekey = flag_of(body, "rekey", false);
  row.requested_by = text_of(body, "requested_by", "").substr(0, 64);
  row.expires = std::min(parse_rfc3339(text_of(body, "expires")), now + kLongest);
  if (row.expires <= now) throw Error(Code::kKeyState, "the request has expired already");
  const Bytes spki = bytes_of(body, "exchange_spki");
  row.offer = Json{{"exchange_spki", to_base64url(spki)}, {"proof", text_of(body, "proof")}}.dump();
  // What a repeated request must not change. A token may sign its proof again.
  row.digest = to_base64url(sha256(as_bytes(
      Json{row.id, row.peer, row.frequency, row.specifications, row.rekey, to_base64url(spki)}
          .dump())));
  row.series = row.id;
  return row;
}

}  // namespace

store::ExchangeKey not_done(store::ExchangeKey key, const Error& error) {
  const auto layer = layer_of(error.code());
  const bool refused = layer == Layer::kPolicy || layer == Layer::kKey || layer == Layer::kCaller ||
                       error.code() == Code::kUnsupported;
  key.outcome = refused ? "refused" : "failed";
  key.code = code_name(error.code());
  key.text = escape_controls(error.what()).substr(0, 500);
  key.package.clear();
  return key;
}

Code first_code(const std::vector<store::ExchangeKey>& keys) {
  for (const auto& key : keys) {
    if (!key.code.empty()) return code_of_name(key.code);
  }
  return Code::kKeyNotPresent;
}

Json ExchangeSource::answer(const PeerMessage& message) {
  static constexpr std::pair<const char*, Json (ExchangeSource::*)(const PeerMessage&)> kTypes[] = {
      {"check", &ExchangeSource::check},
      {"request", &ExchangeSource::take_request},
      {"fetch", &ExchangeSource::give_packages},
      {"results", &ExchangeSource::take_results},
      {"end", &ExchangeSource::take_end}};
  for (const auto& [type, method] : kTypes) {
    if (message.type == type) return (this->*method)(message);
  }
  throw Error(Code::kUsage, "unknown message '" + escape_controls(message.type) + "'");
}

// Asks the agent whether its policy lets the keys leave for this target: once for each
// specification, because its rules name keys by name.
Json ExchangeSource::check(const PeerMessage& message) {
  const auto specifications = texts_of(body_of(message), "specifications");
  const Json none{{"keys", 0}, {"exchangeable", 0}, {"ready", 0}, {"allowed", true}};
  Json keys = Json::object();
  for (const auto& each : specifications) keys[each] = none;
  for (const auto& key : door_.data_keys()) {
    if (!wanted(specifications, key.specification)) continue;
    if (!keys.contains(key.specification)) keys[key.specification] = none;
    auto& counts = keys[key.specification];
    counts["keys"] = counts["keys"].get<int>() + 1;
    if (!key.exchangeable) continue;
    if (counts["exchangeable"] == 0)
      counts["allowed"] = door_.allows("export", key.kid, message.peer.identity);
    counts["exchangeable"] = counts["exchangeable"].get<int>() + 1;
    counts["ready"] = counts["ready"].get<int>() + (key.ready ? 1 : 0);
  }
  return {{"specifications", keys}, {"missing", door_.cannot_exchange()}};
}

store::Exchange ExchangeSource::known(const PeerMessage& message) {
  const auto id = text_of(body_of(message), "request");
  const auto row = store_.exchanges().find(id);
  // One answer for what does not exist and what is another's.
  if (!row || row->peer != message.peer.identity || row->own != door_.identity().kid.text() ||
      row->side != name_of(ExchangeSide::kSource))
    throw Error(Code::kKeyNotPresent, "this instance has no request " + escape_controls(id));
  return *row;
}

Json ExchangeSource::take_request(const PeerMessage& message) {
  const auto own = door_.identity().kid.text();
  auto row = asked(message, own, clock_.now());
  if (book_.add(row, actor_of(message))) {
    row = store_.exchanges().find(row.id).value();
    approve_by_policy(row);
    return how_it_stands(row);
  }
  auto stored = known(message);
  if (stored.digest != row.digest)
    throw Error(Code::kIntegrity, "the request " + row.id + " had different content before");
  const bool again = flag_of(body_of(message), "retry", false);
  if (again && after(state_of(stored), ExchangeEvent::kAgain, facts_of(stored)))
    book_.apply(stored,
                {ExchangeEvent::kAgain, actor_of(message), Code::kOk, "retried by the target"});
  approve_by_policy(stored);
  return how_it_stands(stored);
}

// With the results where that is all that there is.
Json ExchangeSource::how_it_stands(const store::Exchange& row) {
  Json out = state_json(row);
  if (row.state != name_of(ExchangeState::kFailed) || !row.transcript.empty()) return out;
  const auto keys = store_.exchanges().keys(row.id);
  Json results = Json::array();
  for (const auto& key : keys) {
    if (key.outcome.empty()) return out;  // it was exported: the target reports its result
    if (results.size() < kReasons) results.push_back(result_json(key));
  }
  if (!results.empty()) out["results"] = results;
  return out;
}

void ExchangeSource::approve_by_policy(store::Exchange& row) {
  if (row.state != name_of(ExchangeState::kPending)) return;
  const auto peer = store_.peers().find(row.peer);
  const auto approver = peer ? peers_.approver(*peer, row) : std::string();
  if (approver.empty()) return;
  const auto after = peers_.used_up(*peer, row);
  auto approved = row;
  approved.approved_by = approver;
  // Not approved: the policy was changed just now, and is checked when the target asks again.
  if (book_.apply(approved, {ExchangeEvent::kApprove, approver}, nullptr, &after)) row = approved;
}

store::ExchangeKey ExchangeSource::wrap_one(const store::Exchange& row, const DataKey& key,
                                            const ExportOrder& order) {
  store::ExchangeKey out;
  out.specification = key.specification;
  out.kid = key.kid;
  try {
    around_.require_exchange(key.specification, person_of(row.approved_by));
    out.package = door_.export_key(order);
  } catch (const Error& error) {
    if (retryable(error.code())) throw;
    return not_done(std::move(out), error);
  }
  return out;
}

std::vector<store::ExchangeKey> ExchangeSource::wrap(const store::Exchange& row) {
  const auto peer = store_.peers().find(row.peer);
  if (!peer) throw Error(Code::kDenied, "its target is no longer a peer of this instance");
  const Json offer = parse_object(row.offer);
  ExportOrder order;
  order.request = row.id;
  order.target = row.peer;
  order.target_spki = peer->spki;
  order.offer = {bytes_of(offer, "exchange_spki"), text_of(offer, "proof")};
  std::vector<store::ExchangeKey> keys;
  std::set<std::string> missing(row.specifications.begin(), row.specifications.end());
  for (const auto& key : door_.data_keys()) {
    if (!wanted(row.specifications, key.specification)) continue;
    missing.erase(key.specification);
    if (keys.size() == kMaxKeys)
      throw Error(Code::kUsage,
                  "more than " + std::to_string(kMaxKeys) + " keys: ask for fewer specifications");
    order.kid = key.kid;
    order.specification = key.specification;
    keys.push_back(wrap_one(row, key, order));
  }
  for (const auto& each : missing) {
    auto& key = keys.emplace_back();
    key.specification = each;
    key.outcome = "not_found";
  }
  return keys;
}

void ExchangeSource::export_keys(store::Exchange row) {
  const auto keys = wrap(row);
  const auto packages =
      std::count_if(keys.begin(), keys.end(), [](const auto& key) { return !key.package.empty(); });
  if (packages > 0) {
    book_.apply(row,
                {ExchangeEvent::kExport, "instance", Code::kOk,
                 std::to_string(packages) + " of " + std::to_string(keys.size())},
                &keys);
    return;
  }
  const auto code = first_code(keys);
  book_.apply(row,
              {ExchangeEvent::kFail, "instance", code,
               code == Code::kKeyNotPresent ? "the source has none of these specifications"
                                            : "no key may be exported; see the results"},
              &keys);
}

Json ExchangeSource::give_packages(const PeerMessage& message) {
  const auto row = known(message);
  if (row.state != name_of(ExchangeState::kExported)) return how_it_stands(row);
  Json out = state_json(row);
  const auto keys = store_.exchanges().keys(row.id);
  // Its packages are emptied with the change of its state.
  if (const auto now = known(message); now.state != name_of(ExchangeState::kExported))
    return how_it_stands(now);
  const auto from = static_cast<std::size_t>(
      number_of(body_of(message), "from", 0, 0, static_cast<std::int64_t>(kMaxKeys)));
  Json results = Json::array();
  for (std::size_t i = from; i < keys.size() && i < from + kInOneAnswer; ++i) {
    results.push_back(result_json(keys[i]));
    results.back()["package"] = keys[i].package;
  }
  out["keys"] = results;
  out["count"] = keys.size();
  return out;
}

// Stores the target's result of each key that was sent to it; keys that were not sent keep the
// outcome that they have.
Json ExchangeSource::take_results(const PeerMessage& message) {
  auto row = known(message);
  auto keys = store_.exchanges().keys(row.id);
  const auto& body = body_of(message);
  const auto transcript = text_of(body, "transcript");
  const auto actor = actor_of(message);
  const auto fail = [&](const std::string& why) {
    book_.apply(row, {ExchangeEvent::kFail, actor, Code::kIntegrity, why});
    throw Error(Code::kIntegrity, why);
  };
  if (row.transcript.empty()) {
    const Json* results =
        body.contains("keys") && body["keys"].is_array() ? &body["keys"] : nullptr;
    if (results == nullptr || results->size() != keys.size())
      fail("the target reports keys that it was not given");
    for (std::size_t i = 0; i < keys.size(); ++i) {
      const Json& said = (*results)[i];
      auto& key = keys[i];
      if (text_of(said, "specification") != key.specification || text_of(said, "kid") != key.kid)
        fail("the target reports keys that it was not given");
      if (!key.outcome.empty()) continue;
      key.outcome = text_of(said, "outcome");
      key.code = text_of(said, "code", "").substr(0, 32);
      key.text = escape_controls(text_of(said, "text", "")).substr(0, 500);
      static const std::set<std::string> kOutcomes{"imported", "already_there", "refused",
                                                   "failed"};
      if (!kOutcomes.contains(key.outcome)) fail("the target reports an unknown outcome");
    }
  }
  const auto counts = count_keys(keys);
  const bool same_counts = number_of(body, "imported", -1, -1, kMaxKeys) == counts.imported &&
                           number_of(body, "total", -1, -1, kMaxKeys) == counts.total;
  if (!same_counts || transcript != transcript_hash(transcript_of(row, keys)))
    fail("the target's counts or transcript do not match its results");
  const Json statement = verified_json(message.peer.spki, text_of(body, "statement"),
                                       envelope::Statement::kExchangeTranscript);
  if (statement != statement_of(row, transcript)) fail("the target signed another transcript");
  if (row.transcript.empty()) {
    // It may come late: there is time for the rest of it, too.
    row.expires = std::max(row.expires, clock_.now() + std::chrono::hours(1));
    row.transcript = transcript;
    row.taken = counts.imported > 0;
    row.peer_statement = text_of(body, "statement");
    row.own_statement =
        door_.sign(envelope::Statement::kExchangeTranscript, statement_of(row, transcript).dump());
    if (!book_.apply(row, {ExchangeEvent::kImport, actor}, &keys))
      throw Error(Code::kBusy, "the request was changed concurrently");
  }
  if (!book_.apply(row, {ExchangeEvent::kVerify, actor}))
    throw Error(Code::kBusy, "the request was changed concurrently");
  Json out = state_json(row);
  out["transcript"] = row.transcript;
  out["statement"] = row.own_statement;
  return out;
}

Json ExchangeSource::take_end(const PeerMessage& message) {
  auto row = known(message);
  const auto& body = body_of(message);
  const auto state = exchange_state_of(text_of(body, "state"));
  const auto text = escape_controls(text_of(body, "text", "")).substr(0, 500);
  ExchangeCause what{ExchangeEvent::kCancel, actor_of(message), Code::kOk, text};
  if (state == ExchangeState::kComplete) {
    what.event = ExchangeEvent::kFinish;
  } else if (state == ExchangeState::kFailed) {
    what.event = ExchangeEvent::kFail;
    what.code = code_of_name(text_of(body, "code", ""));
  } else if (state != ExchangeState::kCancelled) {
    throw Error(Code::kUsage, "'state' must be complete, failed or cancelled");
  }
  if (!book_.apply(row, what)) throw Error(Code::kBusy, "the request was changed concurrently");
  return state_json(row);
}

}  // namespace keyagent::instance
