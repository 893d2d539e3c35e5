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
    bool bound = false;         // an envelope that says what it is for was opened here
    bool operator==(const Seen&) const = default;
  };
  // Of this instance. Throws Error{kIntegrity} when the file cannot be understood.
  std::optional<Seen> seen(const std::string& instance, const std::string& name);
  // On the disk when it returns; nothing goes back.
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

// Does the envelope say that it is what was asked for? `name`: the credential's; `required`: one
// that says nothing is refused. Throws Error{kIntegrity}: it is for another instance, agent,
// credential or version, older than what was seen, or says nothing where it must. The envelope's
// own word is authenticated only when it has been opened.
void require_bound(const LinkState& state, const SealedCredential& sealed,
                   const std::optional<CredentialVersions::Seen>& seen, bool required);
// Does the envelope say anything?
bool is_bound(const std::string& envelope);

}  // namespace keyagent::link
