// SPDX-License-Identifier: Apache-2.0
#pragma once
// The unix socket server: leader and followers on one epoll. The thread that read a frame also
// handles it and writes the answer, so that nothing is handed over when a thread is free (DESIGN
// decision 5; measured: a wake-up costs up to 60 us).

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "agent/base/bytes.h"
#include "agent/base/disk.h"
#include "agent/base/error.h"
#include "agent/policy/policy.h"

namespace keyagent::net {

// The answer to one frame, given exactly once: by the handling thread or at the deadline, whichever
// is first. Copyable handle, thread-safe; later answers, or answers to a closed connection, are
// dropped and wiped.
class Responder {
 public:
  struct Slot;
  explicit Responder(std::shared_ptr<Slot> slot) : slot_(std::move(slot)) {}
  // `body`: one serialized Response; framed and written here. Never blocks: what the socket does
  // not take is queued (bounded; a peer that does not read is disconnected) and flushed by the
  // epoll threads. Returns false when an answer had been given.
  bool answer(SecretBytes body) const;
  // The same at a later time, without holding a thread (uniform answer times, RELIABILITY 104).
  void answer_at(std::chrono::steady_clock::time_point when, SecretBytes body) const;
  bool answered() const;
  // What the handler keeps for this connection; destroyed with it. Not guarded: for servers whose
  // `inflight_per_connection` is 1.
  std::shared_ptr<void>& kept() const;

 private:
  std::shared_ptr<Slot> slot_;
};

// An eighth of `connections` is kept for uids that have fewer than eight. When all are taken, such
// a uid gets the place of the connection that has been idle longest of the uid with the most; root
// and the agent's own user find a few more places in any case (RELIABILITY 149).
struct Limits {
  std::size_t connections = 4096;
  std::size_t connections_per_uid = 1024;
  std::size_t inflight_per_uid =
      512;  // unanswered requests; the reader stops reading that uid's sockets beyond it
  // The same for one connection; 0: no limit. With 1 the frames of a connection are handled one
  // after the other and answered in their order, for a protocol whose answers carry no number.
  std::size_t inflight_per_connection = 0;
  std::size_t unsent_per_connection = 1 << 20;  // bytes
  // Memory for requests that have not arrived as a whole, of all connections of a uid, in bytes.
  // The connection that goes beyond it is closed with BUSY. REQUIRES: room for a whole frame.
  std::size_t unfinished_per_uid = 16 << 20;
  std::chrono::milliseconds frame_timeout{10000};
  std::chrono::milliseconds idle_timeout{0};  // 0: never
  // When no descriptors are left for new connections, connections idle for longer than this are
  // closed.
  std::chrono::milliseconds scarce_idle{10000};
};

struct Stats {
  std::size_t connections = 0;
  std::uint64_t accepted = 0, refused = 0, frames = 0, timeouts = 0;
  std::size_t unfinished = 0;   // bytes, of the uid that has the most (Limits::unfinished_per_uid)
  std::uint64_t displaced = 0;  // idle connections closed in favor of new ones
};

// Thrown by a FrameHandler for a frame that violates its protocol: the peer receives the error and
// is disconnected.
class ProtocolViolation : public Error {
 public:
  explicit ProtocolViolation(const std::string& text) : Error(Code::kUsage, text) {}
};

// Handles one frame. Called from a server thread; may block; must answer, sooner or later. `frame`
// is valid during the call only.
using FrameHandler =
    std::function<void(const policy::Principal& peer, ByteView frame, Responder responder)>;

// Whether later responses on the connection are held back until this frame is answered. For
// requests whose failures are answered at fixed times: a later response must not reveal when the
// failure happened (RELIABILITY 104). Later frames are still processed.
using HoldsLater = std::function<bool(ByteView frame)>;

// The last message to a connection that is closed for a fault, as the body of one frame; empty:
// none.
using Farewell = std::function<SecretBytes(const Error& fault)>;
// For peers that speak keyagent.proto: a Response with id 0 (PROTOCOL.md).
SecretBytes protocol_farewell(const Error& fault);

class UnixServer {
 public:
  // `listener`: a listening AF_UNIX SOCK_STREAM socket (from listen_unix() or socket activation).
  // `threads` >= 2. Starts at once.
  UnixServer(Fd listener, unsigned threads, Limits limits, FrameHandler handler,
             Farewell farewell = protocol_farewell, HoldsLater holds_later = {});
  ~UnixServer();
  // Stops accepting and reading, waits at most 5 s for requests in flight to be answered, closes
  // the connections and the socket, and waits for the handlers that still run: a process with a
  // call stuck in a module ends by _exit() instead. Not from a handler or a task. Afterwards
  // stats() and set_limits() still work, and at() drops its task.
  void stop();
  Stats stats() const;
  // Runs `task` on the timer thread at `when` (deadlines, periodic work). Short tasks only, which
  // do not throw. A task more than 100 ms away may run up to 16 ms late (it shares a wake-up);
  // dropped when the server ends.
  void at(std::chrono::steady_clock::time_point when, std::function<void()> task);
  // New limits apply to new connections and requests.
  void set_limits(const Limits& limits);

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

// Binds and listens. Refuses a path whose folder others may write, a path that is not a socket, and
// a socket that answers (another agent: Error{kBusy} naming its pid); removes a stale one. Mode and
// group are set before listen(). Throws Error{kConfiguration}.
Fd listen_unix(const std::filesystem::path& path, unsigned mode, const std::string& group);

// The principal of a connected socket: SO_PEERCRED, SO_PEERGROUPS. Throws Error{kDenied} when the
// kernel does not report it.
policy::Principal peer_of(int fd);

}  // namespace keyagent::net
