// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/exchange/peers.h"

#include <algorithm>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/base/ids.h"
#include "agent/instance/common/times.h"
#include "agent/instance/data/data_keys.h"
#include "agent/instance/exchange/automatic_exports.h"
#include "agent/store/peers.h"

namespace keyagent::instance {
namespace {

constexpr std::size_t kFingerprint = 43;

void require_fingerprint(const std::string& text, const char* name) {
  if (text.size() != kFingerprint || !from_base64url(text))
    throw Error(Code::kUsage, std::string("'") + name +
                                  "' must be a SHA-256 fingerprint: 43 characters of base64url, as "
                                  "the peer prints it (keyagent instance exchange identity)");
}

}  // namespace

bool is_frequency(const std::string& text) {
  return std::find(std::begin(kFrequencies), std::end(kFrequencies), text) !=
         std::end(kFrequencies);
}

store::Peer Peers::find(const std::string& which) {
  for (auto& each : store_.peers().all()) {
    if (each.name == which || each.identity == which) return std::move(each);
  }
  throw Error(Code::kUsage, "there is no peer '" + which + "'");
}

Json Peers::add(const Json& request, const std::string& by) {
  store::Peer peer;
  peer.name = text_of(request, "name");
  if (!KeyName::parse(peer.name))
    throw Error(Code::kUsage, "a peer name must match [a-z0-9][a-z0-9._-]{0,62}");
  peer.identity = text_of(request, "identity");
  require_fingerprint(peer.identity, "identity");
  door_.make_keys();
  const auto own = door_.identity().kid.text();
  if (peer.identity == own) throw Error(Code::kUsage, "this is the identity of this instance");
  peer.url = text_of(request, "url", "");
  peer.ca = text_of(request, "ca", "");
  if (!peer.url.empty()) {
    if (!peer.url.starts_with("https://"))
      throw Error(Code::kUsage, "'url' must be https://NAME:PORT of the peer's listen.api");
    require_fingerprint(peer.ca, "ca");
  }
  if (const auto before = text_of(request, "replaces", ""); !before.empty()) {
    const auto known = replace(peer, before);
    if (peer.url.empty()) {
      peer.url = known.url;
      peer.ca = known.ca;
    }
  }
  peer.added_by = by;
  peer.added = clock_.now();
  if (!store_.peers().add(peer)) {
    // The same identity again: another route to it, or another name. Never another identity.
    auto known = store_.peers().find(peer.identity);
    if (!known)
      throw Error(Code::kExists,
                  "the peer " + peer.name + " has the identity " + find(peer.name).identity +
                      ": use --replaces with that identity, or remove that peer first");
    known->name = peer.name;
    known->url = peer.url;
    known->ca = peer.ca;
    if (!store_.peers().update(*known))
      throw Error(Code::kBusy, "the peer was changed concurrently; try again");
  }
  recorder_.record(Outcome::kDone, "user " + by, "peer.add", peer.name,
                   peer.identity + (peer.url.empty() ? "" : " at " + peer.url));
  return describe(*store_.peers().find(peer.identity), own);
}

store::Peer Peers::replace(const store::Peer& peer, const std::string& before) {
  const auto known = find(peer.name);
  if (known.identity == peer.identity) return known;  // it was done before
  if (known.identity != before)
    throw Error(Code::kExists, "the peer " + peer.name + " has the identity " + known.identity);
  if (!store_.peers().replace(before, peer.identity))
    throw Error(Code::kExists, "another peer has the identity " + peer.identity);
  return known;
}

Json Peers::describe(const store::Peer& peer, const std::string& own) const {
  Json automatic;
  if (!peer.automatic.empty() && peer.owner == own) automatic = parse_object(peer.automatic);
  return {{"name", peer.name},
          {"identity", peer.identity},
          {"url", peer.url},
          {"ca", peer.ca},
          {"automatic", automatic},
          {"added", rfc3339(peer.added)},
          {"added_by", peer.added_by},
          {"seen", time_json(peer.seen)},
          {"last_seen", time_json(peer.seen)}};
}

Json Peers::list() {
  std::string own;
  try {
    own = door_.identity().kid.text();
  } catch (const Error& error) {
    if (error.code() != Code::kKeyNotPresent) throw;
  }
  Json out = Json::array();
  for (const auto& each : store_.peers().all()) out.push_back(describe(each, own));
  return {{"identity", own}, {"peers", out}};
}

Json Peers::remove(const std::string& name, const std::string& by) {
  const auto peer = find(name);
  store_.peers().remove(peer.identity);
  recorder_.record(Outcome::kDone, "user " + by, "peer.remove", peer.name, peer.identity);
  return Json::object();
}

Json Peers::set_automatic(const std::string& name, const Json& request, const std::string& by) {
  auto peer = find(name);
  const auto own = door_.identity().kid.text();
  const auto frequencies = texts_of(request, "frequencies");
  const auto specifications = texts_of(request, "specifications");
  for (const auto& each : frequencies) {
    if (!is_frequency(each) || each == "adhoc")
      throw Error(Code::kUsage,
                  "'frequencies' may be one-time-clone and recurring-clone; an adhoc request must "
                  "be approved by a person");
  }
  for (const auto& each : specifications) {
    if (!is_specification_name(each))
      throw Error(Code::kUsage, "'" + each + "' is not a specification");
  }
  auto until = text_of(request, "until", "");
  if (!until.empty()) until = rfc3339(parse_time_of_user(until));
  // Those of the instance that this one was copied from are not continued.
  const bool adds = flag_of(request, "add", false) && peer.owner == own;
  auto rules = adds ? parse_automatic(peer.automatic) : AutomaticExports();
  if (!frequencies.empty()) add_rule(rules, {frequencies, specifications, until, by}, clock_.now());
  peer.automatic = serialize(rules);
  peer.owner = own;
  if (!store_.peers().update(peer))
    throw Error(Code::kBusy, "the peer was changed concurrently; try again");
  recorder_.record(Outcome::kDone, "user " + by, "peer.automatic", peer.name,
                   peer.automatic.empty() ? "none" : peer.automatic);
  return describe(*store_.peers().find(peer.identity), own);
}

std::string Peers::approver(const store::Peer& peer, const store::Exchange& exchange) {
  // A clone has the rows of the instance that it was made from, and another identity.
  if (peer.automatic.empty() || peer.owner != exchange.own || exchange.frequency == "adhoc")
    return {};
  const auto rules = parse_automatic(peer.automatic);
  const auto rule = covering_rule(rules, exchange.frequency, exchange.specifications, clock_.now());
  return rule ? "policy of " + rules[*rule].by : std::string();
}

store::Peer Peers::used_up(store::Peer peer, const store::Exchange& exchange) const {
  if (exchange.frequency != "one-time-clone") return peer;
  auto rules = parse_automatic(peer.automatic);
  const auto rule = covering_rule(rules, exchange.frequency, exchange.specifications, clock_.now());
  if (rule) use_up(rules, *rule, exchange.frequency);
  peer.automatic = serialize(rules);
  return peer;
}

}  // namespace keyagent::instance
