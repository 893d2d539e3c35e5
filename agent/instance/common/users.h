// SPDX-License-Identifier: Apache-2.0
#pragma once
// Who may do what with the instance: users, roles, passwords and sessions. Deny by default.

#include <optional>
#include <string>

#include "agent/base/clock.h"
#include "agent/base/rate_budget.h"
#include "agent/instance/common/hashing_places.h"
#include "agent/instance/common/json.h"
#include "agent/instance/common/login_throttle.h"
#include "agent/instance/common/recorder.h"
#include "agent/store/store.h"
#include "agent/tls/server.h"

namespace keyagent::instance {

enum class Role { kAdmin, kCryptographicManager, kOperator, kAuditor };
std::string_view name_of(Role role);
std::optional<Role> role_of(std::string_view name);

// The right that a request needs; a table in users.cpp assigns rights to roles.
enum class Right {
  kRead,
  kEvents,
  kAgents,
  kGroups,
  kCredentials,
  kRekey,
  kTasks,
  kUsers,
  kBackup,
  kRestored,
  kSpecifications,
  kExchange,
  kDecide
};
inline constexpr Role kAllRoles[] = {Role::kAdmin, Role::kCryptographicManager, Role::kOperator,
                                     Role::kAuditor};
bool has(Role role, Right right);

struct AuthenticatedUser {
  std::string name;
  Role role = Role::kAuditor;
};

// How long a session is good: since its login, and since its last request.
struct SessionLimits {
  std::chrono::milliseconds life{std::chrono::hours(8)};
  std::chrono::milliseconds idle{std::chrono::hours(1)};
};

// What changes of a user; what is absent stays as it is. A disabled user is enabled by
// `disabled` = false alone.
struct UserEdit {
  std::optional<std::string> role, spki_sha256;
  SecretBytes password;       // empty: as it was
  std::string password_hash;  // Argon2id, in place of `password`
  std::optional<bool> disabled;
};

// Thread-safe.
class Users {
 public:
  Users(store::Store& store, Recorder& recorder, const Clock& clock, const SessionLimits& limits)
      : Users(store, recorder, clock, limits, HashingPlaces::Limits()) {}
  Users(store::Store& store, Recorder& recorder, const Clock& clock, const SessionLimits& limits,
        const HashingPlaces::Limits& hashing);

  // {"session","role","expires"}. One answer, after the same work, for everything that is wrong:
  // Error{kDenied}. Error{kBusy} while `from` has to wait after wrong passwords (LoginThrottle: of
  // this replica), and while it hashes more passwords than its share (HashingPlaces). Neither
  // depends on whether there is a user of this name, and neither stops another address.
  Json login(const Json& request, const std::string& from);
  // Each minute: one event for the further failures of each address.
  void summarize_failures();
  void logout(const tls::HttpRequest& request);
  // Ends all sessions of a user, at every replica: {"ended"}. Throws Error{kUsage} for an unknown
  // one.
  Json end_sessions(const std::string& name, const std::string& by);
  // By bearer session or client certificate. Throws Error{kDenied}.
  AuthenticatedUser identify(const tls::HttpRequest& request);

  Json list() const;
  // Adds or changes. Any change ends all sessions of the user: {"name","role","disabled","ended"}.
  // Throws Error{kUsage}; kKeyState, and changes nothing, when fewer than `least_admins` enabled
  // admins would remain (0: no such limit, for who controls the host anyway).
  Json put(const std::string& name, const UserEdit& edit, const std::string& by,
           std::int64_t least_admins = 0);
  // For a second person: what put() would change, checked, with the hash of the password as "hash".
  Json draft(const std::string& name, const UserEdit& edit) const;
  static UserEdit edit_of(const Json& draft);
  // Another value for each row that the user ever had; "none" without a user.
  std::string row_of(const std::string& name) const;

 private:
  std::optional<std::int64_t> update(const store::User& before, const store::User& after,
                                     const store::Event& event, std::int64_t least_admins);
  void refuse_login(const std::string& from, const std::string& name, const std::string& why);
  void require_pause_over(const std::string& address, const std::string& from,
                          const std::string& name);

  store::Store& store_;
  Recorder& recorder_;
  const Clock& clock_;
  const SessionLimits limits_;
  LoginThrottle throttle_;
  HashingPlaces hashing_;
  RateBudget failure_events_;  // one event of an address a minute; the others are counted
  const std::string nobody_;   // the hash of a password that no one has
};

}  // namespace keyagent::instance
