// SPDX-License-Identifier: Apache-2.0
#pragma once
// How an agent becomes known to an instance: contract "Enrollment", steps 1 to 3.

#include <optional>
#include <string>

#include "agent/link/answer.h"
#include "agent/link/link_context.h"
#include "agent/link/link_state.h"
#include "agent/link/own_keys.h"

namespace keyagent::link {

struct EnrollmentRequest {
  std::string url;
  SecretBytes token;        // "ka1.FINGERPRINT.SECRET", or empty
  std::string fingerprint;  // of the instance's CA key; with a token it is in the token
  std::string agent, auth_key = "identity", transport_key = "credentials";
  bool replace = false;
};

// Not thread-safe. Trusts only the holder of the pinned CA key: the server's chain ends there, and
// everything it sends is verified before it is stored. Names and addresses are not used for trust.
class Enrollment {
 public:
  Enrollment(const LinkContext& around, OwnKeys& keys, TlsLibrary& library)
      : context_(around), keys_(keys), library_(library) {}

  // Creates missing keys, sends the request, and proves the transport key. Returns the state to
  // store: trusted, or pending. Throws Error: kUsage for an invalid request, kPeer, the codes of
  // TLS, kDenied (the token is not accepted), kIntegrity (the instance has another key under this
  // id, or its answer is not for us), token codes.
  LinkState begin(const EnrollmentRequest& wish);
  // Polls whether a pending one was approved; nullopt: not yet. Throws as above; kDenied: rejected.
  std::optional<LinkState> poll(const LinkState& pending);

 private:
  std::optional<LinkState> accept(const LinkState& pending, const Answer& answer);
  tls::Client dial(const LinkState& state, std::chrono::milliseconds patience);

  const LinkContext& context_;
  OwnKeys& keys_;
  TlsLibrary& library_;
};

}  // namespace keyagent::link
