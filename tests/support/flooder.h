// SPDX-License-Identifier: Apache-2.0
#pragma once
// Connections of another address of this host (127.0.0.2 …): a stranger who floods.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>

namespace keyagent::test {

// A TCP connection, on which TLS may be spoken. Believes every server.
class Stranger {
 public:
  Stranger(const std::string& from, int port) {
    fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const auto own = address(from, 0), other = address("127.0.0.1", port);
    const bool bound = ::bind(fd_, reinterpret_cast<const sockaddr*>(&own), sizeof own) == 0;
    const timeval patience{30, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    ::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    connected_ =
        bound && ::connect(fd_, reinterpret_cast<const sockaddr*>(&other), sizeof other) == 0;
  }
  Stranger(Stranger&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)),
        connected_(other.connected_),
        context_(std::move(other.context_)),
        ssl_(std::move(other.ssl_)) {}
  ~Stranger() {
    ssl_.reset();
    if (fd_ >= 0) ::close(fd_);
  }

  bool connected() const { return connected_; }
  // The server has ended it.
  bool ended() const {
    pollfd what{fd_, POLLRDHUP, 0};
    return ::poll(&what, 1, 0) == 1;
  }
  bool handshake() {
    context_.reset(SSL_CTX_new(TLS_client_method()));
    ssl_.reset(SSL_new(context_.get()));
    return connected_ && SSL_set_fd(ssl_.get(), fd_) == 1 && SSL_connect(ssl_.get()) == 1;
  }
  // The status of the answer; 0: there was none. REQUIRES: handshake().
  int post(const std::string& path, const std::string& body) {
    const std::string request =
        "POST " + path +
        " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: " +
        std::to_string(body.size()) + "\r\n\r\n" + body;
    if (SSL_write(ssl_.get(), request.data(), static_cast<int>(request.size())) <= 0) return 0;
    char answer[4096];
    const int count = SSL_read(ssl_.get(), answer, sizeof answer);
    const std::string text(answer, count > 0 ? static_cast<std::size_t>(count) : 0);
    return text.size() > 12 ? std::atoi(text.c_str() + 9) : 0;
  }

 private:
  static sockaddr_in address(const std::string& text, int port) {
    sockaddr_in out{};
    out.sin_family = AF_INET;
    out.sin_port = htons(static_cast<std::uint16_t>(port));
    ::inet_pton(AF_INET, text.c_str(), &out.sin_addr);
    return out;
  }
  struct Free {
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
    void operator()(SSL* ssl) const { SSL_free(ssl); }
  };
  int fd_ = -1;
  bool connected_ = false;
  std::unique_ptr<SSL_CTX, Free> context_;
  std::unique_ptr<SSL, Free> ssl_;
};

}  // namespace keyagent::test
