#pragma once
// One address in front of several servers, as nginx's stream or haproxy have it: each connection
// goes to the next server that takes it, byte by byte.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <map>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

namespace keyagent::test {

// On loopback. Its connections end with it.
class Forwarder {
 public:
  Forwarder() : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    auto* any = reinterpret_cast<sockaddr*>(&address);
    if (::bind(listener_, any, size) != 0 || ::listen(listener_, 128) != 0 ||
        ::getsockname(listener_, any, &size) != 0)
      throw std::runtime_error("no forwarder");
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { run(); });
  }
  Forwarder(const Forwarder&) = delete;
  ~Forwarder() {
    ended_ = true;
    thread_.join();
    for (const auto& [from, to] : other_) ::close(from);
    ::close(listener_);
  }

  int port() const { return port_; }
  void set_servers(std::vector<int> ports) {
    const std::lock_guard lock(mutex_);
    servers_ = std::move(ports);
  }

 private:
  static sockaddr_in loopback(int port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
  }

  // -1: none takes it.
  int reach() {
    const std::lock_guard lock(mutex_);
    for (std::size_t i = 0; i < servers_.size(); ++i) {
      const auto address = loopback(servers_[next_++ % servers_.size()]);
      const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
        return fd;
      ::close(fd);
    }
    return -1;
  }
  void take() {
    const int client = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (client < 0) return;
    const int server = reach();
    if (server < 0) {
      ::close(client);
      return;
    }
    other_[client] = server;
    other_[server] = client;
  }
  void pass(int from) {
    const auto found = other_.find(from);
    if (found == other_.end()) return;
    const int to = found->second;
    char bytes[16384];
    const auto count = ::read(from, bytes, sizeof bytes);
    if (count > 0 && ::send(to, bytes, static_cast<std::size_t>(count), MSG_NOSIGNAL) == count)
      return;
    for (const int fd : {from, to}) {
      other_.erase(fd);
      ::close(fd);
    }
  }
  void run() {
    while (!ended_) {
      std::vector<pollfd> watched{{listener_, POLLIN, 0}};
      for (const auto& [from, to] : other_) watched.push_back({from, POLLIN, 0});
      ::poll(watched.data(), watched.size(), 100);
      for (const auto& each : watched) {
        if (each.revents != 0 && each.fd != listener_) pass(each.fd);
      }
      if (watched[0].revents != 0) take();
    }
  }

  const int listener_;
  int port_ = 0;
  std::atomic<bool> ended_ = false;
  std::mutex mutex_;
  std::vector<int> servers_;  // guarded by mutex_
  std::size_t next_ = 0;      // guarded by mutex_
  std::map<int, int> other_;  // the thread's
  std::thread thread_;
};

}  // namespace keyagent::test
