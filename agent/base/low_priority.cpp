// SPDX-License-Identifier: Apache-2.0
#include "agent/base/low_priority.h"

#include <sys/resource.h>
#include <unistd.h>

namespace keyagent {

void lower_thread_priority() noexcept {
  constexpr int kNice = 10;
  thread_local const bool asked = [] {
    ::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), kNice);
    return true;
  }();
  static_cast<void>(asked);
}

}  // namespace keyagent
