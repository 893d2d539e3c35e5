#pragma once
// A TCP proxy on 127.0.0.1 that can lose everything, or reset.

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <stdexcept>
#include <thread>
#include <vector>

namespace keyagent::tls::test {

// One connection at a time.
class Proxy {
 public:
  explicit Proxy(std::uint16_t to) : to_(to) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = local(0);
    socklen_t size = sizeof address;
    if (::bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
        ::listen(listener_, 4) != 0 ||
        ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0)
      throw std::runtime_error("proxy");
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { run(); });
  }
  ~Proxy() {
    ended_ = true;
    thread_.join();
    ::close(listener_);
  }
  std::uint16_t port() const { return port_; }
  // How many times something passed, in both directions.
  std::size_t passed() const { return passed_; }
  // From now on nothing passes, and nobody is told.
  void blackhole() { blackhole_ = true; }
  void reset() { reset_ = true; }

 private:
  static sockaddr_in local(std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
  }
  bool pass(int from, int to) {
    ++passed_;
    std::array<char, 16384> block;
    const auto count = ::recv(from, block.data(), block.size(), 0);
    return count > 0 &&
           ::send(to, block.data(), static_cast<std::size_t>(count), MSG_NOSIGNAL) == count;
  }
  void run() {
    while (!ended_) {
      pollfd waiting{listener_, POLLIN, 0};
      if (::poll(&waiting, 1, 20) != 1) continue;
      const int one = ::accept(listener_, nullptr, nullptr);
      const int other = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      const sockaddr_in address = local(to_);
      if (::connect(other, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
        carry(one, other);
      const linger now{1, 0};
      for (const int each : {one, other}) {
        if (reset_) ::setsockopt(each, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        ::close(each);
      }
      reset_ = false;
    }
  }
  void carry(int one, int other) {
    while (!ended_ && !reset_) {
      std::array<pollfd, 2> waiting{pollfd{one, POLLIN, 0}, pollfd{other, POLLIN, 0}};
      if (blackhole_) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        continue;
      }
      if (::poll(waiting.data(), 2, 20) <= 0) continue;
      if (waiting[0].revents != 0 && !pass(one, other)) return;
      if (waiting[1].revents != 0 && !pass(other, one)) return;
    }
  }

  const std::uint16_t to_;
  int listener_ = -1;
  std::uint16_t port_ = 0;
  std::atomic<std::size_t> passed_{0};
  std::atomic<bool> ended_{false}, blackhole_{false}, reset_{false};
  std::thread thread_;
};

}  // namespace keyagent::tls::test
