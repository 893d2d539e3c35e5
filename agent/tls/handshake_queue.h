// SPDX-License-Identifier: Apache-2.0
#pragma once
// The workers' time for handshakes, shared between addresses: one that floods waits for itself.

#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <string>

namespace keyagent::tls {

// Used from one thread. At most `places` handshakes are with the workers; the others wait, and
// addresses take turns.
class HandshakeQueue {
 public:
  explicit HandshakeQueue(std::size_t places) : free_(places) {}

  // Calls `start` now or later; done() follows each call.
  void push(const std::string& address, std::function<void()> start) {
    auto& waiting = waiting_[address];
    waiting.push_back(std::move(start));
    if (waiting.size() == 1) turns_.push_back(address);
    pump();
  }
  void done() {
    ++free_;
    pump();
  }

 private:
  void pump() {
    while (free_ > 0 && !turns_.empty()) {
      const std::string address = std::move(turns_.front());
      turns_.pop_front();
      const auto found = waiting_.find(address);
      const auto start = std::move(found->second.front());
      found->second.pop_front();
      if (found->second.empty())
        waiting_.erase(found);
      else
        turns_.push_back(address);
      --free_;
      start();
    }
  }

  std::size_t free_;
  std::map<std::string, std::deque<std::function<void()>>> waiting_;
  std::deque<std::string> turns_;  // addresses in waiting_, each once
};

}  // namespace keyagent::tls
