// SPDX-License-Identifier: Apache-2.0
#pragma once
// Credentials: what they are, who gets them, and where their value is.

#include <optional>
#include <string>
#include <vector>

#include "agent/store/engine/repository.h"
#include "agent/store/rows.h"

namespace keyagent::store {

class Credentials : public Repository {
 public:
  using Repository::Repository;

  // Adds a version, which is set by the store and returned, with its value (of kCredentialData; its
  // version is the credential's); nullptr: a blind one. The value of the version before is not
  // kept. kClosed, and nothing is changed: as for Records::put(). kMoved, and nothing is changed:
  // it is not this version that it would get, credential.version (0: whichever it is).
  RecordPut put(const Credential& credential, const Record* value);
  // The value that was in credential.envelope, as its record. kConflict, and nothing is changed: it
  // has another version by now, or was moved.
  RecordPut move_value(const Credential& credential, const Record& value);
  bool assign(const std::string& name, const std::vector<std::string>& agents,
              const std::vector<std::string>& groups);
  std::optional<Credential> find(const std::string& name);  // newest version, also removed
  std::vector<Credential> all();                            // newest versions, not removed
  bool remove(const std::string& name);                     // its value and its sealed copies too
};

}  // namespace keyagent::store
