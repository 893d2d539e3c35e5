// SPDX-License-Identifier: Apache-2.0
#pragma once
// How far each agent's audit log was: what shows that it was rewritten, cut or rolled back.

#include <optional>
#include <string>
#include <vector>

#include "agent/store/engine/repository.h"
#include "agent/store/rows.h"

namespace keyagent::store {

class AuditCheckpoints : public Repository {
 public:
  using Repository::Repository;

  // Keeps this checkpoint if it is newer than the one that is there. Returns the one that is there
  // afterwards: an equal one, or another that is as new or newer, which stays. nullopt, and nothing
  // is changed: the agent is not trusted, or has enrolled again since.
  std::optional<AuditCheckpoint> keep(const AuditCheckpoint& checkpoint);
  std::optional<AuditCheckpoint> find(const std::string& agent, WallTime enrolled);
  // The first that was kept on each day (UTC, of `noted`), which nothing replaces: of the last
  // kMaxCheckpointDays days that have one, of any enrollment; the newest day first.
  std::vector<AuditCheckpoint> days(const std::string& agent);
  // The newest, if it is still this one; those of the days stay. False, and no event: it is not.
  bool forget(const AuditCheckpoint& checkpoint, const Event& event);
};

}  // namespace keyagent::store
