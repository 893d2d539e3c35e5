// SPDX-License-Identifier: Apache-2.0
#pragma once
// Specifications of data: their names and who may do what.

#include <optional>
#include <string>
#include <vector>

#include "agent/store/engine/repository.h"
#include "agent/store/rows.h"

namespace keyagent::store {

class Specifications : public Repository {
 public:
  using Repository::Repository;

  // False: there is one of this name. The event is recorded with it.
  bool add(const Specification& specification, const Event& event);
  std::optional<Specification> find(const std::string& name);
  std::vector<Specification> all();
  // Writes its access if the row still has specification.revision. False: someone was faster.
  bool update(const Specification& specification, const Event& event);
};

}  // namespace keyagent::store
