// SPDX-License-Identifier: Apache-2.0
#pragma once
// One connection to an agent, shared by pipelined calls. One of the waiting callers reads for all:
// no reader thread, and no context switch for a single caller.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>

#include "agent/base/disk.h"
#include "agent/base/error.h"
#include "agent/base/mutex.h"
#include "agent/client/root_folder.h"
#include "agent/wire/frame.h"
#include "agent/wire/keyagent.pb.h"

namespace keyagent::client {

using SteadyTime = std::chrono::steady_clock::time_point;

// Connects to `path`, in `root` where that is given and this process has left it. Throws
// Error{kPeer} with the path, the reason and the fix.
Fd connect_agent(const std::filesystem::path& path, SteadyTime deadline,
                 const RootFolder* root = nullptr);

// The connection broke before the answer came.
struct ConnectionLost {
  std::string why;
};

// Thread-safe. Broken forever once a call has thrown ConnectionLost.
class Channel {
 public:
  Channel(Fd fd, std::chrono::milliseconds patience);

  // `frame`: header and body of the request with this id. Throws ConnectionLost, Error{kDeadline},
  // and the Error that the agent sent about the connection itself.
  wire::Response call(std::uint64_t id, ByteView frame, SteadyTime deadline);
  bool broken() const { return broken_; }
  // Whether the agent has closed this idle connection. Checks only when it has not been used for a
  // second and no other call reads.
  bool closed_while_idle();
  int process() const { return process_; }
  // In the child of a fork: closes this copy without ending the parent's connection.
  void abandon();

 private:
  struct Waiter {
    CondVar wake;
    std::optional<wire::Response> response;
  };

  void send(ByteView frame, SteadyTime deadline);
  void read_frames(const Waiter& mine, SteadyTime deadline) REQUIRES(mutex_);
  ssize_t receive(std::span<std::uint8_t> room, SteadyTime deadline, bool first);
  void deliver(ByteView body) REQUIRES(mutex_);
  void fail(const std::string& why);

  Fd fd_;
  const std::chrono::milliseconds patience_;  // what SO_RCVTIMEO is set to
  const int process_;
  Mutex send_mutex_;
  std::atomic<bool> broken_{false};
  std::atomic<SteadyTime> used_{std::chrono::steady_clock::now()};
  Mutex mutex_;
  std::map<std::uint64_t, Waiter*> waiters_ GUARDED_BY(mutex_);
  bool reading_ GUARDED_BY(mutex_) = false;          // someone is the reader
  std::string why_ GUARDED_BY(mutex_);               // of broken_
  std::optional<Error> refusal_ GUARDED_BY(mutex_);  // the agent's word on the connection
  wire::FrameReader reader_{wire::kMaxAnswer};       // the reader's
};

}  // namespace keyagent::client
