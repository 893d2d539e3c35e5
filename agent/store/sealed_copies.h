// SPDX-License-Identifier: Apache-2.0
#pragma once
// Credentials as they were sealed to agents' transport keys.

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/store/engine/repository.h"
#include "agent/store/rows.h"

namespace keyagent::store {

class SealedCopies : public Repository {
 public:
  using Repository::Repository;

  // Replaces the one of the same (credential, agent, kid). False, and nothing is changed: the
  // credential is removed or has no such version, a copy of a newer version is there, or the agent
  // was revoked or has another key by now.
  bool put(const SealedCopy& copy);
  // Of the newest version.
  std::optional<SealedCopy> find(const std::string& credential, const std::string& agent,
                                 const std::string& kid);
  // Of any version: an old one stays until a newer replaces it.
  std::vector<SealedCopy> all(const std::string& agent, const std::string& kid);
  // How many sealed copies name each kid of this agent.
  std::vector<std::pair<std::string, std::int64_t>> census(const std::string& agent);
  void drop(const std::string& agent, const std::string& kid);
};

}  // namespace keyagent::store
