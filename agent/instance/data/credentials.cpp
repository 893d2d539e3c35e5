// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/data/credentials.h"

#include <algorithm>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/base/log.h"
#include "agent/base/wiping.h"
#include "agent/envelope/envelope.h"
#include "agent/instance/fleet/agents.h"
#include "agent/store/agents.h"
#include "agent/store/credentials.h"
#include "agent/store/links.h"
#include "agent/store/records.h"
#include "agent/store/sealed_copies.h"

namespace keyagent::instance {
namespace {

// Each type with the fields it must have; json is free.
struct Type {
  std::string_view name;
  std::vector<const char*> fields;
};
const Type kTypes[] = {{"password", {"username", "password"}},
                       {"ssh-key", {"username", "private_key"}},
                       {"api-token", {"token"}},
                       {"certificate", {"certificate", "private_key"}},
                       {"json", {}}};

// The default rules: the roles that store credentials, and the one that exchanges keys.
const std::vector<AccessRule> kAccess{
    {"credentials", Effect::kAllow, {DataUse::kEncrypt}, {"admin", "operator"}, {}},
    {"exchange", Effect::kTrack, {DataUse::kExchange}, {"admin", "cryptographic-manager"}, {}}};

void check_value(const std::string& type, const Json& value) {
  const auto found = std::find_if(std::begin(kTypes), std::end(kTypes),
                                  [&](const auto& each) { return each.name == type; });
  if (found == std::end(kTypes))
    throw Error(Code::kUsage, "'type' must be password, ssh-key, api-token, certificate or json");
  for (const char* field : found->fields) text_of(value, field);
}

bool contains(const std::vector<std::string>& list, const std::string& value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

}  // namespace

Credentials::Credentials(std::string instance, DataKeys& keys, Specifications& specifications,
                         Records& records, store::Store& store, Recorder& recorder,
                         const Clock& clock)
    : instance_(std::move(instance)),
      keys_(keys),
      specifications_(specifications),
      records_(records),
      store_(store),
      recorder_(recorder),
      clock_(clock) {}

void Credentials::ensure_specification() {
  if (specified_) return;
  specifications_.ensure(store::kCredentialData, kAccess, exchangeable);
  specified_ = true;
}

void Credentials::move(const store::Credential& credential) {
  const SecretBytes value = keys_.open(std::string(as_text(credential.envelope)));
  const auto moved = records_.seal_and_write(
      {store::kCredentialData, credential.name, credential.changed_by}, value,
      [&] { return credential.version; },
      [&](const auto& record) { return store_.credentials().move_value(credential, record); });
  if (moved.outcome == store::RecordPut::Outcome::kDone)
    recorder_.record(Outcome::kDone, "instance", "credential.move", credential.name,
                     "its value is a record of " + std::string(store::kCredentialData));
}

void Credentials::keep_up() {
  ensure_specification();
  for (const auto& each : store_.credentials().all()) {
    if (!each.envelope.empty()) move(each);
  }
  if (!rebound_) {
    follow_all();
    rebound_ = true;
  }
  {
    const MutexLock lock(mutex_);
    if (elsewhere_.empty()) return;
    const auto keys = keys_.generations(store::kCredentialData);
    const auto came = std::erase_if(elsewhere_, [&](const auto& kid) {
      return std::any_of(keys.begin(), keys.end(),
                         [&](const auto& key) { return key.kid() == kid && key.usable(); });
    });
    if (came == 0) return;
  }
  follow_all();
}

store::Credential Credentials::require(const std::string& name) const {
  const auto found = store_.credentials().find(name);
  if (!found || found->removed) throw Error(Code::kUsage, "there is no credential '" + name + "'");
  return *found;
}

bool Credentials::is_for(const store::Credential& credential, const store::Agent& agent) const {
  return contains(credential.agents, agent.id) ||
         std::any_of(agent.groups.begin(), agent.groups.end(),
                     [&](const auto& group) { return contains(credential.groups, group); });
}

Json Credentials::put(const std::string& name, Json request, const AuthenticatedUser& person) {
  const Wiping wiping_request(request);
  if (!KeyName::parse(name))
    throw Error(Code::kUsage, "a credential name must match [a-z0-9][a-z0-9._-]{0,62}");
  const auto known = store_.credentials().find(name);
  const bool again = known && !known->removed;
  store::Credential credential;
  credential.name = name;
  credential.type = text_of(request, "type");
  // A new version is assigned like the last one, unless the request names agents or groups.
  credential.agents =
      request.contains("agents") || !again ? texts_of(request, "agents") : known->agents;
  credential.groups =
      request.contains("groups") || !again ? texts_of(request, "groups") : known->groups;
  credential.changed_by = person.name;
  credential.changed = clock_.now();
  Json answer;
  if (request.contains("sealed")) {
    put_blind(std::move(credential), request["sealed"], answer);
  } else {
    ensure_specification();
    specifications_.require_access(specifications_.require(store::kCredentialData),
                                   DataUse::kEncrypt, person, name);
    put_value(credential, request.value("value", Json::object()), answer);
  }
  recorder_.record(Outcome::kDone, "user " + person.name, "credential.put", name,
                   "version " + answer["version"].dump());
  follow_all();
  return answer;
}

void Credentials::put_value(const store::Credential& credential, Json value, Json& answer) {
  const Wiping wiping_value(value);
  check_value(credential.type, value);
  std::string text = value.dump();
  const Wiping wiping_text(text);
  const auto done = records_.seal_and_write(
      {store::kCredentialData, credential.name, credential.changed_by}, {text.begin(), text.end()},
      [&] {
        const auto known = store_.credentials().find(credential.name);
        return known ? known->version + 1 : 1;
      },
      [&](const auto& record) {
        store::Credential next = credential;
        next.version = record.version;
        return store_.credentials().put(next, &record);
      });
  answer["version"] = done.version;
}

envelope::Binding Credentials::binding_of(const store::Credential& credential,
                                          const std::string& agent) const {
  return {instance_, credential.name, static_cast<std::uint64_t>(credential.version), agent};
}

bool Credentials::is_bound(const store::Credential& credential,
                           const store::SealedCopy& copy) const {
  try {
    return envelope::inspect(copy.envelope).binding == binding_of(credential, copy.agent);
  } catch (const Error&) {
    return false;  // it opens nowhere
  }
}

namespace {

// The version that the author sealed for; it must be the same in all envelopes.
std::int64_t version_of(const envelope::Header& header, const std::string& agent) {
  if (header.format != envelope::Format::kJwe)
    throw Error(Code::kUsage, "the envelope for " + agent +
                                  " is CMS, which cannot carry a credential's context; seal "
                                  "credentials as JWE: keyagent seal --credential NAME --agent ID");
  if (!header.binding)
    throw Error(
        Code::kUsage,
        "the envelope for " + agent +
            " carries no context; seal it with keyagent seal --credential NAME --agent ID, or with "
            "the member \"keyagent\" in the protected header (agent/envelope/README.md)");
  if (header.binding->version > INT64_MAX)
    throw Error(Code::kUsage, "the envelope for " + agent + " is for an invalid version");
  return static_cast<std::int64_t>(header.binding->version);
}

}  // namespace

// Stores copies that the author sealed: the instance knows only the recipients.
void Credentials::put_blind(store::Credential credential, const Json& sealed, Json& answer) {
  if (!sealed.is_array() || sealed.empty())
    throw Error(Code::kUsage, "'sealed' must list {agent, kid, envelope}");
  std::vector<store::SealedCopy> copies;
  for (const auto& each : sealed) {
    store::SealedCopy copy;
    copy.credential = credential.name;
    copy.agent = text_of(each, "agent");
    copy.kid = text_of(each, "kid");
    const auto text = text_of(each, "envelope");
    copy.envelope.assign(text.begin(), text.end());
    const auto agent = store_.agents().find(copy.agent);
    if (!agent || (copy.kid != agent->transport_kid && copy.kid != agent->next_transport_kid))
      throw Error(Code::kKeyNotPresent,
                  "the agent " + copy.agent + " has no trusted key " + copy.kid, copy.kid);
    const auto header = envelope::inspect(as_bytes(text));
    const auto version = version_of(header, copy.agent);
    if (credential.version == 0) credential.version = version;
    if (header.binding != binding_of(credential, copy.agent))
      throw Error(Code::kUsage,
                  "the envelope for " + copy.agent +
                      " is for a different instance, credential, agent or version: " + instance_ +
                      ", " + credential.name + ", " + copy.agent + ", " +
                      std::to_string(credential.version),
                  copy.kid);
    if (header.kid != copy.kid)
      throw Error(Code::kUsage, "the envelope for " + copy.agent + " names another key", copy.kid);
    if (!contains(credential.agents, copy.agent)) credential.agents.push_back(copy.agent);
    copies.push_back(std::move(copy));
  }
  const auto done = store_.credentials().put(credential, nullptr);
  if (done.outcome == store::RecordPut::Outcome::kMoved)
    throw Error(Code::kExists, "the credential " + credential.name + " is at version " +
                                   std::to_string(done.version) + " now; seal version " +
                                   std::to_string(done.version + 1));
  const auto version = done.version;
  for (auto& copy : copies) {
    copy.version = version;
    store_.sealed_copies().put(copy);
  }
  answer["version"] = version;
}

Json Credentials::assign(const std::string& name, const Json& request, const std::string& by) {
  require(name);
  store_.credentials().assign(name, texts_of(request, "agents"), texts_of(request, "groups"));
  recorder_.record(Outcome::kDone, "user " + by, "credential.assign", name);
  follow_all();
  return show(name);
}

Json Credentials::remove(const std::string& name, const std::string& by) {
  require(name);
  store_.credentials().remove(name);
  recorder_.record(Outcome::kDone, "user " + by, "credential.remove", name);
  return Json::object();
}

Json Credentials::describe(const store::Credential& credential) const {
  Json copies = Json::array();
  for (const auto& agent : store_.agents().all()) {
    if (!is_for(credential, agent)) continue;
    for (const auto& kid : {agent.transport_kid, agent.next_transport_kid}) {
      if (kid.empty()) continue;
      const auto copy = store_.sealed_copies().find(credential.name, agent.id, kid);
      copies.push_back({{"agent", agent.id},
                        {"kid", kid},
                        {"version", copy ? Json(copy->version) : Json()},
                        {"bound", copy && is_bound(credential, *copy)}});
    }
  }
  return {{"name", credential.name},
          {"type", credential.type},
          {"version", credential.version},
          {"blind", credential.blind},
          {"kid", credential.kid.empty() ? Json() : Json(credential.kid)},
          {"agents", credential.agents},
          {"groups", credential.groups},
          {"changed", rfc3339(credential.changed)},
          {"changed_by", credential.changed_by},
          {"copies", copies}};
}

Json Credentials::reseal(const std::string& by) {
  std::size_t values = 0;
  Json blind = Json::array(), unreadable = Json::array();
  for (const auto& each : store_.credentials().all()) {
    if (each.blind) {
      const auto copies = describe(each).at("copies");
      const bool bound = std::all_of(copies.begin(), copies.end(), [](const auto& copy) {
        return copy.at("version").is_null() || copy.at("bound").template get<bool>();
      });
      if (!bound) blind.push_back(each.name);
      continue;
    }
    try {
      value_of(each);  // which seals it with its version where it is without
      ++values;
    } catch (const Error& error) {
      log_warning("instance", error.what());
      unreadable.push_back(each.name);
    }
  }
  follow_all();
  recorder_.record(unreadable.empty() ? Outcome::kDone : Outcome::kFailed, "user " + by,
                   "credential.reseal", "all", std::to_string(values) + " values");
  return {{"values", values}, {"blind", blind}, {"unreadable", unreadable}};
}

Json Credentials::next(const std::string& name) const {
  const auto known = store_.credentials().find(name);
  return {
      {"instance", instance_}, {"credential", name}, {"version", known ? known->version + 1 : 1}};
}

Json Credentials::list() const {
  Json out = Json::array();
  for (const auto& each : store_.credentials().all()) out.push_back(describe(each));
  return {{"credentials", out}};
}

Json Credentials::show(const std::string& name) const {
  return {{"credentials", Json::array({describe(require(name))})}};
}

Json Credentials::list_for(const store::Agent& agent) const {
  Json out = Json::array();
  for (const auto& each : store_.credentials().all()) {
    if (!is_for(each, agent)) continue;
    Json kids = Json::array();
    bool bound = true;
    for (const auto& kid : {agent.transport_kid, agent.next_transport_kid}) {
      const auto copy =
          kid.empty() ? std::nullopt : store_.sealed_copies().find(each.name, agent.id, kid);
      if (!copy) continue;
      kids.push_back(kid);
      bound = bound && is_bound(each, *copy);
    }
    out.push_back({{"name", each.name},
                   {"type", each.type},
                   {"version", each.version},
                   {"kids", kids},
                   {"bound", bound && !kids.empty()}});
  }
  return {{"credentials", out}};
}

Json Credentials::fetch(const store::Agent& agent, const std::string& name,
                        const std::string& kid) {
  const auto credential = store_.credentials().find(name);
  if (!credential || credential->removed || !is_for(*credential, agent)) {
    recorder_.record(Outcome::kRefused, "agent " + agent.id, "credential.fetch", name);
    throw Error(Code::kDenied, "no credential '" + name + "' is assigned to this agent");
  }
  auto copy = store_.sealed_copies().find(name, agent.id, kid);
  if (!copy && !credential->blind &&
      (kid == agent.transport_kid || kid == agent.next_transport_kid)) {
    value_of(*credential);  // or why there can be none
    {
      const MutexLock lock(mutex_);
      elsewhere_.erase(credential->kid);
    }
    follow(agent.id);
    copy = store_.sealed_copies().find(name, agent.id, kid);
  }
  if (!copy)
    throw Error(Code::kKeyNotPresent,
                credential->blind
                    ? "the credential " + name + " was sealed by its author to another key of " +
                          agent.id + "; its author must seal it to this key"
                    : "the credential " + name + " is not sealed to this key: the trusted one is " +
                          agent.transport_kid,
                kid);
  recorder_.record(Outcome::kDone, "agent " + agent.id, "credential.fetch", name, kid);
  return {{"name", name},
          {"type", credential->type},
          {"version", copy->version},
          {"kid", kid},
          {"envelope", std::string(as_text(copy->envelope))}};
}

std::optional<SecretBytes> Credentials::value_of(const store::Credential& credential) {
  if (!credential.envelope.empty()) return keys_.open(std::string(as_text(credential.envelope)));
  const auto record = store_.records().find(store::kCredentialData, credential.name);
  if (!record || record->version != credential.version) return std::nullopt;
  return records_.open(*record);
}

void Credentials::seal_to(const store::Credential& credential, const store::Agent& agent) {
  std::vector<PublicKeyInfo> missing;
  for (const bool next : {false, true}) {
    const auto& kid = next ? agent.next_transport_kid : agent.transport_kid;
    if (kid.empty()) continue;
    const auto copy = store_.sealed_copies().find(credential.name, agent.id, kid);
    if (!copy || !is_bound(credential, *copy)) missing.push_back(transport_of(agent, next));
  }
  if (missing.empty()) return;
  const auto plaintext = value_of(credential);
  if (!plaintext) return;
  for (const auto& key : missing) {
    store_.sealed_copies().put({credential.name, credential.version, agent.id, key.kid.text(),
                                envelope::seal_jwe(key, envelope::ContentEncryption::kA256Gcm,
                                                   *plaintext, binding_of(credential, agent.id))});
  }
}

bool Credentials::follow(const store::Credential& credential, const store::Agent& agent) {
  if (elsewhere_.contains(credential.kid)) return false;
  try {
    seal_to(credential, agent);
    return true;
  } catch (const Error& error) {
    if (error.code() != Code::kKeyNotPresent || credential.kid.empty()) throw;
    log_warning("instance", error.what());
    elsewhere_.insert(credential.kid);
    return false;
  }
}

void Credentials::follow(const std::string& agent_id) {
  const MutexLock lock(mutex_);
  const auto agent = store_.agents().find(agent_id);
  if (!agent || agent->state != name_of(Trust::kTrusted)) return;
  std::vector<std::string> kept;  // keep their copies: this instance cannot seal them
  bool any = false;
  for (const auto& each : store_.credentials().all()) {
    const bool mine = is_for(each, *agent);
    any = any || mine;
    if (each.blind || (mine && !follow(each, *agent))) kept.push_back(each.name);
  }
  // The agent is read after the census: a copy that is in it was sealed, perhaps by another
  // replica, to a key that the agent had by then.
  const auto census = store_.sealed_copies().census(agent_id);
  const auto fresh = store_.agents().find(agent_id).value();
  for (const auto& [kid, count] : census) {
    if (kid == fresh.transport_kid || kid == fresh.next_transport_kid) continue;
    const auto copies = store_.sealed_copies().all(agent->id, kid);
    const bool stays = std::any_of(copies.begin(), copies.end(), [&](const auto& copy) {
      return contains(kept, copy.credential);
    });
    if (!stays) store_.sealed_copies().drop(agent->id, kid);
  }
  if (!any) return;
  store_.links().bump_generation(agent_id);
  store_.notify(agent_id);  // its link may be at another replica
}

void Credentials::follow_all() {
  for (const auto& agent : store_.agents().all()) follow(agent.id);
}

}  // namespace keyagent::instance
