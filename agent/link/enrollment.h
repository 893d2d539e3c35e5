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

// Not thread-safe. Trusts no one but who has the pinned CA key: the server's chain ends there, and
// what it gives is verified before it is kept. Names and addresses decide nothing.
class Enrollment {
 public:
  Enrollment(const LinkContext& around, OwnKeys& keys, TlsLibrary& library)
      : context_(around), keys_(keys), library_(library) {}

  // Makes the keys where they are missing, asks, and proves the transport key. Returns what is to
  // be kept: trusted, or pending. Throws Error: kUsage for a wish that cannot be, kPeer, the codes
  // of TLS, kDenied (the token is not accepted), kIntegrity (the instance knows another key under
  // this id, or it gave us what is not ours), token codes.
  LinkState begin(const EnrollmentRequest& wish);
  // Asks whether a pending one was approved; nullopt: not yet. Throws as above; kDenied: rejected.
  std::optional<LinkState> poll(const LinkState& pending);

 private:
  std::optional<LinkState> accept(const LinkState& pending, const Answer& answer);
  tls::Client dial(const LinkState& state, std::chrono::milliseconds patience);

  const LinkContext& context_;
  OwnKeys& keys_;
  TlsLibrary& library_;
};

}  // namespace keyagent::link
