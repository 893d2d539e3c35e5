// SPDX-License-Identifier: Apache-2.0
#include "agent/net/connection.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace keyagent::net {
namespace {

bool would_block(int error) {
  return error == EAGAIN || error == EWOULDBLOCK;
}

// sendmsg(2) that survives signals. -1 with errno as sendmsg leaves it.
ssize_t send_pieces(int fd, iovec* pieces, std::size_t count) {
  msghdr message{};
  message.msg_iov = pieces;
  message.msg_iovlen = count;
  ssize_t sent = -1;
  do {
    sent = ::sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (sent < 0 && errno == EINTR);
  return sent;
}

iovec piece(ByteView bytes) {
  return {const_cast<std::uint8_t*>(bytes.data()), bytes.size()};
}

}  // namespace

Connection::Connection(std::shared_ptr<ConnectionHost> host, std::uint64_t number, Fd socket,
                       policy::Principal who, std::shared_ptr<UidLoad> uid_load,
                       std::size_t unsent_limit)
    : id(number),
      fd(std::move(socket)),
      peer(std::move(who)),
      load(std::move(uid_load)),
      last_heard(std::chrono::steady_clock::now()),
      host_(std::move(host)),
      unsent_limit_(unsent_limit) {
  ++load->connections;
}

bool Connection::release() {
  unsigned mine = 1;
  if (claims_.compare_exchange_strong(mine, 0)) return true;
  claims_ = 1;
  return false;
}

void Connection::write(ByteView body, bool held) {
  const auto header = wire::frame_header(body.size());
  MutexLock lock(write_mutex_);
  if (closed_) return;
  std::size_t sent = 0;
  const bool waiting = !unsent_.empty();
  if (!waiting) {
    iovec pieces[] = {piece(header), piece(body)};
    const ssize_t count = send_pieces(fd.get(), pieces, 2);
    if (count < 0 && !would_block(errno)) {
      lock.unlock();
      return close();
    }
    sent = count < 0 ? 0 : static_cast<std::size_t>(count);
  }
  if (sent == header.size() + body.size()) return;
  const std::size_t of_header = std::min(sent, header.size());
  queue(ByteView(header).subspan(of_header), body.subspan(sent - of_header));
  const bool too_much = waiting && !held && unsent_.size() - sent_ > unsent_limit_;
  lock.unlock();
  if (too_much) close();
}

void Connection::queue(ByteView header_rest, ByteView body_rest) {
  const bool first = unsent_.empty();
  unsent_.insert(unsent_.end(), header_rest.begin(), header_rest.end());
  unsent_.insert(unsent_.end(), body_rest.begin(), body_rest.end());
  if (!first) return;
  congested_ = true;
  unread_since = std::chrono::steady_clock::now();
  host_->watch_writable(*this, true);
}

void Connection::flush() {
  MutexLock lock(write_mutex_);
  while (!closed_ && sent_ < unsent_.size()) {
    iovec rest = piece(ByteView(unsent_).subspan(sent_));
    const ssize_t count = send_pieces(fd.get(), &rest, 1);
    if (count < 0 && would_block(errno)) return;
    if (count < 0) {
      lock.unlock();
      return close();
    }
    sent_ += static_cast<std::size_t>(count);
    unread_since = std::chrono::steady_clock::now();
  }
  if (closed_ || !congested_) return;
  SecretBytes().swap(unsent_);
  sent_ = 0;
  congested_ = false;
  unread_since = Time{};
  host_->watch_writable(*this, false);
  lock.unlock();
  close_if_done();
  host_->resume(shared_from_this());
}

void Connection::end_of_input() {
  ended_ = true;
  close_if_done();
}

std::uint64_t Connection::begin_request(bool holds_later) {
  ++inflight_;
  ++load->inflight;
  const std::uint64_t place = next_place_++;
  if (holds_later) {
    const MutexLock lock(order_mutex_);
    holding_.insert(place);
    ++holders_;
  }
  return place;
}

// A request that holds this one back was begun before this one was read: where none is seen here,
// there is none.
void Connection::answer(std::uint64_t place, const SecretBytes& body) {
  std::size_t done = 1;
  bool goes_on = false;  // it was parked because too much was held back
  if (holders_ == 0) {
    if (!body.empty()) write(body);
  } else {
    const MutexLock lock(order_mutex_);
    if (held_.empty() && (holding_.empty() || place <= *holding_.begin())) {
      if (!body.empty()) write(body);
      if (holding_.erase(place) > 0) --holders_;
    } else {
      held_.emplace(place, body);
      held_bytes_ += body.size();
      done = release_held();
    }
    const bool too_much = held_bytes_ > unsent_limit_;
    goes_on = holds_too_much_.exchange(too_much) && !too_much;
  }
  for (; done > 0; --done) end_request();
  if (goes_on) host_->resume(shared_from_this());
}

std::size_t Connection::release_held() {
  std::size_t done = 0;
  while (!held_.empty() && (holding_.empty() || held_.begin()->first <= *holding_.begin())) {
    const auto first = held_.extract(held_.begin());
    if (!first.mapped().empty()) write(first.mapped(), true);
    held_bytes_ -= first.mapped().size();
    if (holding_.erase(first.key()) > 0) --holders_;
    ++done;
  }
  return done;
}

void Connection::end_request() {
  --load->inflight;
  --inflight_;
  close_if_done();
  host_->answered(*this);
}

void Connection::close_if_done() {
  if (ended_ && inflight_ == 0 && !congested_) close();
}

void Connection::close() {
  {
    MutexLock lock(write_mutex_);
    if (closed_.exchange(true)) return;
    ::shutdown(fd.get(), SHUT_RDWR);
    SecretBytes().swap(unsent_);
    sent_ = 0;
  }
  --load->connections;
  host_->closed(*this);
}

}  // namespace keyagent::net
