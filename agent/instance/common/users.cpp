// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/common/users.h"

#include <botan/argon2.h>
#include <botan/system_rng.h>

#include "agent/base/address_principal.h"
#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/base/ids.h"
#include "agent/base/secret_text.h"
#include "agent/base/wiping.h"
#include "agent/store/events.h"
#include "agent/store/logins.h"
#include "agent/store/users.h"

namespace keyagent::instance {
namespace {

using namespace std::chrono_literals;

constexpr std::pair<Role, std::string_view> kRoles[] = {
    {Role::kAdmin, "admin"},
    {Role::kCryptographicManager, "cryptographic-manager"},
    {Role::kOperator, "operator"},
    {Role::kAuditor, "auditor"}};

// Separation of duties: a role that trusts agents does not assign groups and credentials, which is
// the operator's right. Neither role is the only reader of the other's events. admin has all
// rights.
constexpr std::pair<Role, Right> kRights[] = {{Role::kCryptographicManager, Right::kRead},
                                              {Role::kCryptographicManager, Right::kAgents},
                                              {Role::kCryptographicManager, Right::kRekey},
                                              {Role::kCryptographicManager, Right::kSpecifications},
                                              {Role::kCryptographicManager, Right::kExchange},
                                              {Role::kCryptographicManager, Right::kDecide},
                                              {Role::kOperator, Right::kRead},
                                              {Role::kOperator, Right::kGroups},
                                              {Role::kOperator, Right::kCredentials},
                                              {Role::kOperator, Right::kTasks},
                                              {Role::kOperator, Right::kDecide},
                                              {Role::kAuditor, Right::kRead},
                                              {Role::kAuditor, Right::kEvents}};

// RFC 9106 §4, second recommended option: 64 MiB, 3 passes, 4 lanes.
constexpr std::size_t kMemory = 64 * 1024, kPasses = 3, kLanes = 4;
constexpr std::size_t kLeastPassword = 12, kMaxPassword = 1024;
constexpr RateBudget::Limits kFailureEvents{.burst = 1, .refill = 1min};

std::string hash_password(const char* password, std::size_t size) {
  return Botan::argon2_generate_pwhash(password, size, Botan::system_rng(), kLanes, kMemory,
                                       kPasses);
}

std::string new_password(const SecretBytes& password) {
  if (password.size() < kLeastPassword || password.size() > kMaxPassword)
    throw Error(Code::kUsage, "a password must have 12 to 1024 characters");
  // What no reader of passwords (base/secret_text.h) would hand over could never log in.
  if (secret_text(password, "the password") != password)
    throw Error(Code::kUsage, "the password ends with a line ending; remove it");
  return hash_password(reinterpret_cast<const char*>(password.data()), password.size());
}

std::optional<Bytes> bearer_of(const tls::HttpRequest& request) {
  const auto found = request.headers.find("authorization");
  if (found == request.headers.end() || !found->second.starts_with("Bearer ")) return std::nullopt;
  const auto secret = from_base64url(std::string_view(found->second).substr(7));
  if (!secret) return std::nullopt;
  return sha256(*secret);
}

// The row as it will be. Throws Error{kUsage}.
store::User edited(const std::string& name, const std::optional<store::User>& known,
                   const UserEdit& edit) {
  if (!KeyName::parse(name))
    throw Error(Code::kUsage, "a user name must match [a-z0-9][a-z0-9._-]{0,62}");
  store::User user = known.value_or(store::User{});
  user.name = name;
  if (edit.role) user.role = *edit.role;
  if (!role_of(user.role))
    throw Error(Code::kUsage, "'role' must be admin, cryptographic-manager, operator or auditor");
  if (edit.spki_sha256) user.spki_sha256 = *edit.spki_sha256;
  if (edit.disabled) user.disabled = *edit.disabled;
  if (!edit.password.empty()) user.password = new_password(edit.password);
  if (!edit.password_hash.empty()) user.password = edit.password_hash;
  if (user.password.empty() && user.spki_sha256.empty())
    throw Error(Code::kUsage, "a user needs a password or a certificate fingerprint");
  return user;
}

}  // namespace

std::string_view name_of(Role role) {
  for (const auto& [each, name] : kRoles) {
    if (each == role) return name;
  }
  return "unknown";
}

std::optional<Role> role_of(std::string_view name) {
  for (const auto& [role, text] : kRoles) {
    if (text == name) return role;
  }
  return std::nullopt;
}

bool has(Role role, Right right) {
  if (role == Role::kAdmin) return true;
  for (const auto& [each, what] : kRights) {
    if (each == role && what == right) return true;
  }
  return false;
}

Users::Users(store::Store& store, Recorder& recorder, const Clock& clock,
             const SessionLimits& limits, const HashingPlaces::Limits& hashing)
    : store_(store),
      recorder_(recorder),
      clock_(clock),
      limits_(limits),
      throttle_(clock),
      hashing_(hashing),
      failure_events_(clock, kFailureEvents),
      nobody_(hash_password("nobody", 6)) {}

void Users::refuse_login(const std::string& from, const std::string& name, const std::string& why) {
  if (failure_events_.take(principal_of_address(from)))
    recorder_.record(Outcome::kRefused, from, "login", escape_controls(name), why);
}

void Users::summarize_failures() {
  for (const auto& each : failure_events_.take_refusals())
    recorder_.record(Outcome::kRefused, each.principal, "login", "*",
                     std::to_string(each.count) + " more refused logins");
}

void Users::require_pause_over(const std::string& address, const std::string& from,
                               const std::string& name) {
  const auto left = throttle_.pause(address, name);
  if (left <= 0ms) return;
  refuse_login(from, name, "not checked: too many wrong passwords from this address");
  const auto seconds = std::chrono::ceil<std::chrono::seconds>(left).count();
  throw Error(Code::kBusy, "too many wrong passwords from your address; try again in " +
                               std::to_string(seconds) + " s");
}

Json Users::login(const Json& request, const std::string& from) {
  const auto address = principal_of_address(from);
  const auto name = text_of(request, "user").substr(0, 64);
  auto password = text_of(request, "password").substr(0, kMaxPassword);
  const Wiping wiping(password);
  require_pause_over(address, from, name);
  std::optional<store::User> user;
  bool right = false;
  {
    const HashingPlaces::Lease place(hashing_, address, !throttle_.has_failures(address));
    require_pause_over(address, from, name);  // others of this address failed meanwhile
    user = store_.users().find(name);
    const bool usable = user && !user->disabled && !user->password.empty();
    right = Botan::argon2_check_pwhash(password.data(), password.size(),
                                       usable ? user->password : nobody_) &&
            usable;
    if (!right) throttle_.failed(address, name);
  }
  if (!right) {
    refuse_login(from, name, "the name or the password is wrong");
    throw Error(Code::kDenied, "the name or the password is wrong");
  }
  throttle_.succeeded(address, name);
  const SecretBytes secret = random_secret(32);
  store::LoginSession session;
  session.hash = sha256(secret);
  session.user = name;
  session.used = clock_.now();
  session.expires = session.used + limits_.life;
  // Its password or state was changed while this one was verified.
  if (!store_.logins().add(session, *user))
    throw Error(Code::kDenied, "the name or the password is wrong");
  recorder_.record(Outcome::kDone, from, "login", name);
  return {{"session", to_base64url(secret)},
          {"role", user->role},
          {"expires", rfc3339(session.expires)}};
}

void Users::logout(const tls::HttpRequest& request) {
  if (const auto hash = bearer_of(request)) store_.logins().remove(*hash);
}

Json Users::end_sessions(const std::string& name, const std::string& by) {
  if (!store_.users().find(name))
    throw Error(Code::kUsage, "there is no user '" + escape_controls(name) + "'");
  const auto event = recorder_.make(Outcome::kDone, by, "sessions.end", name);
  const auto ended = store_.logins().remove_all(name, event);
  Recorder::say(event);
  return {{"ended", ended}};
}

AuthenticatedUser Users::identify(const tls::HttpRequest& request) {
  std::optional<store::User> user;
  if (const auto hash = bearer_of(request)) {
    user = store_.logins().use(*hash, clock_.now(), limits_.idle);
  } else if (request.peer.certified) {
    const auto fingerprint = to_base64url(sha256(request.peer.spki));
    for (const auto& each : store_.users().all()) {
      if (each.spki_sha256 == fingerprint) user = each;
    }
  }
  const auto role = user && !user->disabled ? role_of(user->role) : std::nullopt;
  if (!role)
    throw Error(Code::kDenied,
                "not logged in; run keyagent instance login, or use the certificate of a user");
  return {user->name, *role};
}

Json Users::list() const {
  Json out = Json::array();
  for (const auto& each : store_.users().all()) {
    out.push_back({{"name", each.name},
                   {"role", each.role},
                   {"password", !each.password.empty()},
                   {"spki_sha256", each.spki_sha256},
                   {"disabled", each.disabled}});
  }
  return {{"users", out}};
}

Json Users::draft(const std::string& name, const UserEdit& edit) const {
  const auto user = edited(name, store_.users().find(name), edit);
  Json out = Json::object();
  if (edit.role) out["role"] = *edit.role;
  if (edit.spki_sha256) out["spki_sha256"] = *edit.spki_sha256;
  if (edit.disabled) out["disabled"] = *edit.disabled;
  if (!edit.password.empty()) out["hash"] = user.password;
  return out;
}

UserEdit Users::edit_of(const Json& draft) {
  UserEdit edit;
  if (draft.contains("role")) edit.role = text_of(draft, "role");
  if (draft.contains("spki_sha256")) edit.spki_sha256 = text_of(draft, "spki_sha256");
  if (draft.contains("disabled")) edit.disabled = flag_of(draft, "disabled", false);
  edit.password_hash = text_of(draft, "hash", "");
  return edit;
}

std::string Users::row_of(const std::string& name) const {
  const auto user = store_.users().find(name);
  if (!user) return "none";
  const std::string row = user->role + "\n" + user->password + "\n" + user->spki_sha256 + "\n" +
                          (user->disabled ? "disabled" : "");
  return to_base64url(sha256(as_bytes(row)));
}

std::optional<std::int64_t> Users::update(const store::User& before, const store::User& after,
                                          const store::Event& event, std::int64_t least_admins) {
  try {
    return store_.users().update(before, after, event,
                                 {std::string(name_of(Role::kAdmin)), least_admins});
  } catch (const Error& error) {
    if (error.code() != Code::kKeyState) throw;
    recorder_.record(Outcome::kRefused, event.actor, event.action, before.name, error.what());
    throw Error(Code::kKeyState,
                "the user " + before.name + " must stay an enabled admin: " + error.what() +
                    "; add another admin first, or, on the instance's host, use: keyinstanced "
                    "--config FILE user " +
                    before.name + (after.disabled ? " --disable" : " --role " + after.role));
  }
}

Json Users::put(const std::string& name, const UserEdit& edit, const std::string& by,
                std::int64_t least_admins) {
  const auto known = store_.users().find(name);
  const store::User user = edited(name, known, edit);
  const bool same_password = edit.password.empty() && edit.password_hash.empty();
  const auto event = recorder_.make(Outcome::kDone, by, known ? "user.change" : "user.add", name,
                                    user.role + (user.disabled ? ", disabled" : "") +
                                        (same_password || !known ? "" : ", new password"));
  std::optional<std::int64_t> ended = 0;
  if (known)
    ended = update(*known, user, event, least_admins);
  else if (!store_.users().add(user))
    ended.reset();
  if (!ended) throw Error(Code::kBusy, "the user " + name + " was changed concurrently; try again");
  if (!known) store_.events().add(event);
  Recorder::say(event);
  return {{"name", name}, {"role", user.role}, {"disabled", user.disabled}, {"ended", *ended}};
}

}  // namespace keyagent::instance
