// SPDX-License-Identifier: Apache-2.0
// Accepts connections: limits their number, and closes idle ones in favor of new ones.

#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "agent/base/error.h"
#include "agent/base/log.h"
#include "agent/net/server_impl.h"
#include "agent/wire/frame.h"

namespace keyagent::net {

using namespace std::chrono_literals;
using Now = std::chrono::steady_clock;

namespace {

// A uid with fewer connections than this may use the reserved places.
constexpr std::size_t kFew = 8;
// One place in this many of Limits::connections is reserved.
constexpr std::size_t kKeptPart = 8;
// Beyond Limits::connections, for root and the agent's own user.
constexpr std::size_t kEmergency = 16;

bool has_pending(int listener) {
  pollfd wait{listener, POLLIN, 0};
  return ::poll(&wait, 1, 0) > 0;
}

}  // namespace

void UnixServer::Impl::watch(int fd, std::uint64_t what, std::uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = what;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
    throw Error(Code::kInternal, std::string("socket server: epoll_ctl: ") + std::strerror(errno));
}

void UnixServer::Impl::arm_listener() {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLONESHOT;
  event.data.u64 = kListener;
  if (!stopping_) ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, listener_.get(), &event);
}

// Only the thread that got the listener's one-shot event is here. Without descriptors or memory the
// peers stay in the backlog for a while: trying again at once would spin (RELIABILITY 82).
void UnixServer::Impl::accept_all() {
  while (!stopping_) {
    Fd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (fd.valid()) {
      admit(std::move(fd));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      return arm_listener();
    } else if (errno != EINTR && errno != ECONNABORTED) {
      const int error = errno;
      // The kernel reports EMFILE before it checks for pending connections.
      if (!has_pending(listener_.get())) return arm_listener();
      const std::string why = std::strerror(error);
      if (error == EMFILE || error == ENFILE) close_an_idle_one();
      if (log_limiter_.admit("accept"))
        log_warning("net",
                    "connections are delayed: " + why + " (raise LimitNOFILE=, or close clients)");
      return timer.at(Now::now() + 50ms, [this] { arm_listener(); });
    }
  }
}

UnixServer::Impl::Held UnixServer::Impl::enter(Fd& fd, policy::Principal peer, Held& loser) {
  auto& load = loads_[peer.uid];
  if (!load) load = std::make_shared<UidLoad>();
  if (const std::string why = why_refused(peer, *load, loser); !why.empty()) {
    if (load->connections == 0 && load->inflight == 0) loads_.erase(peer.uid);
    throw Error(Code::kBusy, why);
  }
  auto connection =
      std::make_shared<Connection>(shared_from_this(), next_id_++, std::move(fd), std::move(peer),
                                   load, limits_.unsent_per_connection);
  connections_[connection->id] = connection;
  return connection;
}

void UnixServer::Impl::admit(Fd fd) {
  Held connection, loser;
  try {
    auto peer = peer_of(fd.get());
    const MutexLock lock(mutex_);
    connection = enter(fd, std::move(peer), loser);
  } catch (const Error& error) {
    ++refused;
    if (log_limiter_.admit("refused")) log_warning("net", error.what());
    SecretBytes frame;
    if (const auto body = farewell_(error); !body.empty()) wire::append_frame(frame, body);
    // Best effort: the peer learns why before it sees the end.
    [[maybe_unused]] const auto sent =
        ::send(fd.get(), frame.data(), frame.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    return;
  }
  ++accepted;
  if (loser) {
    ++displaced;
    loser->close();
  }
  try {
    watch(connection->fd.get(), connection->id, EPOLLIN | EPOLLRDHUP | EPOLLET);
  } catch (const Error& error) {
    log_error("net", error.what());
    return connection->close();
  }
  schedule_sweep();
}

// Empty: welcome, in the place of `loser` where that is set.
std::string UnixServer::Impl::why_refused(const policy::Principal& peer, const UidLoad& load,
                                          Held& loser) const {
  const std::size_t total = connections_.size(), limit = limits_.connections;
  if (load.connections >= limits_.connections_per_uid)
    return "uid " + std::to_string(peer.uid) + " has " + std::to_string(load.connections) +
           " connections, its limit (limits.connections-per-uid); close some";
  if (total + limit / kKeptPart < limit) return {};
  if (load.connections >= kFew)
    return "the agent has " + std::to_string(total) +
           " connections and reserves the rest for users with few (limits.connections); close "
           "some, or try again later";
  if (total < limit) return {};
  loser = idle_of_the_largest(std::max(load.connections + 1, kFew), 0ms);
  if (loser) return {};
  const bool own = peer.uid == 0 || peer.uid == ::geteuid();
  if (own && total < limit + kEmergency) return {};
  return "the agent has " + std::to_string(total) +
         " connections, its limit (limits.connections); try again later";
}

// Of those with more than `more_than` connections the uid with the most,
// and of its idle ones the one that was heard longest ago.
UnixServer::Impl::Held UnixServer::Impl::idle_of_the_largest(
    std::size_t more_than, std::chrono::milliseconds idle_for) const {
  const auto latest = Now::now() - idle_for;
  Held found;
  for (const auto& [id, each] : connections_) {
    const std::size_t count = each->load->connections;
    const auto heard = each->last_heard.load();
    if (count <= more_than || heard > latest || !each->idle()) continue;
    const std::size_t best = found ? found->load->connections.load() : 0;
    if (count > best || (count == best && heard < found->last_heard.load())) found = each;
  }
  return found;
}

// Who waits in the backlog is not known: only what is idle for long makes room for it.
void UnixServer::Impl::close_an_idle_one() {
  Held loser;
  {
    const MutexLock lock(mutex_);
    loser = idle_of_the_largest(1, limits_.scarce_idle);
  }
  if (!loser) return;
  ++displaced;
  loser->close();
}

}  // namespace keyagent::net
