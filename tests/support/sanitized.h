// SPDX-License-Identifier: Apache-2.0
#pragma once
// For what a test cannot ask of a build with a sanitizer.

#include <csignal>

namespace keyagent::test {

inline constexpr bool is_sanitized() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
    __has_feature(memory_sanitizer)
  return true;
#endif
#endif
  return false;
}

// Is it the status of a program that ended by SIGSEGV? A sanitizer turns that into an exit code of
// its own.
inline bool is_crash(int status) {
  return status == 128 + SIGSEGV || (is_sanitized() && status > 0);
}

}  // namespace keyagent::test
