// SPDX-License-Identifier: Apache-2.0
#pragma once
// One connected peer: its socket, what it has sent but not finished, and what it has not read yet.

#include <atomic>
#include <chrono>
#include <deque>
#include <map>
#include <memory>
#include <set>

#include "agent/base/mutex.h"
#include "agent/net/unix_server.h"
#include "agent/wire/frame.h"

namespace keyagent::net {

class Connection;

// What the connections of one uid share. Thread-safe.
struct UidLoad {
  std::atomic<std::size_t> connections{0};
  std::atomic<std::size_t> inflight{0};  // unanswered requests
  std::atomic<std::size_t> waiting{0};   // the size of `paused`
  // Bytes of memory for what its connections have sent and not finished.
  std::atomic<std::size_t> unfinished{0};
  Mutex mutex;
  std::deque<std::weak_ptr<Connection>> paused GUARDED_BY(mutex);  // not read until inflight falls
};

// What a connection asks of the server that holds it.
class ConnectionHost {
 public:
  virtual ~ConnectionHost() = default;
  // Wants EPOLLOUT as well, or no longer.
  virtual void watch_writable(const Connection& connection, bool writable) = 0;
  // The connection can be read again after a pause, or has frames left: some thread should continue
  // with it.
  virtual void resume(std::shared_ptr<Connection> connection) = 0;
  // One request was answered.
  virtual void answered(Connection& connection) = 0;
  // Called once when the connection is shut.
  virtual void closed(const Connection& connection) = 0;
};

// Thread-safe, except for `partial` and `drained`, which belong to the thread that holds the
// reading claim. Lives as long as the server or an unanswered request knows it; the descriptor is
// closed with the object, shut before.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  using Time = std::chrono::steady_clock::time_point;
  Connection(std::shared_ptr<ConnectionHost> host, std::uint64_t id, Fd fd, policy::Principal peer,
             std::shared_ptr<UidLoad> load, std::size_t unsent_limit);
  ~Connection() { account(0); }

  // The reading claim: one thread at a time reads. A claim that fails is remembered, so that the
  // holder checks again.
  bool claim() { return claims_.fetch_add(1) == 0; }
  // Releases the claim; false when more data arrived meanwhile: then it is still held and the
  // socket must be read again.
  bool release();

  // Writes a frame, or queues what the socket does not take. Closes a peer that lets too much pile
  // up, unless the server itself has: `held`.
  void write(ByteView body, bool held = false);
  // Writes what is queued. Called when the socket has room.
  void flush();
  // True while answers wait to be read by the peer, or too many for an earlier one.
  bool congested() const { return congested_ || holds_too_much_; }
  // The peer has sent its last: close when everything is answered and read.
  void end_of_input();
  // REQUIRES: the reading claim is held. Keeps what `reader` has beyond the frame that it returned.
  void keep(wire::FrameReader& reader) {
    partial = reader.take_rest();
    account(partial.memory());
  }
  void keep_nothing() {
    partial = wire::FrameReader();
    account(0);
  }
  // REQUIRES: the reading claim is held. `holds_later`: see net::HoldsLater. Returns the request's
  // place in the order of this connection.
  std::uint64_t begin_request(bool holds_later);
  // The answer to the request of that place, written now or when those before it that hold it back
  // are answered. Empty: there is none. Once for each request.
  void answer(std::uint64_t place, const SecretBytes& body);
  void close();
  bool is_closed() const { return closed_; }
  bool busy() const { return inflight_ > 0; }
  // Nothing is in progress, neither a request nor a frame nor an answer.
  bool idle() const { return !busy() && !congested() && frame_since.load() == Time{}; }
  std::size_t inflight() const { return inflight_; }

  const std::uint64_t id;
  const Fd fd;
  const policy::Principal peer;
  const std::shared_ptr<UidLoad> load;

  // The handler's own (Responder::kept).
  std::shared_ptr<void> kept;

  // Guarded by the reading claim.
  wire::FrameReader partial;
  bool drained = false;

  // Read by the sweep: since when a frame is incomplete, and when the peer last sent data. Zero:
  // not set.
  std::atomic<Time> frame_since{Time{}};
  std::atomic<Time> unread_since{Time{}};
  std::atomic<Time> last_heard;
  // The peer has sent its last or is gone: only a read of nothing drains it now, as no further edge
  // will come.
  std::atomic<bool> hung_up{false};
  // The holder of the claim has parked it here: who sets this back to false continues reading.
  std::atomic<bool> paused{false};

 private:
  // Of `load`, `bytes` are this connection's.
  void account(std::size_t bytes) {
    if (bytes >= accounted_) {
      load->unfinished += bytes - accounted_;
    } else {
      load->unfinished -= accounted_ - bytes;
    }
    accounted_ = bytes;
  }
  void queue(ByteView header_rest, ByteView body_rest) REQUIRES(write_mutex_);
  void close_if_done();
  void end_request();
  // Writes what nothing holds back anymore; returns how many answers.
  std::size_t release_held() REQUIRES(order_mutex_);

  const std::shared_ptr<ConnectionHost> host_;
  const std::size_t unsent_limit_;
  std::atomic<unsigned> claims_{0};
  std::atomic<std::size_t> inflight_{0};
  std::atomic<bool> ended_{false}, closed_{false}, congested_{false};
  std::uint64_t next_place_ = 0;         // guarded by the reading claim
  std::size_t accounted_ = 0;            // guarded by the reading claim
  std::atomic<std::size_t> holders_{0};  // the size of holding_
  std::atomic<bool> holds_too_much_{false};
  Mutex order_mutex_;
  std::set<std::uint64_t> holding_ GUARDED_BY(order_mutex_);  // unanswered, they hold back
  std::map<std::uint64_t, SecretBytes> held_ GUARDED_BY(order_mutex_);  // by place
  std::size_t held_bytes_ GUARDED_BY(order_mutex_) = 0;
  Mutex write_mutex_;
  SecretBytes unsent_ GUARDED_BY(write_mutex_);
  std::size_t sent_ GUARDED_BY(write_mutex_) = 0;  // of unsent_
};

}  // namespace keyagent::net
