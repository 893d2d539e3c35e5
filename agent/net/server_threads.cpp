// SPDX-License-Identifier: Apache-2.0
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "agent/base/error.h"
#include "agent/base/log.h"
#include "agent/net/server_impl.h"
#include "agent/wire/messages.h"

namespace keyagent::net {

using Clock = std::chrono::steady_clock;

namespace {

// After this many connections with work left, a thread asks epoll for others: a peer that pipelines
// must not starve them.
constexpr unsigned kReadyInARow = 4;

}  // namespace

void UnixServer::Impl::run() {
  wire::FrameReader reader;
  unsigned in_a_row = 0;
  while (!stopping_) {
    const bool look = ++in_a_row % kReadyInARow == 0;
    if (!look && take_ready(reader)) continue;
    ++idle_;  // from here on a push writes to wake_: the queue is checked once more
    epoll_event event{};
    const int timeout = ready_count_ > 0 ? 0 : -1;
    const int count = ::epoll_wait(epoll_.get(), &event, 1, timeout);
    --idle_;
    if (count == 1) dispatch(event.data.u64, event.events, reader);
  }
}

void UnixServer::Impl::push_ready(Held connection) {
  {
    MutexLock lock(ready_mutex_);
    const std::uint32_t uid = connection->peer.uid;
    auto& mine = ready_[uid];
    if (mine.empty()) turns_.push_back(uid);
    mine.push_back(std::move(connection));
    ++ready_count_;
  }
  if (idle_ > 0) ::eventfd_write(wake_.get(), 1);
}

bool UnixServer::Impl::take_ready(wire::FrameReader& reader) {
  if (ready_count_ == 0) return false;
  Held connection;
  {
    MutexLock lock(ready_mutex_);
    if (turns_.empty()) return false;
    const std::uint32_t uid = turns_.front();
    turns_.pop_front();
    auto& mine = ready_[uid];
    connection = std::move(mine.front());
    mine.pop_front();
    --ready_count_;
    if (mine.empty()) {
      ready_.erase(uid);
    } else {
      turns_.push_back(uid);
    }
  }
  serve(connection, reader);
  return true;
}

void UnixServer::Impl::dispatch(std::uint64_t what, std::uint32_t events,
                                wire::FrameReader& reader) {
  if (what == kListener) return accept_all();
  if (what < kFirstConnection) return;  // a wake-up: run() checks the queue and stopping_
  const Held connection = find(what);
  if (!connection) return;
  if ((events & EPOLLOUT) != 0) connection->flush();
  if ((events & (EPOLLRDHUP | EPOLLHUP)) != 0) connection->hung_up = true;
  if ((events & ~EPOLLOUT) != 0 && connection->claim()) serve(connection, reader);
}

// REQUIRES: the reading claim is held. Reads one frame, gives the claim on, handles the frame.
void UnixServer::Impl::serve(const Held& connection, wire::FrameReader& reader) {
  if (connection->partial.pending() > 0) reader = std::move(connection->partial);
  ByteView frame;
  if (!take_frame(connection, reader, frame)) {
    reader.reset();
    return resume_one(*connection->load);
  }
  connection->frame_since = Connection::Time{};
  const auto place = connection->begin_request(holds_later_ && holds_later_(frame));
  ++inflight_;
  ++frames;
  if (!connection->drained || reader.ready()) {
    if (keep(connection, reader)) push_ready(connection);
  } else if (!put_away(connection, reader)) {
    push_ready(connection);
  }
  handle(connection, place, frame);
  reader.reset();
}

// False when there is no frame to handle now; the claim is then released, parked, or kept forever
// by a closed connection.
bool UnixServer::Impl::take_frame(const Held& connection, wire::FrameReader& reader,
                                  ByteView& frame) {
  try {
    for (;;) {
      if (stopping_ || connection->is_closed()) return false;
      if (must_pause(*connection)) {
        if (pause(connection, reader)) return false;
        continue;
      }
      if (const auto next = reader.next()) {
        frame = *next;
        return true;
      }
      if (connection->drained) {
        if (put_away(connection, reader)) return false;
        if (connection->partial.pending() > 0) reader = std::move(connection->partial);
      }
      if (!read_some(connection, reader)) return false;
    }
  } catch (const Error& error) {
    violated(connection, error);
    return false;
  }
}

// Keeps with the connection what is left; false when its user has no room for it, and the
// connection was closed for that (RELIABILITY 153).
bool UnixServer::Impl::keep(const Held& connection, wire::FrameReader& reader) {
  connection->keep(reader);
  const std::size_t limit = unfinished_per_uid_;
  if (connection->load->unfinished <= limit) return true;
  // Before the close, so that the memory is counted as free when the peer sees the close.
  connection->keep_nothing();
  violated(connection,
           Error(Code::kBusy, "more bytes of unfinished requests than a user may have (" +
                                  std::to_string(limit) +
                                  ", limits.unfinished-bytes-per-uid): send each request as a "
                                  "whole, and read its answer"));
  return false;
}

// Stores an incomplete frame with the connection and releases the claim; false when more has
// arrived and the claim is still held. The claim on a closed connection is never released.
bool UnixServer::Impl::put_away(const Held& connection, wire::FrameReader& reader) {
  connection->drained = false;
  if (reader.pending() == 0) {
    connection->keep_nothing();
  } else {
    if (!keep(connection, reader)) return true;
    if (connection->frame_since.load() == Connection::Time{})
      connection->frame_since = Clock::now();
  }
  return connection->release();
}

// An edge-triggered socket is drained when a read brings less than there was room for. False at the
// end of input.
bool UnixServer::Impl::read_some(const Held& connection, wire::FrameReader& reader) {
  const auto room = reader.space();
  ssize_t count = -1;
  do {
    count = ::recv(connection->fd.get(), room.data(), room.size(), MSG_DONTWAIT);
  } while (count < 0 && errno == EINTR);
  if (count > 0) {
    connection->drained = static_cast<std::size_t>(count) < room.size() && !connection->hung_up;
    connection->last_heard = Clock::now();
    reader.commit(static_cast<std::size_t>(count));
    return true;
  }
  if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
    connection->drained = true;
    return true;
  }
  if (count == 0) {
    connection->end_of_input();
  } else {
    connection->close();
  }
  return false;
}

bool UnixServer::Impl::waits_for_own(const Connection& connection) const {
  return inflight_per_connection_ > 0 && connection.inflight() >= inflight_per_connection_;
}

bool UnixServer::Impl::must_pause(const Connection& connection) const {
  return connection.congested() || waits_for_own(connection) ||
         connection.load->inflight >= inflight_per_uid_;
}

// Parks the claim until answers have left. False when that has happened meanwhile: the claim is
// still held.
bool UnixServer::Impl::pause(const Held& connection, wire::FrameReader& reader) {
  if (!keep(connection, reader)) return true;
  connection->drained = false;
  UidLoad& load = *connection->load;
  connection->paused = true;
  if (!connection->congested() && !waits_for_own(*connection)) {
    MutexLock lock(load.mutex);
    load.paused.push_back(connection);
    ++load.waiting;
  }
  if (must_pause(*connection) || !connection->paused.exchange(false)) return true;
  if (connection->partial.pending() > 0) reader = std::move(connection->partial);
  return false;
}

void UnixServer::Impl::resume(Held connection) {
  if (connection->paused.exchange(false)) push_ready(std::move(connection));
}

// Lets one connection of this uid continue; it passes the turn on when it has nothing to ask.
void UnixServer::Impl::resume_one(UidLoad& load) {
  while (load.waiting > 0 && load.inflight < inflight_per_uid_) {
    Held next;
    {
      MutexLock lock(load.mutex);
      if (load.paused.empty()) return;
      next = load.paused.front().lock();
      load.paused.pop_front();
      --load.waiting;
    }
    if (next && next->paused.exchange(false)) return push_ready(std::move(next));
  }
}

void UnixServer::Impl::answered(Connection& connection) {
  if (--inflight_ == 0 && stopping_) {
    MutexLock lock(mutex_);
    quiet_.notify_all();
  }
  if (inflight_per_connection_ > 0) resume(connection.shared_from_this());
  if (connection.load->waiting > 0) resume_one(*connection.load);
}

void UnixServer::Impl::violated(const Held& connection, const Error& error) {
  if (log_limiter_.admit("violation of " + connection->peer.text()))
    log_warning("net", connection->peer.text() + " sent " + error.what() + "; connection closed");
  if (const auto body = farewell_(error); !body.empty()) connection->write(body);
  connection->close();
}

}  // namespace keyagent::net
