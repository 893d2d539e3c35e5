// SPDX-License-Identifier: Apache-2.0
#include "agent/client/channel.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "agent/base/mutex.h"
#include "agent/wire/messages.h"

namespace keyagent::client {
namespace {

using Now = std::chrono::steady_clock;
using std::chrono::milliseconds;

milliseconds left_until(SteadyTime deadline) {
  return std::chrono::ceil<milliseconds>(deadline - Now::now());
}

timeval as_timeval(milliseconds time) {
  const auto positive = std::max(time, milliseconds(1)).count();
  return {positive / 1000, static_cast<suseconds_t>(positive % 1000 * 1000)};
}

[[noreturn]] void throw_unreachable(const std::filesystem::path& path, const std::string& why) {
  throw Error(Code::kPeer, "no agent at " + path.string() + ": " + why);
}

std::string reason_of(int error) {
  switch (error) {
    case ENOENT:
      return "the socket does not exist; start the agent (systemctl start keyagentd@NAME, or "
             "keyagentd --config FILE) or name its socket (--socket, KEYAGENT_SOCKET)";
    case ECONNREFUSED:
      return "no process listens on it; start the agent (systemctl start keyagentd@NAME, or "
             "keyagentd --config FILE)";
    case EACCES:
      return "permission denied; add this user to the group of the socket (ls -l shows it)";
    case EAGAIN:
      return "the agent accepts no connections (overloaded or stopped); try again";
    default:
      return std::strerror(error);
  }
}

// Someone else who listens at the agreed path would be sent plaintexts to seal (RELIABILITY 113).
void check_server(int fd, const std::filesystem::path& path) {
  ucred server{};
  socklen_t size = sizeof server;
  struct stat file {};
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &server, &size) != 0)
    throw_unreachable(path, "the kernel does not report the listening process");
  const bool owner = ::stat(path.c_str(), &file) == 0 && file.st_uid == server.uid;
  if (server.uid != 0 && server.uid != ::geteuid() && !owner)
    throw_unreachable(
        path,
        "uid " + std::to_string(server.uid) +
            " listens on it, which is neither root, nor your user, nor the owner of the socket");
}

// Looked up where this thread's working directory is, when it is relative.
Fd connect_here(const std::filesystem::path& path, SteadyTime deadline) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.string().size() >= sizeof address.sun_path)
    throw_unreachable(path, "the path exceeds a socket path's maximum of 107 bytes");
  std::memcpy(address.sun_path, path.c_str(), path.string().size() + 1);
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) throw_unreachable(path, std::strerror(errno));
  const timeval limit = as_timeval(left_until(deadline));
  ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  int result = -1;
  do {
    result = ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  } while (result != 0 && errno == EINTR && Now::now() < deadline);
  if (result != 0) throw_unreachable(path, reason_of(errno));
  check_server(fd.get(), path);
  return fd;
}

}  // namespace

Fd connect_agent(const std::filesystem::path& path, SteadyTime deadline, const RootFolder* root) {
  if (root == nullptr || !path.is_absolute() || !root->left()) return connect_here(path, deadline);
  Fd fd;
  root->run(path, [&](const auto& from_root) { fd = connect_here(from_root, deadline); });
  return fd;
}

Channel::Channel(Fd fd, milliseconds patience)
    : fd_(std::move(fd)), patience_(patience), process_(::getpid()) {
  const timeval limit = as_timeval(patience_);
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
}

void Channel::abandon() {
  fd_ = Fd();
  broken_ = true;
}

bool Channel::closed_while_idle() {
  using namespace std::chrono_literals;
  const auto now = Now::now();
  if (now - used_.exchange(now) < 1s) return false;
  {
    const MutexLock lock(mutex_);
    if (reading_ || !waiters_.empty()) return false;
  }
  char byte = 0;
  const ssize_t count = ::recv(fd_.get(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return count == 0 || (count < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

void Channel::fail(const std::string& why) {
  MutexLock lock(mutex_);
  if (!broken_.exchange(true)) {
    why_ = why;
    ::shutdown(fd_.get(), SHUT_RDWR);
  }
  for (auto& [id, waiter] : waiters_) waiter->wake.notify_one();
}

void Channel::send(ByteView frame, SteadyTime deadline) {
  MutexLock lock(send_mutex_);
  std::size_t done = 0;
  while (done < frame.size()) {
    const ssize_t count =
        ::send(fd_.get(), frame.data() + done, frame.size() - done, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count >= 0) {
      done += static_cast<std::size_t>(count);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      pollfd wait{fd_.get(), POLLOUT, 0};
      const auto left = left_until(deadline);
      if (left.count() > 0) {
        ::poll(&wait, 1, static_cast<int>(left.count()));
      } else if (done == 0) {
        throw Error(Code::kDeadline, "timeout while sending the request to the agent");
      } else {
        fail("timeout after a part of the request was sent");
        return;
      }
    } else if (errno != EINTR) {
      return;  // the reader learns why, and may find the agent's last word
    }
  }
}

wire::Response Channel::call(std::uint64_t id, ByteView frame, SteadyTime deadline) {
  Waiter mine;
  {
    MutexLock lock(mutex_);
    waiters_[id] = &mine;
  }
  try {
    send(frame, deadline);
  } catch (...) {
    MutexLock lock(mutex_);
    waiters_.erase(id);
    throw;
  }
  MutexLock lock(mutex_);
  while (!mine.response && !broken_ && Now::now() < deadline) {
    if (reading_) {
      mine.wake.wait_until(mutex_, deadline);
    } else {
      reading_ = true;
      read_frames(mine, deadline);
      reading_ = false;
    }
  }
  waiters_.erase(id);
  if (!reading_ && !waiters_.empty()) waiters_.begin()->second->wake.notify_one();
  if (mine.response) return std::move(*mine.response);
  if (refusal_) throw Error(*refusal_);
  if (broken_) throw ConnectionLost{why_};
  throw Error(Code::kDeadline, "the agent did not respond within the deadline");
}

// As the one reader. Gives the mutex up meanwhile; returns when `mine` has its answer, the
// connection broke or time is over.
void Channel::read_frames(const Waiter& mine, SteadyTime deadline) {
  const MutexPause pause(mutex_);
  std::string why;
  bool done = false;
  try {
    for (bool first = true; !done; first = false) {
      const auto room = reader_.space();
      const ssize_t count = receive(room, deadline, first);
      if (count == 0) why = "the agent closed the connection";
      if (count < 0 && errno != EAGAIN && errno != EINTR) why = std::strerror(errno);
      if (!why.empty()) break;
      if (count > 0) reader_.commit(static_cast<std::size_t>(count));
      MutexLock inner(mutex_);
      while (const auto body = reader_.next()) deliver(*body);
      done = mine.response || broken_ || Now::now() >= deadline;
    }
  } catch (const Error& error) {
    why = error.what();
  }
  if (reader_.pending() == 0) reader_.reset();
  if (!why.empty()) fail(why);
}

// The first wait of a call is one recv(2), limited by the socket's own timeout; later ones use the
// remaining time.
ssize_t Channel::receive(std::span<std::uint8_t> room, SteadyTime deadline, bool first) {
  if (first && left_until(deadline) + milliseconds(1) >= patience_)
    return ::recv(fd_.get(), room.data(), room.size(), 0);
  pollfd wait{fd_.get(), POLLIN, 0};
  const auto left = std::max<std::int64_t>(left_until(deadline).count(), 0);
  const int ready = ::poll(&wait, 1, static_cast<int>(left));
  if (ready <= 0) {
    if (ready == 0) errno = EAGAIN;
    return -1;
  }
  return ::recv(fd_.get(), room.data(), room.size(), MSG_DONTWAIT);
}

// An answer no one waits for anymore came after its deadline.
void Channel::deliver(ByteView body) {
  wire::Response response;
  if (!wire::parse(body, response)) throw Error(Code::kPeer, "the agent sent a malformed response");
  if (response.id() == 0) {
    refusal_.emplace(wire::code_of(response.failure().code()), response.failure().text());
    return;
  }
  const auto found = waiters_.find(response.id());
  if (found == waiters_.end()) return wire::wipe(response);
  found->second->response = std::move(response);
  found->second->wake.notify_one();
}

}  // namespace keyagent::client
