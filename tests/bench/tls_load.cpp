// SPDX-License-Identifier: Apache-2.0
// Full TLS handshakes with a server on this host, one connection after another: no resumption, no
// request.
//   --port N --ca FILE [--clients N] [--milliseconds N] [--name NAME]
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <stdexcept>
#include <string>

#include "measure.h"

namespace keyagent::bench {
namespace {

[[noreturn]] void fail(const char* what) {
  char text[200] = "";
  ERR_error_string_n(ERR_get_error(), text, sizeof text);
  throw std::runtime_error(std::string(what) + ": " + text);
}

using Context = std::shared_ptr<SSL_CTX>;

Context make_context(const std::string& ca) {
  Context context(SSL_CTX_new(TLS_client_method()), SSL_CTX_free);
  if (!context || SSL_CTX_load_verify_locations(context.get(), ca.c_str(), nullptr) != 1)
    fail("the certificate of the authority");
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_min_proto_version(context.get(), TLS1_3_VERSION);
  SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
  return context;
}

class Connection {
 public:
  explicit Connection(unsigned port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int now = 1;
    ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &now, sizeof now);
    // Closed by a reset: the ports of thousands of connections would wait otherwise.
    const linger none{1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    if (::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
      throw std::runtime_error("no server at port " + std::to_string(port));
  }
  ~Connection() { ::close(fd_); }
  Connection(const Connection&) = delete;
  int fd() const { return fd_; }

 private:
  const int fd_;
};

void handshake(SSL_CTX* context, unsigned port) {
  const Connection connection(port);
  const std::unique_ptr<SSL, decltype(&SSL_free)> tls(SSL_new(context), SSL_free);
  if (!tls || SSL_set_fd(tls.get(), connection.fd()) != 1 ||
      SSL_set1_host(tls.get(), "localhost") != 1)
    fail("SSL_new");
  if (SSL_connect(tls.get()) != 1) fail("SSL_connect");
  if (SSL_session_reused(tls.get()) != 0) throw std::runtime_error("a session was resumed");
}

int body(const Arguments& arguments) {
  const unsigned clients = arguments.number("clients", 8), port = arguments.number("port", 0);
  const Context context = make_context(arguments.text("ca"));
  const auto load =
      run(clients, std::chrono::milliseconds(arguments.number("milliseconds", 2000)),
          [&](unsigned) -> Work { return [context, port] { handshake(context.get(), port); }; });
  return print(arguments.text("name", "tls"), clients, load);
}

}  // namespace
}  // namespace keyagent::bench

int main(int argc, char** argv) {
  return keyagent::bench::guarded(argc, argv, keyagent::bench::body);
}
