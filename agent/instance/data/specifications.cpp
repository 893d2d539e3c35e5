// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/data/specifications.h"

#include <algorithm>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/base/log.h"
#include "agent/store/data_keys.h"
#include "agent/store/records.h"
#include "agent/store/specifications.h"
#include "agent/store/users.h"

namespace keyagent::instance {
namespace {

constexpr std::chrono::hours kFresh{1};

// Never the active generation of its name again.
bool is_old(const wire::Key& key) {
  return key.state() != "active" && key.state() != "staged" && key.state() != "suspended";
}

Json optional_text(const std::string& text) {
  return text.empty() ? Json() : Json(text);
}

Json key_json(const wire::Key& key) {
  return {{"kid", key.kid()},
          {"generation", key.generation()},
          {"state", key.state()},
          {"created", key.created()},
          {"activated", optional_text(key.activated())},
          {"period_s", key.period_ms() / 1000},
          {"next_rekey", optional_text(key.next_rekey())},
          {"exchangeable", key.exchangeable()},
          {"origin", optional_text(key.origin())},
          {"usable", key.usable()},
          {"finding", key.finding()}};
}

std::map<std::string, std::int64_t> as_map(
    const std::vector<std::pair<std::string, std::int64_t>>& counts) {
  return {counts.begin(), counts.end()};
}

}  // namespace

Specifications::Specifications(DataKeys& keys, store::Store& store, Recorder& recorder,
                               const Clock& clock)
    : keys_(keys), store_(store), recorder_(recorder), clock_(clock) {}

store::Specification Specifications::require(const std::string& name) const {
  auto found = store_.specifications().find(name);
  if (!found)
    throw Error(Code::kUsage, "there is no specification '" + escape_controls(name) + "'");
  return *std::move(found);
}

// The key first: what is in the store then has one. The same again finishes what was begun, and
// makes a new key where the specification came with a copied store.
Json Specifications::create(const Json& request, const std::string& by) {
  store::Specification specification;
  specification.name = text_of(request, "name");
  if (!is_specification_name(specification.name))
    throw Error(Code::kUsage, "a specification name must match [a-z0-9][a-z0-9._-]{0,40}");
  const auto access = request.find("access");
  specification.access =
      access_json(read_access(access == request.end() ? Json() : *access)).dump();
  specification.created_by = specification.changed_by = by;
  specification.created = specification.changed = clock_.now();
  const bool made = keys_.create(specification.name, flag_of(request, "exchangeable", false));
  const auto event = recorder_.make(Outcome::kDone, "user " + by, "specification.create",
                                    specification.name, "access " + specification.access);
  if (store_.specifications().add(specification, event)) {
    Recorder::say(event);
  } else if (made) {
    recorder_.record(Outcome::kDone, "user " + by, "specification.key", specification.name,
                     "it had no key in this token");
  } else {
    throw Error(Code::kExists, "there already is a specification " + specification.name);
  }
  return show(specification.name);
}

void Specifications::ensure(const std::string& name, const std::vector<AccessRule>& access,
                            bool exchangeable) {
  if (store_.specifications().find(name) && DataKeys::active(keys_.generations(name))) return;
  try {
    create({{"name", name}, {"access", access_json(access)}, {"exchangeable", exchangeable}},
           "instance");
  } catch (const Error& error) {
    if (error.code() != Code::kExists) throw;  // another replica was faster, or it is suspended
  }
}

Json Specifications::set_access(const std::string& name, const Json& request,
                                const std::string& by) {
  auto specification = require(name);
  const auto access = request.find("access");
  if (access == request.end()) throw Error(Code::kUsage, "'access' is missing");
  specification.access = access_json(read_access(*access)).dump();
  specification.changed_by = by;
  specification.changed = clock_.now();
  const auto event = recorder_.make(Outcome::kDone, "user " + by, "specification.access", name,
                                    specification.access);
  if (!store_.specifications().update(specification, event))
    throw Error(Code::kBusy, "the specification was changed concurrently; try again");
  Recorder::say(event);
  return show(name);
}

Json Specifications::describe_keys(const std::string& name,
                                   const std::vector<wire::Key>& keys) const {
  auto counts = as_map(store_.records().count_by_kid(name));
  Json out = Json::array();
  for (const auto& key : keys) {
    Json each = key_json(key);
    each["records"] = counts[key.kid()];
    counts.erase(key.kid());
    out.push_back(std::move(each));
  }
  for (const auto& [kid, count] : counts)
    out.push_back({{"kid", kid},
                   {"state", "not_present"},
                   {"source", source_of(name, kid)},
                   {"records", count}});
  return out;
}

Json Specifications::describe(const store::Specification& specification) {
  const auto keys = keys_.generations(specification.name);
  const auto active = DataKeys::active(keys);
  const auto rekey = keys.empty() ? std::nullopt : keys_.rekey_under_way(specification.name);
  Json out{{"name", specification.name},
           {"key", data_key_name(specification.name)},
           {"active", active ? Json(active->kid()) : Json()},
           {"keys", describe_keys(specification.name, keys)},
           {"access", Json::parse(specification.access)},
           {"created", rfc3339(specification.created)},
           {"created_by", specification.created_by},
           {"changed", rfc3339(specification.changed)},
           {"changed_by", specification.changed_by}};
  out["rekey"] = rekey ? Json{{"step", rekey->step()},
                              {"old_kid", rekey->old_kid()},
                              {"new_kid", optional_text(rekey->new_kid())},
                              {"waits_for", rekey->waits_for()}}
                       : Json();
  return out;
}

Json Specifications::list() {
  Json out = Json::array();
  for (const auto& each : store_.specifications().all()) out.push_back(describe(each));
  return {{"specifications", out}};
}

Json Specifications::show(const std::string& name) {
  return {{"specifications", Json::array({describe(require(name))})}};
}

Json Specifications::rekey(const std::string& name, const std::string& by) {
  require(name);
  const auto rekey = keys_.rekey(name);
  recorder_.record(Outcome::kDone, "user " + by, "specification.rekey", name,
                   "the previous active key was " + rekey.old_kid());
  return {{"step", rekey.step()}, {"old_kid", rekey.old_kid()}};
}

Json Specifications::why(const std::string& name, const std::string& use,
                         const AuthenticatedUser& person) {
  const auto specification = require(name);
  const auto wanted = data_use_of(use);
  if (!wanted) throw Error(Code::kUsage, "'use' must be encrypt, decrypt or exchange");
  const auto decision = decide(read_access(Json::parse(specification.access)), *wanted,
                               name_of(person.role), person.name);
  return {{"user", person.name},         {"role", name_of(person.role)}, {"use", use},
          {"allowed", decision.allowed}, {"tracked", decision.tracked},  {"rule", decision.rule}};
}

void Specifications::require_access(const store::Specification& specification, DataUse use,
                                    const AuthenticatedUser& person, const std::string& subject) {
  const auto decision = decide(read_access(Json::parse(specification.access)), use,
                               name_of(person.role), person.name);
  const auto action = "data." + std::string(name_of(use));
  if (!decision.allowed) {
    recorder_.record(Outcome::kRefused, "user " + person.name, action, subject,
                     "rule " + decision.rule);
    throw Error(Code::kDenied, "the specification " + specification.name + " does not let " +
                                   person.name + " " + std::string(name_of(use)) + " (rule " +
                                   decision.rule + ")");
  }
  if (decision.tracked)
    recorder_.record(Outcome::kDone, "user " + person.name, action, subject,
                     "rule " + decision.rule);
}

void Specifications::require_exchange(const std::string& name, const std::string& user) {
  const auto found = store_.users().find(user);
  const auto role = found && !found->disabled ? role_of(found->role) : std::nullopt;
  if (!role) throw Error(Code::kDenied, "there is no user '" + escape_controls(user) + "'");
  require_access(require(name), DataUse::kExchange, {user, *role}, name);
}

// Report the key to the agent before anything is sealed to it: from then on the count is above
// zero, until the key is closed.
void Specifications::note_key(const std::string& specification, const std::string& kid) {
  {
    const MutexLock lock(mutex_);
    if (noted_.contains(kid)) return;
  }
  const auto known = store_.data_keys().list(specification);
  if (std::none_of(known.begin(), known.end(), [&](const auto& key) { return key.kid == kid; })) {
    keys_.report(kid, 1);
    store_.data_keys().add({kid, specification, keys_.source(), clock_.now()});
  }
  const MutexLock lock(mutex_);
  noted_.insert(kid);
}

Json Specifications::source_of(const std::string& specification, const std::string& kid) const {
  for (const auto& each : store_.data_keys().list(specification)) {
    if (each.kid != kid) continue;
    Json source = Json::parse(each.source);
    // Noted before its instance had an identity; one that was cloned had its own from the first.
    const auto from = source.contains("identity") ? std::nullopt : store_.cloned_from();
    if (from) source["identity"] = *from;
    return source;
  }
  return nullptr;
}

void Specifications::report_census(const std::string& specification, bool exactly) {
  std::vector<std::pair<wire::Key, bool>> known;  // those that are here, and whether closed
  const auto keys = keys_.generations(specification);
  for (const auto& each : store_.data_keys().list(specification)) {
    for (const auto& key : keys) {
      if (key.kid() != each.kid || key.state() == "destroyed") continue;
      if (is_old(key) && !each.closed) store_.data_keys().close(each.kid);
      known.emplace_back(key, is_old(key) || each.closed);
    }
  }
  if (known.empty()) return;
  // After that: what is counted under a closed key can only become less.
  auto counts = as_map(store_.records().count_by_kid(specification));
  std::map<std::string, DataKeys::Reported> reported;
  for (const auto& each : keys_.reported()) reported[each.kid] = each;
  for (const auto& [key, closed] : known) {
    const auto count = closed ? counts[key.kid()] : std::max<std::int64_t>(counts[key.kid()], 1);
    const auto& last = reported[key.kid()];  // at the epoch: never
    const bool old = last.at < parse_rfc3339(key.changed());
    const bool matters = closed || exactly || clock_.now() - last.at > kFresh;
    if (old || (last.count != count && matters)) keys_.report(key.kid(), count);
  }
}

void Specifications::report_all() {
  for (const auto& each : store_.specifications().all()) report_census(each.name, false);
}

}  // namespace keyagent::instance
