// SPDX-License-Identifier: Apache-2.0
#pragma once
// Where an instance is, whoever started it.

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
