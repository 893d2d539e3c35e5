// SPDX-License-Identifier: Apache-2.0
#pragma once
// The inside of UnixServer: its threads, its table of connections and the queue of those with work
// left.

#include <deque>
#include <thread>
#include <unordered_map>
#include <vector>

#include "agent/base/log_limiter.h"
#include "agent/base/mutex.h"
#include "agent/net/connection.h"
#include "agent/net/timer.h"
#include "agent/net/unix_server.h"

namespace keyagent::net {

// Threads wait in epoll_wait on one descriptor, connections edge-triggered: a request costs one
// epoll_wait, one recv and one send. A thread that has taken a frame gives the connection back
// before it handles it, so that others may read on.
struct UnixServer::Impl final : ConnectionHost, std::enable_shared_from_this<Impl> {
  Impl(Fd listener, Limits limits, FrameHandler handler, Farewell farewell, HoldsLater holds_later);
  void start(unsigned threads);
  void stop();

  void watch_writable(const Connection& connection, bool writable) override;
  void resume(std::shared_ptr<Connection> connection) override;
  void answered(Connection& connection) override;
  void closed(const Connection& connection) override;

  Timer timer;
  std::atomic<std::uint64_t> accepted{0}, refused{0}, frames{0}, timeouts{0}, displaced{0};
  std::size_t connection_count();
  std::size_t largest_unfinished();
  void set_limits(const Limits& limits);

 private:
  using Held = std::shared_ptr<Connection>;

  // server_threads.cpp: the followers.
  void run();
  bool take_ready(wire::FrameReader& reader);
  void dispatch(std::uint64_t what, std::uint32_t events, wire::FrameReader& reader);
  void push_ready(Held connection);
  void serve(const Held& connection, wire::FrameReader& reader);
  bool take_frame(const Held& connection, wire::FrameReader& reader, ByteView& frame);
  bool keep(const Held& connection, wire::FrameReader& reader);
  bool put_away(const Held& connection, wire::FrameReader& reader);
  bool read_some(const Held& connection, wire::FrameReader& reader);
  bool pause(const Held& connection, wire::FrameReader& reader);
  bool waits_for_own(const Connection& connection) const;
  bool must_pause(const Connection& connection) const;
  void resume_one(UidLoad& load);
  void handle(const Held& connection, std::uint64_t place, ByteView frame);
  void violated(const Held& connection, const Error& error);

  // accept.cpp: connections come.
  void watch(int fd, std::uint64_t what, std::uint32_t events);
  void accept_all();
  void admit(Fd fd);
  Held enter(Fd& fd, policy::Principal peer, Held& loser) REQUIRES(mutex_);
  std::string why_refused(const policy::Principal& peer, const UidLoad& load, Held& loser) const
      REQUIRES(mutex_);
  Held idle_of_the_largest(std::size_t more_than, std::chrono::milliseconds idle_for) const
      REQUIRES(mutex_);
  void close_an_idle_one();
  void arm_listener();

  // unix_server.cpp: connections go.
  void sweep();
  void schedule_sweep();
  std::vector<Held> all_connections();
  Held find(std::uint64_t id);

  Fd listener_, epoll_, wake_, end_;
  FrameHandler handler_;
  const Farewell farewell_;
  const HoldsLater holds_later_;
  LogLimiter log_limiter_;
  std::vector<std::thread> threads_;
  std::atomic<bool> stopping_{false};
  std::atomic<int> idle_{0};
  std::atomic<std::size_t> inflight_{0}, inflight_per_uid_, inflight_per_connection_,
      unfinished_per_uid_;

  Mutex mutex_;
  CondVar quiet_;  // inflight_ became 0
  Limits limits_ GUARDED_BY(mutex_);
  std::unordered_map<std::uint64_t, Held> connections_ GUARDED_BY(mutex_);
  std::unordered_map<std::uint32_t, std::shared_ptr<UidLoad>> loads_ GUARDED_BY(mutex_);
  std::uint64_t next_id_ GUARDED_BY(mutex_) = 0;
  bool sweeping_ GUARDED_BY(mutex_) = false;

  Mutex ready_mutex_;
  // By uid, never empty; their reading claim is held by the queue.
  std::unordered_map<std::uint32_t, std::deque<Held>> ready_ GUARDED_BY(ready_mutex_);
  // The uids of ready_, the next one first.
  std::deque<std::uint32_t> turns_ GUARDED_BY(ready_mutex_);
  std::atomic<std::size_t> ready_count_{0};
};

// Values of epoll_event.data; connections count from kFirstConnection.
inline constexpr std::uint64_t kListener = 0, kWake = 1, kEnd = 2, kFirstConnection = 16;

}  // namespace keyagent::net
