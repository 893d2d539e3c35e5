// SPDX-License-Identifier: Apache-2.0
#pragma once
// keyinstanced: everything that one replica of an instance is made of.

#include <memory>

#include "agent/instance/common/config.h"

namespace keyagent::instance {

class Instance {
 public:
  // Opens the store, makes keys and certificates that are missing, and listens. Throws Error.
  explicit Instance(InstanceConfig config);
  ~Instance();
  // Until SIGTERM or SIGINT, which must be blocked in every thread. Returns the exit status.
  int run();
  // The actual ports, where the configuration has 0.
  std::uint16_t api_port() const;
  std::uint16_t agents_port() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace keyagent::instance
