// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a module has no business changing in the process that loads it.

#include <array>
#include <csignal>
#include <string>

namespace keyagent::pkcs11 {

// Restores, when destroyed, what library code may have changed meanwhile: umask, working directory,
// locale and signal handlers (RELIABILITY 48: modules do so while they are loaded, initialized and
// logged in to). Other threads see the change until then; code that must not depend on it uses
// explicit modes and absolute paths, as the agent does. Costs about 70 system calls: not for the
// calls of an operation.
class ProcessState {
 public:
  ProcessState();
  ~ProcessState();
  ProcessState(const ProcessState&) = delete;

 private:
  static constexpr int kSignals = 65;
  unsigned umask_;
  int folder_;  // of the working directory; -1 where it cannot be opened
  std::string locale_;
  std::array<struct sigaction, kSignals> signals_{};
};

}  // namespace keyagent::pkcs11
