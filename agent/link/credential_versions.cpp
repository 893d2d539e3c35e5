// SPDX-License-Identifier: Apache-2.0
#include "agent/link/credential_versions.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "agent/base/disk.h"
#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/base/leftovers.h"
#include "agent/base/log.h"
#include "agent/base/strict_json.h"
#include "agent/envelope/envelope.h"

namespace keyagent::link {
namespace {

using Json = nlohmann::json;

constexpr JsonLimits kVersionsLimits{4 << 20, 4};

[[noreturn]] void refuse(const SealedCredential& sealed, const std::string& why) {
  throw Error(Code::kIntegrity,
              "the instance's envelope of credential " + sealed.name + " is refused: " + why,
              sealed.kid);
}

std::string quoted(const std::string& text) {
  return "'" + escape_controls(text.substr(0, 128)) + "'";
}

}  // namespace

CredentialVersions::CredentialVersions(const std::filesystem::path& state_folder)
    : path_(state_folder / "credential-versions.json") {
  remove_leftovers(state_folder, "credential-versions.json");
}

void CredentialVersions::load() {
  if (loaded_) return;
  if (!std::filesystem::exists(path_)) {
    loaded_ = true;
    return;
  }
  const Bytes bytes = read_trusted_file(path_, 4 << 20);
  const auto object = parse_strict_object<Json>(as_text(bytes), kVersionsLimits);
  std::map<std::string, Seen> known;
  try {
    if (!object) throw std::invalid_argument("no object");
    for (const auto& [name, each] : object->at("credentials").items())
      known[name] = {each.at("version").get<std::uint64_t>(), each.at("bound").get<bool>()};
    instance_ = object->at("instance").get<std::string>();
  } catch (const std::exception&) {
    throw Error(Code::kIntegrity, "the versions of credentials that were seen, " + path_.string() +
                                      ", cannot be read; if the file is damaged, enroll again: "
                                      "keyagent leave, keyagent enroll");
  }
  known_ = std::move(known);
  loaded_ = true;
}

std::optional<CredentialVersions::Seen> CredentialVersions::seen(const std::string& instance,
                                                                 const std::string& name) {
  const MutexLock lock(mutex_);
  load();
  const auto found = known_.find(name);
  if (instance_ != instance || found == known_.end()) return std::nullopt;
  return found->second;
}

void CredentialVersions::note(const std::string& instance, const std::string& name, Seen fresh) {
  const MutexLock lock(mutex_);
  load();
  std::map<std::string, Seen> next = instance_ == instance ? known_ : std::map<std::string, Seen>();
  const Seen before = next[name];
  fresh.version = std::max(fresh.version, before.version);
  fresh.bound = fresh.bound || before.bound;
  if (fresh == before && instance_ == instance && !unsaved_) return;
  next[name] = fresh;
  Json all = Json::object();
  for (const auto& [each, seen] : next)
    all[each] = {{"version", seen.version}, {"bound", seen.bound}};
  const Json out{{"instance", instance}, {"credentials", all}};
  // Read-only: known until the process ends, and written as soon as it can be; what is used is not
  // refused for it.
  const std::string why = why_unwritable(path_.parent_path());
  if (why.empty()) replace_file(path_, as_bytes(out.dump(2) + "\n"), 0600);
  if (!why.empty() && !unsaved_) log_warning("link", path_.string() + " is not written: " + why);
  unsaved_ = !why.empty();
  // Only now: what a full disk refused is written the next time.
  instance_ = instance;
  known_ = std::move(next);
}

void CredentialVersions::forget_all() {
  const MutexLock lock(mutex_);
  remove_file(path_);
  known_.clear();
  instance_.clear();
  loaded_ = true;
}

bool is_bound(const std::string& envelope) {
  try {
    return envelope::inspect(as_bytes(envelope)).binding.has_value();
  } catch (const Error&) {
    return false;  // it will not open either
  }
}

void require_bound(const LinkState& state, const SealedCredential& sealed,
                   const std::optional<CredentialVersions::Seen>& seen, bool required) {
  const auto header = envelope::inspect(as_bytes(sealed.envelope));
  if (header.format != envelope::Format::kJwe)
    refuse(sealed,
           "it is CMS, which cannot carry a credential's context; seal credentials as JWE: "
           "keyagent seal --credential NAME --agent ID");
  if (seen && sealed.version < seen->version) {
    refuse(sealed, "it is version " + std::to_string(sealed.version) +
                       ", and this agent has seen " + std::to_string(seen->version) +
                       "; if the instance was restored from a backup, store the credential again");
  }
  if (!header.binding) {
    if (!required && !(seen && seen->bound)) return;
    refuse(sealed,
           "it carries no context; have it sealed again: keyagent instance credential reseal (a "
           "blind one: by its author)");
  }
  const auto& is = *header.binding;
  if (is.instance != state.instance)
    refuse(sealed, "it is for the instance " + quoted(is.instance) + ", not " + state.instance);
  if (is.agent != state.agent)
    refuse(sealed, "it is for the agent " + quoted(is.agent) + ", not " + state.agent);
  if (is.credential != sealed.name)
    refuse(sealed, "it is for the credential " + quoted(is.credential));
  if (is.version != sealed.version) {
    refuse(sealed, "it is for version " + std::to_string(is.version) + ", not " +
                       std::to_string(sealed.version));
  }
}

}  // namespace keyagent::link
