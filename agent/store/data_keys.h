// SPDX-License-Identifier: Apache-2.0
#pragma once
// The keys under which records are.

#include <string>
#include <vector>

#include "agent/store/data_rows.h"
#include "agent/store/engine/repository.h"

namespace keyagent::store {

class DataKeys : public Repository {
 public:
  using Repository::Repository;

  bool add(const DataKey& key);  // false: it is known
  std::vector<DataKey> list(const std::string& specification);
  // Once it has returned no record comes under this key anymore. False: it was so already.
  bool close(const std::string& kid);
};

}  // namespace keyagent::store
