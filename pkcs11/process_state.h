// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a module has no business changing in the process that loads it.

#include <array>
#include <csignal>
#include <string>

namespace keyagent::pkcs11 {

// Puts back, when destroyed, what the library code in between may have changed: umask, working
// directory, locale and signal handlers (RELIABILITY 48: they are seen to do so while they are
// loaded, initialized and logged in to). Other threads see the change until then; whoever must not
// depend on it gives modes and absolute paths, as the agent does. Costs some 70 system calls: not
// for the calls of an operation.
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
