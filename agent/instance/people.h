#pragma once
// Who may do what with the instance: users, roles, passwords and sessions. Deny by default.

#include <optional>
#include <semaphore>
#include <string>

#include "agent/base/clock.h"
#include "agent/instance/json.h"
#include "agent/instance/recorder.h"
#include "agent/store/store.h"
#include "agent/tls/server.h"

namespace keyagent::instance {

enum class Role { kAdmin, kCryptographicManager, kOperator, kAuditor };
std::string_view name_of(Role role);
std::optional<Role> role_of(std::string_view name);

// What a request needs; a table in people.cpp says which roles have it.
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
  kExchange
};
bool has(Role role, Right right);

struct Person {
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
  SecretBytes password;  // empty: as it was
  std::optional<bool> disabled;
};

// Thread-safe.
class People {
 public:
  // `hashing`: so many passwords are looked at together, each with 64 MiB; the others are not.
  People(store::Store& store, Recorder& recorder, const Clock& clock, const SessionLimits& limits,
         std::ptrdiff_t hashing = 2);

  // {"session","role","expires"}. One answer, after the same work, for everything that is wrong:
  // Error{kDenied}. After five failures of a name Error{kBusy} for a minute, and at once while too
  // many log in: whoever knows no password costs no more memory than that.
  Json login(const Json& request, const std::string& from);
  void logout(const tls::HttpRequest& request);
  // Ends all sessions of a user, at every replica: {"ended"}. Throws Error{kUsage} for an unknown
  // one.
  Json end_sessions(const std::string& name, const std::string& by);
  // By bearer session or client certificate. Throws Error{kDenied}.
  Person identify(const tls::HttpRequest& request);

  Json list() const;
  // Adds or changes. Any change ends all sessions of the user: {"name","role","disabled","ended"}.
  // Throws Error{kUsage}.
  Json put(const std::string& name, const UserEdit& edit, const std::string& by);

 private:
  void require_pause_over(const std::string& name);

  store::Store& store_;
  Recorder& recorder_;
  const Clock& clock_;
  const SessionLimits limits_;
  std::counting_semaphore<> hashing_;
  const std::string nobody_;  // the hash of a password that nobody has
};

}  // namespace keyagent::instance
