// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/exchange/exchanges.h"

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/base/log.h"
#include "agent/instance/data/data_keys.h"
#include "agent/store/exchanges.h"
#include "agent/store/peers.h"
#include "agent/store/settings.h"

namespace keyagent::instance {
namespace {

constexpr std::size_t kAtOnce = 32;
constexpr int kTries = 5;
constexpr const char* kIdentity = "exchange-identity";  // the setting: the one that rows are of

// `counts`: what the source reports of one specification.
std::string require_exportable(const Json& counts) {
  const auto keys = number_of(counts, "keys", 0, 0, INT64_MAX);
  const auto able = number_of(counts, "exchangeable", 0, 0, INT64_MAX);
  const auto ready = number_of(counts, "ready", able, 0, INT64_MAX);
  if (keys == 0) throw Error(Code::kKeyNotPresent, "none");
  if (able == 0)
    throw Error(Code::kKeyState, "none of its " + std::to_string(keys) +
                                     " keys is exchangeable (specification create --exchangeable)");
  if (ready == 0)
    throw Error(Code::kKeyState, "none of its " + std::to_string(able) +
                                     " exchangeable keys is active or deactivated and usable; at "
                                     "the source: keyagent doctor");
  return std::to_string(ready) + " of " + std::to_string(keys) + " may be exported";
}

}  // namespace

Exchanges::Exchanges(KeyExchangeBackend& door, PeerTransport& line, store::Store& store,
                     Recorder& recorder, const Clock& clock, ExchangeSurroundings& around)
    : door_(door),
      store_(store),
      recorder_(recorder),
      clock_(clock),
      around_(around),
      messages_(door, store, recorder, clock, around),
      peers_(door, store, recorder, clock),
      book_(store, recorder, clock),
      source_(door, store, peers_, book_, around, clock),
      target_(door, line, store, messages_, book_, around, clock) {}

std::string Exchanges::own() {
  return door_.identity().kid.text();
}

Json Exchanges::identity() {
  door_.make_keys();
  follow_identity();
  const auto key = door_.identity();
  return {{"identity", key.kid.text()}, {"spki", to_base64url(key.spki)}};
}

Json Exchanges::check(const Json& request) {
  const auto specifications = texts_of(request, "specifications");
  Json checks = Json::array();
  bool passed = true;
  const auto look = [&](const std::string& what, const std::function<std::string()>& at) {
    Json line{{"what", what}, {"passed", true}, {"code", ""}, {"text", ""}};
    try {
      line["text"] = at();
    } catch (const Error& error) {
      passed = line["passed"] = false;
      line["code"] = code_name(error.code());
      line["text"] = error.what();
    }
    checks.push_back(line);
  };
  const auto peer = peers_.find(text_of(request, "peer"));
  look("this instance has an identity", [&] { return own(); });
  look("its token can import keys", [&] {
    const auto missing = door_.cannot_exchange();
    if (!missing.empty()) throw Error(Code::kUnsupported, "the token lacks " + missing);
    door_.offer();
    return std::string("the wrapping key exists");
  });
  Json answer, found = Json::object();
  look("the source is reachable, has the pinned identity, and knows this instance", [&] {
    answer = target_.ask(peer, "check", {{"specifications", specifications}});
    found = answer.value("specifications", found);
    return peer.identity;
  });
  look("the source's token can export keys", [&] {
    if (!answer.is_object()) throw Error(Code::kPeer, "unknown: the source does not report it");
    const auto missing = text_of(answer, "missing", "");
    if (!missing.empty()) throw Error(Code::kUnsupported, "it lacks " + escape_controls(missing));
    return std::string("as far as the source knows");
  });
  for (const auto& [name, counts] : found.items()) {
    look("the source has keys of " + escape_controls(name),
         [&counts = counts] { return require_exportable(counts); });
    const auto able = counts.find("exchangeable");
    if (able == counts.end() || *able == 0) continue;
    look("the source's agent exports keys of " + escape_controls(name) + " to this instance",
         [&name = name, &counts = counts, this] {
           // Sources of 0.1.0 do not report it.
           if (!counts.contains("allowed")) return std::string("unknown: the source does not tell");
           if (flag_of(counts, "allowed", false)) return std::string("its policy allows it");
           throw Error(Code::kDenied,
                       "its policy refuses; at the source, the deciding rule: keyagent why export "
                       "--peer=" +
                           own() + " data." + escape_controls(name));
         });
    look("this instance's agent imports keys of " + escape_controls(name) + " from the source",
         [&name = name, &peer, this] {
           if (!is_specification_name(name))
             throw Error(Code::kUsage, "this is not the name of a specification");
           const auto key = data_key_name(name);
           if (door_.allows("import", key, peer.identity))
             return std::string("its policy allows it");
           throw Error(Code::kDenied,
                       "its policy refuses; the deciding rule: keyagent why import "
                       "--peer=" +
                           peer.identity + " " + key);
         });
  }
  return {{"checks", checks}, {"passed", passed}};
}

Json Exchanges::request(const Json& request, const std::string& by) {
  around_.require_accepted();
  door_.make_keys();
  const auto peer = peers_.find(text_of(request, "peer"));
  store::Exchange row;
  row.id = to_hex(random_bytes(16));
  row.side = name_of(ExchangeSide::kTarget);
  row.own = own();
  row.peer = peer.identity;
  row.frequency = text_of(request, "frequency", kFrequencies[0]);
  if (!is_frequency(row.frequency))
    throw Error(Code::kUsage, "'frequency' must be adhoc, one-time-clone or recurring-clone");
  row.specifications = texts_of(request, "specifications");
  for (const auto& each : row.specifications) {
    if (!is_specification_name(each))
      throw Error(Code::kUsage, "'" + each + "' is not a specification");
  }
  if (row.specifications.empty() && !flag_of(request, "all", false))
    throw Error(Code::kUsage, "name the specifications, or use all");
  row.rekey = flag_of(request, "rekey", false);
  row.requested_by = by;
  const auto now = clock_.now();
  row.expires = now + std::chrono::hours(number_of(request, "hours", 24 * 7, 1, 24 * 30));
  row.series = row.id;
  if (row.frequency == "recurring-clone") {
    row.period = std::chrono::hours(number_of(request, "period_hours", 24, 1, 24 * 366));
    row.next = now + row.period;
  }
  // A token that cannot unwrap is reported here, before anything is sent.
  const auto missing = door_.cannot_exchange();
  if (!missing.empty()) throw Error(Code::kUnsupported, "the token lacks " + missing);
  const auto offer = door_.offer();
  row.offer =
      Json{{"exchange_spki", to_base64url(offer.exchange_spki)}, {"proof", offer.proof}}.dump();
  row.digest = transcript_hash(row.id);
  if (!book_.add(row, "user " + by)) throw Error(Code::kBusy, "try again");
  return show(row.id);
}

Json Exchanges::list(store::ExchangeFilter filter, const std::string& peer) {
  filter.own = own();
  if (!peer.empty()) filter.peer = peers_.find(peer).identity;
  Json out = Json::array();
  for (const auto& row : store_.exchanges().list(filter)) out.push_back(book_.describe(row));
  return {{"exchanges", out}};
}

Json Exchanges::show(const std::string& id) {
  return book_.describe(book_.require(id, own()));
}

Json Exchanges::people(const std::string& id, const ExchangeCause& what,
                       const std::function<void(store::Exchange&)>& before) {
  for (int i = 0; i < kTries; ++i) {
    auto row = book_.require(id, own());
    if (before) before(row);
    if (book_.apply(row, what)) return book_.describe(row);
  }
  throw Error(Code::kBusy, "the request is being worked on; try again");
}

Json Exchanges::approve(const std::string& id, const Json& request, const std::string& by) {
  around_.require_accepted();
  const auto approver = "user " + by;
  const bool always = flag_of(request, "always", false);
  Json out = people(id, {ExchangeEvent::kApprove, approver}, [&](store::Exchange& row) {
    if (row.side != name_of(ExchangeSide::kSource))
      throw Error(Code::kDenied, "this instance is the target; only the source can approve");
    if (always && row.frequency == kFrequencies[0])
      throw Error(Code::kUsage, "each adhoc request must be approved by a person");
    if (row.approved_by.empty()) row.approved_by = approver;
  });
  if (always) {
    const auto row = book_.require(id, own());
    const Json peer = peers_.set_automatic(row.peer,
                                           {{"frequencies", Json::array({row.frequency})},
                                            {"specifications", row.specifications},
                                            {"add", true}},
                                           by);
    out["automatic"] = peer.at("automatic");
  }
  return out;
}

Json Exchanges::reject(const std::string& id, const std::string& reason, const std::string& by) {
  return people(id, {ExchangeEvent::kReject, "user " + by, Code::kDenied, reason},
                [&](store::Exchange& row) {
                  if (row.side != name_of(ExchangeSide::kSource))
                    throw Error(Code::kDenied, "only the source can reject; the target can cancel");
                });
}

Json Exchanges::cancel(const std::string& id, const std::string& reason, const std::string& by) {
  return people(id, {ExchangeEvent::kCancel, "user " + by, Code::kOk, reason},
                [](store::Exchange& row) { row.next = {}; });
}

Json Exchanges::retry(const std::string& id, const std::string& by) {
  return people(id, {ExchangeEvent::kRetry, "user " + by, Code::kOk, "retried by " + by});
}

Json Exchanges::stop(const std::string& id, const std::string& by) {
  for (int i = 0; i < kTries; ++i) {
    auto row = book_.require(id, own());
    if (row.next == WallTime{})
      throw Error(Code::kKeyState, "this is not the last request of its series; use the last one");
    row.next = {};
    if (!store_.exchanges().move(row)) continue;
    recorder_.record(Outcome::kDone, "user " + by, "exchange.stop", id, "series " + row.series);
    return show(id);
  }
  throw Error(Code::kBusy, "the request is being worked on; try again");
}

std::string Exchanges::answer(const std::string& text) {
  const auto message = messages_.open(text);
  try {
    messages_.judge(message);
    return messages_.answer(message, source_.answer(message));
  } catch (const Error& error) {
    if (layer_of(error.code()) == Layer::kIntegrity)
      recorder_.record(Outcome::kAlarm, "peer " + message.peer.name,
                       "exchange." + escape_controls(message.type).substr(0, 32),
                       message.peer.identity, error.what());
    return messages_.refuse(message, error);
  }
}

void Exchanges::work_on(store::Exchange row) {
  const auto next = row.next;
  if (next != WallTime{} && next <= clock_.now()) return target_.go_on(std::move(row));
  const auto state = state_of(row);
  const bool expires = !has_ended(state) && state != ExchangeState::kVerified;
  if (expires && row.expires <= clock_.now()) {
    book_.apply(row, {ExchangeEvent::kExpire, "instance", Code::kDeadline,
                      "not completed by " + rfc3339(row.expires)});
    return;
  }
  if (!book_.claim(row)) return;
  try {
    if (work_of(state, facts_of(row)) == ExchangeWork::kExport)
      source_.export_keys(row);
    else
      target_.work(row);
  } catch (const Error& error) {
    // Applied only if the row is unchanged: an administrator may have decided meanwhile.
    const auto event = retryable(error.code()) ? ExchangeEvent::kFault : ExchangeEvent::kFail;
    book_.apply(row, {event, "instance", error.code(), error.what()});
  }
}

// The store may be a copy, on a host whose token never had that identity: then nothing is its own.
void Exchanges::follow_identity() {
  const auto now = own();
  const auto before = store_.settings().get(kIdentity);
  if (before == now) return;
  if (before && door_.had_identity(*before)) {
    const auto event = recorder_.make(Outcome::kDone, "instance", "exchange.identity", now,
                                      "was " + *before + "; peers must pin the new one");
    store_.peers().replace_own_identity(*before, now, event);
    Recorder::say(event);
  }
  store_.settings().set(kIdentity, now);
}

std::size_t Exchanges::work() {
  // Where no one ever exchanged anything the agent is not asked for an identity, again and again,
  // that its policy may not show.
  if (!store_.exchanges().any()) return 0;
  around_.require_accepted();
  std::vector<store::Exchange> due;
  try {
    follow_identity();
    due = store_.exchanges().due(own(), clock_.now(), kAtOnce);
  } catch (const Error& error) {
    if (error.code() != Code::kKeyNotPresent) throw;  // a copied store, on a host that has none
  }
  for (const auto& row : due) {
    try {
      work_on(row);
    } catch (const Error& error) {
      log_warning("instance", "exchange " + row.id + ": " + error.what());
    }
  }
  return due.size();
}

}  // namespace keyagent::instance
