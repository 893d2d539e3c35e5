// SPDX-License-Identifier: Apache-2.0
#include "agent/net/unix_server.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "agent/base/clock.h"
#include "agent/base/error.h"
#include "agent/base/log.h"
#include "agent/net/server_impl.h"
#include "agent/wire/messages.h"

namespace keyagent::net {

using namespace std::chrono_literals;
using Now = std::chrono::steady_clock;

// Answers at most once; a request that its handler forgets closes the connection, so that the
// caller does not wait forever.
struct Responder::Slot {
  Slot(std::shared_ptr<Connection> to, std::uint64_t number)
      : connection(std::move(to)), place(number) {}
  ~Slot() {
    if (claimed) return;
    connection->close();
    connection->answer(place, {});
  }
  bool claim() { return !claimed.exchange(true); }
  void send(const SecretBytes& body) {
    if (body.empty() || body.size() > wire::kMaxAnswer) {
      log_error("net", "an answer of " + std::to_string(body.size()) +
                           " bytes cannot be sent; connection closed");
      connection->close();
      connection->answer(place, {});
    } else {
      connection->answer(place, body);
    }
  }

  const std::shared_ptr<Connection> connection;
  const std::uint64_t place;
  Timer* timer = nullptr;
  std::shared_ptr<ConnectionHost> host;  // keeps `timer`
  std::atomic<bool> claimed{false};
};

bool Responder::answer(SecretBytes body) const {
  if (!slot_->claim()) return false;
  slot_->send(body);
  return true;
}

void Responder::answer_at(std::chrono::steady_clock::time_point when, SecretBytes body) const {
  if (!slot_->claim()) return;
  auto kept = std::make_shared<const SecretBytes>(std::move(body));
  slot_->timer->at(when, [slot = slot_, kept] { slot->send(*kept); });
}

bool Responder::answered() const {
  return slot_->claimed;
}

std::shared_ptr<void>& Responder::kept() const {
  return slot_->connection->kept;
}

SecretBytes protocol_farewell(const Error& fault) {
  return wire::failure(0, fault);
}

namespace {

Fd checked(int fd, const char* what) {
  if (fd < 0)
    throw Error(Code::kInternal,
                std::string("socket server: ") + what + ": " + std::strerror(errno));
  return Fd(fd);
}

}  // namespace

UnixServer::Impl::Impl(Fd listener, Limits limits, FrameHandler handler, Farewell farewell,
                       HoldsLater holds_later)
    : listener_(std::move(listener)),
      epoll_(checked(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")),
      wake_(checked(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")),
      end_(checked(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")),
      handler_(std::move(handler)),
      farewell_(std::move(farewell)),
      holds_later_(std::move(holds_later)),
      log_limiter_(system_clock()),
      inflight_per_uid_(limits.inflight_per_uid),
      inflight_per_connection_(limits.inflight_per_connection),
      unfinished_per_uid_(limits.unfinished_per_uid),
      limits_(limits),
      next_id_(kFirstConnection) {}

void UnixServer::Impl::start(unsigned threads) {
  ::fcntl(listener_.get(), F_SETFL, ::fcntl(listener_.get(), F_GETFL) | O_NONBLOCK);
  watch(listener_.get(), kListener, EPOLLIN | EPOLLONESHOT);
  // Never read: every write is an edge, and an edge wakes one thread.
  watch(wake_.get(), kWake, EPOLLIN | EPOLLET);
  watch(end_.get(), kEnd, EPOLLIN);
  for (unsigned i = 0; i < threads; ++i) {
    threads_.emplace_back([this] { run(); });
    pthread_setname_np(threads_.back().native_handle(), ("ka-net-" + std::to_string(i)).c_str());
  }
}

void UnixServer::Impl::stop() {
  stopping_ = true;
  if (listener_.valid()) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, listener_.get(), nullptr);
  ::eventfd_write(end_.get(), 1);
  {
    MutexLock lock(mutex_);
    quiet_.wait_for(mutex_, 5s, [this] { return inflight_ == 0; });
  }
  for (const auto& connection : all_connections()) connection->close();
  for (auto& thread : threads_) thread.join();
  threads_.clear();
  timer.stop();
  listener_ = {};
  MutexLock lock(ready_mutex_);
  ready_.clear();
  turns_.clear();
}

void UnixServer::Impl::handle(const Held& connection, std::uint64_t place, ByteView frame) {
  auto slot = std::make_shared<Responder::Slot>(connection, place);
  slot->timer = &timer;
  slot->host = shared_from_this();
  try {
    // `slot` outlives the responder: what closes the connection comes after the farewell.
    handler_(connection->peer, frame, Responder(slot));
  } catch (const ProtocolViolation& error) {
    violated(connection, error);
  } catch (const std::exception& error) {
    log_error("net", std::string("a request failed without an answer: ") + error.what());
  }
}

UnixServer::Impl::Held UnixServer::Impl::find(std::uint64_t id) {
  MutexLock lock(mutex_);
  const auto found = connections_.find(id);
  return found == connections_.end() ? nullptr : found->second;
}

std::vector<UnixServer::Impl::Held> UnixServer::Impl::all_connections() {
  MutexLock lock(mutex_);
  std::vector<Held> all;
  all.reserve(connections_.size());
  for (const auto& [id, connection] : connections_) all.push_back(connection);
  return all;
}

std::size_t UnixServer::Impl::connection_count() {
  MutexLock lock(mutex_);
  return connections_.size();
}

std::size_t UnixServer::Impl::largest_unfinished() {
  MutexLock lock(mutex_);
  std::size_t most = 0;
  for (const auto& [uid, load] : loads_) most = std::max(most, load->unfinished.load());
  return most;
}

void UnixServer::Impl::set_limits(const Limits& limits) {
  MutexLock lock(mutex_);
  limits_ = limits;
  inflight_per_uid_ = limits.inflight_per_uid;
  inflight_per_connection_ = limits.inflight_per_connection;
  unfinished_per_uid_ = limits.unfinished_per_uid;
}

void UnixServer::Impl::watch_writable(const Connection& connection, bool writable) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLRDHUP | EPOLLET;
  if (writable) event.events |= EPOLLOUT;
  event.data.u64 = connection.id;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, connection.fd.get(), &event);
}

void UnixServer::Impl::closed(const Connection& connection) {
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, connection.fd.get(), nullptr);
  MutexLock lock(mutex_);
  connections_.erase(connection.id);
  if (connection.load->connections == 0 && connection.load->inflight == 0)
    loads_.erase(connection.peer.uid);
}

void UnixServer::Impl::schedule_sweep() {
  MutexLock lock(mutex_);
  if (sweeping_ || connections_.empty()) return;
  sweeping_ = true;
  auto shortest = limits_.frame_timeout;
  if (limits_.idle_timeout > 0ms) shortest = std::min(shortest, limits_.idle_timeout);
  timer.at(Now::now() + std::clamp(shortest / 4, 5ms, 1000ms), [this] { sweep(); });
}

// Closes who keeps a frame open (slowloris, RELIABILITY 114), does not read its answers, or is idle
// for too long.
void UnixServer::Impl::sweep() {
  Limits limits;
  {
    MutexLock lock(mutex_);
    sweeping_ = false;
    limits = limits_;
  }
  const auto now = Now::now();
  const auto late = [now](Connection::Time since, std::chrono::milliseconds limit) {
    return since != Connection::Time{} && limit > 0ms && now - since > limit;
  };
  for (const auto& connection : all_connections()) {
    const bool idle = !connection->busy() && late(connection->last_heard, limits.idle_timeout);
    if (!idle && !late(connection->frame_since, limits.frame_timeout) &&
        !late(connection->unread_since, limits.frame_timeout))
      continue;
    ++timeouts;
    connection->close();
  }
  schedule_sweep();
}

UnixServer::UnixServer(Fd listener, unsigned threads, Limits limits, FrameHandler handler,
                       Farewell farewell, HoldsLater holds_later)
    : impl_(std::make_shared<Impl>(std::move(listener), limits, std::move(handler),
                                   std::move(farewell), std::move(holds_later))) {
  impl_->start(threads);
}

UnixServer::~UnixServer() {
  stop();
}

void UnixServer::stop() {
  impl_->stop();
}

Stats UnixServer::stats() const {
  return {
      impl_->connection_count(),   impl_->accepted, impl_->refused, impl_->frames, impl_->timeouts,
      impl_->largest_unfinished(), impl_->displaced};
}

void UnixServer::at(std::chrono::steady_clock::time_point when, std::function<void()> task) {
  impl_->timer.at(when, std::move(task));
}

void UnixServer::set_limits(const Limits& limits) {
  impl_->set_limits(limits);
}

}  // namespace keyagent::net
