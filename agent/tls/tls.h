// SPDX-License-Identifier: Apache-2.0
#pragma once
// Mutual TLS with keys in tokens: the identity of this side, its trust, and the verified peer of a
// session. Verification cannot be switched off; TLS 1.2 at least.

#include <memory>
#include <string>
#include <vector>

#include "agent/base/bytes.h"
#include "agent/base/clock.h"
#include "agent/base/ids.h"
#include "agent/openssl/backend.h"

namespace keyagent::tls {

// A library context of OpenSSL with the default provider and one whose keys are `backend`'s, both
// built in: no openssl.cnf is read. Thread-safe; what is made with it keeps it. Its last owner ends
// before main() does: OpenSSL itself ends at exit().
class Library {
 public:
  explicit Library(std::shared_ptr<openssl::Backend> backend);
  ~Library();
  struct Impl;
  const std::shared_ptr<Impl>& impl() const { return impl_; }

 private:
  std::shared_ptr<Impl> impl_;
};

// This side: a key of the agent by name or kid, and its chain, leaf first. Immutable.
struct Identity {
  std::string key;           // as openssl::Backend::find() takes it
  std::vector<Bytes> chain;  // DER
};

// The certification authorities that this side trusts. Immutable.
struct Trust {
  std::vector<Bytes> anchors;      // DER certificates
  std::vector<Bytes> crls;         // DER; a session's certificate is looked up in them
  std::string anchor_spki_sha256;  // base64url: instead of `anchors`, at enrollment: the root
                                   // that the server sends must have this key
};

// Of an established session.
struct Peer {
  bool certified = false;          // false: it showed no certificate (only where that is allowed)
  Bytes certificate;               // DER
  Bytes spki;                      // DER
  std::string kid;                 // RFC 7638 thumbprint of its key
  std::string subject;             // for people
  std::vector<std::string> names;  // SAN: "DNS:…", "URI:…"
  std::string serial;              // lower-case hex
  WallTime not_before, not_after;  // base/asn1_time.h
  std::string valid_until;         // RFC 3339, as in the certificate
  std::string tls_version, cipher;
  std::string group;    // of the key exchange, as libssl names it: "X25519MLKEM768", "x25519"
  std::string address;  // "192.0.2.1:4711"
};

}  // namespace keyagent::tls
