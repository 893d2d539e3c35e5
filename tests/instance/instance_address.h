// SPDX-License-Identifier: Apache-2.0
#pragma once
// The addresses of an instance, however it was started.

#include <string>

namespace keyagent::test {

class InstanceAddress {
 public:
  virtual ~InstanceAddress() = default;
  virtual std::string api_url() const = 0;
  virtual std::string agents_url() const = 0;

  std::string fingerprint;
};

}  // namespace keyagent::test
