// SPDX-License-Identifier: Apache-2.0
#pragma once
// Work for strangers, which must not delay the work for those who have authenticated.

#include <future>
#include <utility>

namespace keyagent {

// Lowers the CPU priority of the calling thread permanently (nice(2): on Linux a thread has a nice
// value of its own). Nothing changes where the system refuses it, as a system call filter may.
void lower_thread_priority() noexcept;

// Runs `work` in a thread of low priority and waits for it. Returns and throws what it does.
template <class Work>
auto at_low_priority(Work&& work) {
  return std::async(std::launch::async,
                    [&work] {
                      lower_thread_priority();
                      return std::forward<Work>(work)();
                    })
      .get();
}

}  // namespace keyagent
