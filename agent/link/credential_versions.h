// SPDX-License-Identifier: Apache-2.0
#pragma once
// What this agent has had of each credential, so that the instance, or who can write its store,
// cannot give it another one in its place (RELIABILITY 158).

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "agent/base/mutex.h"
#include "agent/link/instance_api.h"
#include "agent/link/link_state.h"

namespace keyagent::link {

// STATE/credential-versions.json. Thread-safe.
class CredentialVersions {
 public:
  explicit CredentialVersions(const std::filesystem::path& state_folder);

  struct Seen {
    std::uint64_t version = 0;  // the highest that was opened here
    bool bound = false;         // an envelope with a binding (envelope.h) was opened here
    bool operator==(const Seen&) const = default;
  };
  // Of this instance. Throws Error{kIntegrity} when the file cannot be understood.
  std::optional<Seen> seen(const std::string& instance, const std::string& name);
  // Synced before it returns; versions never decrease.
  void note(const std::string& instance, const std::string& name, Seen seen);
  // The agent is enrolled again.
  void forget_all();

 private:
  void load() REQUIRES(mutex_);

  const std::filesystem::path path_;
  Mutex mutex_;
  bool loaded_ GUARDED_BY(mutex_) = false;
  std::string instance_ GUARDED_BY(mutex_);               // whose credentials these are
  std::map<std::string, Seen> known_ GUARDED_BY(mutex_);  // by name
  bool unsaved_ GUARDED_BY(mutex_) = false;               // the folder could not be written
};

// Checks that the envelope is bound to the requested credential; `required`: an unbound envelope is
// refused. Throws Error{kIntegrity} when it is for another instance, agent, credential or version,
// older than the newest version opened here, or unbound although a binding is required. The binding
// is authenticated only after the envelope has been opened.
void require_bound(const LinkState& state, const SealedCredential& sealed,
                   const std::optional<CredentialVersions::Seen>& seen, bool required);
// Whether the envelope carries a binding.
bool is_bound(const std::string& envelope);

}  // namespace keyagent::link
