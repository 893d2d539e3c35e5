// SPDX-License-Identifier: Apache-2.0
#pragma once
// Credentials that the instance holds for this agent: fetched and cached sealed, opened in the
// token for a caller that the gate has authorized.

#include <atomic>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "agent/base/mutex.h"
#include "agent/link/contact.h"
#include "agent/link/credential_versions.h"
#include "agent/link/instance_line.h"

namespace keyagent::link {

// Thread-safe. The last envelope of each stays in STATE/credentials, so that a credential can be
// had while the instance is away, for as long as LastContact allows; not, when the instance is
// there and refuses us. One request at a time goes to the instance; who has waited for it in vain
// gets the last copy, or BUSY.
class Credentials {
 public:
  Credentials(const LinkContext& around, LinkStore& store, OwnKeys& keys, TlsLibrary& library,
              const InstanceConnection& uplink, LastContact& contact);

  // Throws Error: kKeyState (not enrolled, not approved), kDenied (not for this agent),
  // kKeyNotPresent (there is no copy for our key), kPeer (away, and never fetched), kBusy, and what
  // opening it throws.
  void get(const std::string& name, wire::CredentialGetReply& reply);
  void list(wire::CredentialListReply& reply);

  // Names of cached copies whose envelopes are not bound.
  std::vector<std::string> unbound() const;

  // The instance reports a change of these credentials: the next get() fetches them before a cached
  // copy is used.
  void changed(const std::vector<std::string>& names);
  // All of them are to be checked: a session begins, or they are sealed to another key now.
  void look_again() { look_ = true; }
  // Does one thing of what is to be done. For the link's thread, often.
  void work();
  void forget_all();

 private:
  struct Copy {
    SealedCredential sealed;
    std::string fetched;
  };
  // False: it cannot be asked now.
  bool list_at_instance(const LinkState& state, wire::CredentialListReply& reply);
  std::vector<CredentialInfo> listing(const LinkState& state) REQUIRES(line_.turn());
  void look_all(const LinkState& state);
  std::optional<std::string> next_stale();
  void fetch_stale(const LinkState& state, const std::string& name);
  bool is_absent(const std::string& name) const;
  void count(const LinkState& state, const std::vector<CredentialInfo>& all);
  std::optional<Copy> read(const std::string& name) const;
  Copy fetch(const LinkState& state, const std::string& name) REQUIRES(line_.turn());
  void keep(const std::string& name, const std::string& text) const;
  static void drop(const std::filesystem::path& copy);
  Copy fetch_through_rekey(const LinkState& state, const std::string& name) REQUIRES(line_.turn());
  SealedCredential fetch_for_our_keys(const LinkState& state, InstanceApi& api,
                                      const std::string& name);
  std::optional<Copy> fetch_if_possible(const LinkState& state, const std::string& name,
                                        bool has_copy, bool stale);
  void require_right(const LinkState& state, const SealedCredential& sealed);
  void open(const LinkState& state, const Copy& copy, wire::CredentialGetReply& reply);
  // Throws Error{kUnsupported} when no further copy may be kept.
  void require_room(const std::string& name) const;
  std::filesystem::path path_of(const std::string& name) const;

  const LinkContext& context_;
  LinkStore& store_;
  OwnKeys& keys_;
  const InstanceConnection& uplink_;
  LastContact& contact_;
  const std::filesystem::path folder_;
  CredentialVersions versions_;
  InstanceLine line_;  // one request to the instance at a time
  mutable Mutex mutex_;
  std::set<std::string> stale_ GUARDED_BY(mutex_);
  std::set<std::string> absent_ GUARDED_BY(mutex_);  // without a copy for our keys at the instance
  std::string last_tried_ GUARDED_BY(mutex_);
  std::atomic<bool> look_{false};
  bool count_ = false;  // the link's thread's
};

}  // namespace keyagent::link
