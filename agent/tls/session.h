// SPDX-License-Identifier: Apache-2.0
#pragma once
// One TLS session on a non-blocking socket: OpenSSL's state machine, and why it ended.

#include <optional>
#include <span>

#include "agent/tls/context.h"

namespace keyagent::tls {

// kWantRead, kWantWrite: call again when the socket is readable, writable. kEnd: the peer closed
// the session. kFault: see fault().
enum class Step { kDone, kWantRead, kWantWrite, kEnd, kFault };

// Not thread-safe. The socket is the caller's and outlives it.
class Session {
 public:
  Session(std::shared_ptr<const Context> context, int fd, Expected expected);
  Session(const Session&) = delete;

  Step handshake();
  // `count` bytes were read or written when kDone.
  Step read(std::span<char> into, std::size_t& count);
  Step write(std::span<const char> from, std::size_t& count);
  // Tells the other side that nothing more comes, as far as the socket takes it at once.
  void farewell();
  // The socket is closed: its number may soon be another's, who must not read our farewell.
  void detach();
  // Bytes that were decrypted and not read yet.
  bool pending() const;
  // REQUIRES: a step returned kFault.
  const Error& fault() const { return *fault_; }
  bool faulty() const { return fault_.has_value(); }
  // After a failed write: the error that the peer sent before, if it was received.
  std::optional<Error> last_words();
  // REQUIRES: handshake() returned kDone.
  Peer peer(const std::string& address) const;
  // Verifies the peer against `now`, when that is another context than the session began with.
  std::optional<Error> judge_again(const Context& now) const;
  const Context& context() const { return *context_; }

  // For the verification callback.
  static Session& of(const SSL* ssl);
  bool judged(X509_STORE_CTX* store);

 private:
  Step step(int result, const char* doing);
  Error why(int error, const char* doing);

  std::shared_ptr<const Context> context_;
  Expected expected_;
  Owned<SSL> ssl_;
  std::optional<Error> refused_, fault_;
};

}  // namespace keyagent::tls
