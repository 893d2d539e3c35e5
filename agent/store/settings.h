// SPDX-License-Identifier: Apache-2.0
#pragma once
// The instance's settings: its id, its CA certificate, …

#include <optional>
#include <string>

#include "agent/store/engine/repository.h"

namespace keyagent::store {

class Settings : public Repository {
 public:
  using Repository::Repository;

  std::optional<std::string> get(const std::string& name);
  void set(const std::string& name, const std::string& value);
  // True for the one caller that wrote it first; nothing is changed for the others.
  bool set_once(const std::string& name, const std::string& value);
};

}  // namespace keyagent::store
