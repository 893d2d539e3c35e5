// SPDX-License-Identifier: Apache-2.0
#pragma once
// The sessions of people who have logged in.

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "agent/store/engine/repository.h"
#include "agent/store/rows.h"

namespace keyagent::store {

class Logins : public Repository {
 public:
  using Repository::Repository;

  // False, and nothing is added: the user's row is no longer `checked`, whose password was
  // verified.
  bool add(const LoginSession& session, const User& checked);
  // The session's user, and the session was used at `now`. nullopt: unknown, expired, not used for
  // `idle`, or its user is disabled.
  std::optional<User> use(const Bytes& hash, WallTime now, std::chrono::milliseconds idle);
  void remove(const Bytes& hash);
  // All sessions of a user; returns how many there were. The event is recorded with it.
  std::int64_t remove_all(const std::string& user, const Event& event);
};

}  // namespace keyagent::store
