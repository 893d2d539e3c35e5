// SPDX-License-Identifier: Apache-2.0
#include "agent/base/low_priority.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <stdexcept>

namespace keyagent {
namespace {

int nice_of_this_thread() {
  return ::getpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()));
}

TEST(LowPriority, IsThatOfTheWorkAndNotOfTheCaller) {
  const int before = nice_of_this_thread();
  EXPECT_EQ(at_low_priority(nice_of_this_thread), 10);
  EXPECT_EQ(nice_of_this_thread(), before);
}

TEST(LowPriority, ThrowsWhatTheWorkThrows) {
  EXPECT_THROW(at_low_priority([]() -> int { throw std::runtime_error("it"); }),
               std::runtime_error);
}

}  // namespace
}  // namespace keyagent
