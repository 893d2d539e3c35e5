// SPDX-License-Identifier: Apache-2.0
#pragma once
// Polls until work elsewhere has ended or the timeout has passed, for --wait and --timeout.

#include <chrono>
#include <string>
#include <thread>

#include "agent/base/error.h"

namespace keyagent::cli {

class PollUntilTimeout {
 public:
  // `seconds` 0: forever.
  explicit PollUntilTimeout(long seconds,
                            std::chrono::milliseconds between = std::chrono::milliseconds(500))
      : seconds_(seconds), between_(between) {}

  // Between one look and the next. Throws Error{kPartial} with these words when the time is over.
  void rest(const std::string& goes_on) const {
    const auto waited = std::chrono::steady_clock::now() - began_;
    if (seconds_ > 0 && waited > std::chrono::seconds(seconds_))
      throw Error(Code::kPartial, goes_on);
    std::this_thread::sleep_for(between_);
  }

 private:
  const long seconds_;
  const std::chrono::milliseconds between_;
  const std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
};

}  // namespace keyagent::cli
