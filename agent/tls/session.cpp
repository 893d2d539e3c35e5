// SPDX-License-Identifier: Apache-2.0
#include "agent/tls/session.h"

#include <openssl/err.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace keyagent::tls {
namespace {

// --- a socket that raises no SIGPIPE, which OpenSSL's own would

struct Wire {
  int fd = -1;
  bool ended = false;
};

Wire& wire_of(BIO* bio) {
  return *static_cast<Wire*>(BIO_get_data(bio));
}

int wire_read(BIO* bio, char* into, int size) {
  BIO_clear_retry_flags(bio);
  const auto count = ::recv(wire_of(bio).fd, into, static_cast<std::size_t>(size), 0);
  if (count == 0) wire_of(bio).ended = true;
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) BIO_set_retry_read(bio);
  return static_cast<int>(count);
}

int wire_write(BIO* bio, const char* from, int size) {
  BIO_clear_retry_flags(bio);
  const auto count = ::send(wire_of(bio).fd, from, static_cast<std::size_t>(size), MSG_NOSIGNAL);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) BIO_set_retry_write(bio);
  return static_cast<int>(count);
}

long wire_control(BIO* bio, int command, long, void*) {
  if (command == BIO_CTRL_FLUSH) return 1;
  return command == BIO_CTRL_EOF && wire_of(bio).ended ? 1 : 0;
}

int wire_end(BIO* bio) {
  delete static_cast<Wire*>(BIO_get_data(bio));
  BIO_set_data(bio, nullptr);
  return 1;
}

BIO* new_wire(int fd) {
  // Lives as long as the program: sessions may end in static destructors.
  static BIO_METHOD* const kMethod = [] {
    BIO_METHOD* method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "socket");
    BIO_meth_set_read(method, wire_read);
    BIO_meth_set_write(method, wire_write);
    BIO_meth_set_ctrl(method, wire_control);
    BIO_meth_set_destroy(method, wire_end);
    return method;
  }();
  BIO* bio = BIO_new(kMethod);
  if (bio == nullptr) return nullptr;
  BIO_set_data(bio, new Wire{fd, false});
  BIO_set_init(bio, 1);
  return bio;
}

const char* other_side(Side side) {
  return side == Side::kServer ? "the client" : "the server";
}

}  // namespace

Session::Session(std::shared_ptr<const Context> context, int fd, Expected expected)
    : context_(std::move(context)), expected_(std::move(expected)) {
  ERR_clear_error();
  expected_.side = context_->side();
  expected_.anchor_spki = context_->anchor_spki();
  ssl_.reset(SSL_new(context_->get()));
  BIO* wire = ssl_ ? new_wire(fd) : nullptr;
  if (wire == nullptr) throw queued_error(Code::kInternal, "cannot create a TLS session");
  SSL_set_bio(ssl_.get(), wire, wire);
  SSL_set_app_data(ssl_.get(), this);
  set_parameters(SSL_get0_param(ssl_.get()), expected_);
  if (expected_.side == Side::kServer) {
    SSL_set_accept_state(ssl_.get());
    return;
  }
  SSL_set_connect_state(ssl_.get());
  // RFC 6066 §3: SNI holds host names only; the parameters hold either a host or an address.
  if (X509_VERIFY_PARAM_get0_host(SSL_get0_param(ssl_.get()), 0) != nullptr)
    SSL_set_tlsext_host_name(ssl_.get(), expected_.host.c_str());
}

Session& Session::of(const SSL* ssl) {
  return *static_cast<Session*>(SSL_get_app_data(ssl));
}

bool Session::judged(X509_STORE_CTX* store) {
  try {
    refused_ = judge(store, expected_);
  } catch (const std::exception& error) {
    refused_ = Error(Code::kInternal, error.what());
  }
  return !refused_;
}

Step Session::handshake() {
  ERR_clear_error();
  return step(SSL_do_handshake(ssl_.get()), "in the handshake");
}

Step Session::read(std::span<char> into, std::size_t& count) {
  ERR_clear_error();
  return step(SSL_read_ex(ssl_.get(), into.data(), into.size(), &count), "while reading");
}

Step Session::write(std::span<const char> from, std::size_t& count) {
  ERR_clear_error();
  return step(SSL_write_ex(ssl_.get(), from.data(), from.size(), &count), "while writing");
}

void Session::farewell() {
  ERR_clear_error();
  if (!fault_ && SSL_is_init_finished(ssl_.get()) == 1) SSL_shutdown(ssl_.get());
  ERR_clear_error();
}

void Session::detach() {
  wire_of(SSL_get_rbio(ssl_.get())).fd = -1;
}

bool Session::pending() const {
  return SSL_pending(ssl_.get()) > 0;
}

Step Session::step(int result, const char* doing) {
  if (result == 1) return Step::kDone;
  const int system = errno;
  const int error = SSL_get_error(ssl_.get(), result);
  switch (error) {
    case SSL_ERROR_WANT_READ:
      return Step::kWantRead;
    case SSL_ERROR_WANT_WRITE:
      return Step::kWantWrite;
    case SSL_ERROR_ZERO_RETURN:
      return Step::kEnd;
    default:
      errno = system;
      if (!fault_) fault_ = why(error, doing);
      ERR_clear_error();
      return Step::kFault;
  }
}

Error Session::why(int error, const char* doing) {
  if (refused_) return *refused_;
  const std::string peer = other_side(expected_.side);
  if (error == SSL_ERROR_SYSCALL && ERR_peek_error() == 0)
    return Error(Code::kPeer, "the connection to " + peer + " broke " + doing + ": " +
                                  (errno == 0 ? "it ended" : std::strerror(errno)));
  const unsigned long first = ERR_peek_error();
  const int reason = ERR_GET_REASON(first);
  if (ERR_GET_LIB(first) == ERR_LIB_SSL && reason > SSL_AD_REASON_OFFSET)
    return Error(Code::kRefusedByPeer,
                 peer + " refused the connection: TLS alert \"" +
                     SSL_alert_desc_string_long(reason - SSL_AD_REASON_OFFSET) + "\"");
  if (ERR_GET_LIB(first) == ERR_LIB_SSL && reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE)
    return Error(Code::kPeerNoCertificate, peer + " sent no certificate");
  if (ERR_GET_LIB(first) == ERR_LIB_SSL && reason == SSL_R_UNEXPECTED_EOF_WHILE_READING)
    return Error(Code::kPeer, "the connection to " + peer + " ended " + doing);
  return queued_error(Code::kPeer, "no TLS connection with " + peer + " " + doing);
}

std::optional<Error> Session::last_words() {
  const auto before = std::exchange(fault_, std::nullopt);
  char rest[4096];
  std::size_t count = 0;
  while (read(rest, count) == Step::kDone) {
  }
  const auto after = std::exchange(fault_, before);
  return after && after->code() == Code::kRefusedByPeer ? after : std::nullopt;
}

Peer Session::peer(const std::string& address) const {
  X509* certificate = SSL_get0_peer_certificate(ssl_.get());
  Peer peer = certificate == nullptr ? Peer{} : describe(certificate);
  peer.tls_version = SSL_get_version(ssl_.get());
  peer.cipher = SSL_get_cipher_name(ssl_.get());
  const char* group = SSL_group_to_name(ssl_.get(), SSL_get_negotiated_group(ssl_.get()));
  if (group != nullptr) peer.group = group;
  peer.address = address;
  return peer;
}

std::optional<Error> Session::judge_again(const Context& now) const {
  if (&now == context_.get()) return std::nullopt;
  return now.judge_again(ssl_.get(), expected_);
}

}  // namespace keyagent::tls
