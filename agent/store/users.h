// SPDX-License-Identifier: Apache-2.0
#pragma once
// The people who may log in.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/store/engine/repository.h"
#include "agent/store/rows.h"

namespace keyagent::store {

class Users : public Repository {
 public:
  using Repository::Repository;

  bool add(const User& user);  // false: there is one of this name
  // Writes `after` if the row still is `before`, ends all sessions of the user, and records the
  // event. Returns how many sessions ended; nullopt, and nothing is changed: it is another row now.
  // Throws Error{kKeyState}, and changes nothing: `before` is enabled with the role floor.role,
  // `after` is not, and fewer than floor.count such users would remain.
  std::optional<std::int64_t> update(const User& before, const User& after, const Event& event,
                                     const RoleFloor& floor = {});
  std::optional<User> find(const std::string& name);
  std::vector<User> all();  // by name
};

}  // namespace keyagent::store
