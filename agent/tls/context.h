// SPDX-License-Identifier: Apache-2.0
#pragma once
// The TLS settings of one side for new sessions: identity and trust.

#include <optional>

#include "agent/tls/library_impl.h"
#include "agent/tls/verify.h"

namespace keyagent::tls {

enum class PeerCertificate { kRequired, kOptional };

// Immutable, thread-safe; sessions hold it.
class Context {
 public:
  // Throws Error: kConfiguration for a chain or trust that cannot be used, and the key's codes.
  Context(std::shared_ptr<Library> library, Side side, const std::optional<Identity>& identity,
          const Trust& trust, PeerCertificate peer_certificate);

  SSL_CTX* get() const { return context_.get(); }
  Side side() const { return side_; }
  const std::string& anchor_spki() const { return anchor_spki_; }
  // Verifies the peer of a session that began under another context against the trust of this one.
  std::optional<Error> judge_again(SSL* session, const Expected& expected) const;

 private:
  void harden();
  void set_identity(const Identity& identity);
  void set_trust(const Trust& trust);

  std::shared_ptr<Library> library_;  // before context_: outlives it
  Side side_;
  std::string anchor_spki_;
  Owned<SSL_CTX> context_;
};

}  // namespace keyagent::tls
