// SPDX-License-Identifier: Apache-2.0
#pragma once
// A TCP proxy on loopback, in front of one server or of several as nginx's stream or haproxy have
// it, whose network fails: in one way or both, at once or slowly.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <list>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace keyagent::test {

// Each connection goes to the next server that takes it. What is lost for a while is held, as TCP
// would send it again: a connection that outlives that continues. Both ends see the proxy alone.
class LossyProxy {
 public:
  explicit LossyProxy(std::vector<int> servers = {})
      : servers_(std::move(servers)), listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    auto* any = reinterpret_cast<sockaddr*>(&address);
    if (::bind(listener_, any, size) != 0 || ::listen(listener_, 128) != 0 ||
        ::getsockname(listener_, any, &size) != 0)
      throw std::runtime_error("no proxy");
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { run(); });
  }
  LossyProxy(const LossyProxy&) = delete;
  ~LossyProxy() {
    ended_ = true;
    thread_.join();
    for (auto& each : pairs_) end(each, false);
    ::close(listener_);
  }

  int port() const { return port_; }
  void set_servers(std::vector<int> ports) {
    const std::lock_guard lock(mutex_);
    servers_ = std::move(ports);
  }
  // How often something came from either end.
  std::size_t passed() const { return passed_; }

  // Nothing passes in this direction; neither end gets an error.
  void hold(bool to_server, bool to_client) {
    to_server_held_ = to_server;
    to_client_held_ = to_client;
  }
  // All connections are reset, and each new one.
  void reset(bool on) { reset_ = on; }
  // The server's ends are gone, the client hears nothing of it; new connections are held.
  void half_open() {
    hold(true, true);
    forget_servers_ = true;
  }
  // Each way.
  void delay(std::chrono::milliseconds time) { delay_ = time.count(); }
  // One bit of the byte at this position of each connection, in this way, is another.
  void change(bool to_server, std::size_t at) {
    change_to_server_ = to_server;
    change_at_ = at;
  }
  void heal() {
    hold(false, false);
    reset_ = false;
    delay_ = 0;
    change_at_ = kNowhere;
  }

 private:
  static constexpr std::size_t kWindow = 64;  // chunks
  static constexpr std::size_t kNowhere = SIZE_MAX;
  using Time = std::chrono::steady_clock::time_point;
  struct Chunk {
    Time due;
    std::string bytes;
  };
  struct Way {
    std::deque<Chunk> waiting;
    bool over = false;       // the end that writes is done
    std::size_t passed = 0;  // bytes
    bool takes() const { return !over && waiting.size() < kWindow; }
  };
  struct Pair {
    int client = -1, server = -1;
    Way to_server, to_client;
  };

  static sockaddr_in loopback(int port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
  }
  static void close_one(int& fd, bool reset) {
    if (fd < 0) return;
    const linger now{1, 0};
    if (reset) ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    ::close(fd);
    fd = -1;
  }
  static void end(Pair& pair, bool reset) {
    close_one(pair.client, reset);
    close_one(pair.server, reset);
  }

  // -1: none takes it.
  int reach() {
    const std::lock_guard lock(mutex_);
    for (std::size_t i = 0; i < servers_.size(); ++i) {
      const auto address = loopback(servers_[next_++ % servers_.size()]);
      int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
        return fd;
      close_one(fd, false);
    }
    return -1;
  }
  void take() {
    Pair pair;
    pair.client = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (pair.client < 0) return;
    if (!reset_) pair.server = reach();
    if (pair.server < 0) return end(pair, true);
    pairs_.push_back(pair);
  }
  void read(int from, Way& way, bool to_server) {
    ++passed_;
    char bytes[16384];
    const auto count = ::recv(from, bytes, sizeof bytes, MSG_DONTWAIT);
    if (count <= 0) {
      way.over = true;
      return;
    }
    const auto size = static_cast<std::size_t>(count);
    const std::size_t at = change_at_;
    if (to_server == change_to_server_ && at >= way.passed && at < way.passed + size)
      bytes[at - way.passed] ^= 1;
    way.passed += size;
    way.waiting.push_back({std::chrono::steady_clock::now() + std::chrono::milliseconds(delay_),
                           std::string(bytes, size)});
  }
  // False: the connection is over.
  static bool write(int to, Way& way, bool held) {
    if (held) return true;
    const auto now = std::chrono::steady_clock::now();
    while (!way.waiting.empty() && way.waiting.front().due <= now) {
      const auto& bytes = way.waiting.front().bytes;
      if (::send(to, bytes.data(), bytes.size(), MSG_NOSIGNAL) !=
          static_cast<ssize_t>(bytes.size()))
        return false;
      way.waiting.pop_front();
    }
    return !way.over || !way.waiting.empty();
  }
  void pass(Pair& pair, const pollfd& client, const pollfd& server) {
    if (client.revents != 0) read(pair.client, pair.to_server, true);
    if (server.revents != 0) read(pair.server, pair.to_client, false);
    const bool alive = pair.server >= 0 && write(pair.server, pair.to_server, to_server_held_) &&
                       write(pair.client, pair.to_client, to_client_held_);
    const bool lost = pair.server < 0 && (to_client_held_ || pair.client < 0);
    if (!alive && !lost) end(pair, pair.server < 0);
  }
  void run() {
    while (!ended_) {
      std::vector<pollfd> watched{{listener_, POLLIN, 0}};
      for (const auto& each : pairs_) {
        watched.push_back({each.to_server.takes() ? each.client : -1, POLLIN, 0});
        watched.push_back({each.to_client.takes() ? each.server : -1, POLLIN, 0});
      }
      ::poll(watched.data(), watched.size(), 10);
      if (forget_servers_.exchange(false)) {
        for (auto& each : pairs_) close_one(each.server, true);
      }
      std::size_t at = 1;
      for (auto& each : pairs_) {
        if (reset_) end(each, true);
        if (each.client >= 0) pass(each, watched[at], watched[at + 1]);
        at += 2;
      }
      pairs_.remove_if([](const auto& each) { return each.client < 0; });
      if (watched[0].revents != 0) take();
    }
  }

  std::mutex mutex_;
  std::vector<int> servers_;  // guarded by mutex_
  std::size_t next_ = 0;      // guarded by mutex_
  const int listener_;
  int port_ = 0;
  std::atomic<std::size_t> passed_ = 0;
  std::atomic<bool> ended_ = false, reset_ = false, forget_servers_ = false;
  std::atomic<bool> to_server_held_ = false, to_client_held_ = false;
  std::atomic<bool> change_to_server_ = false;
  std::atomic<std::size_t> change_at_ = kNowhere;
  std::atomic<long> delay_ = 0;
  std::list<Pair> pairs_;  // the thread's
  std::thread thread_;
};

}  // namespace keyagent::test
