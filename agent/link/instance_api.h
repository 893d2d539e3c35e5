// SPDX-License-Identifier: Apache-2.0
#pragma once
// The instance's interface as an agent uses it, one request a function. The contract:
// agent/link/README.md.

#include <optional>
#include <string>
#include <vector>

#include "agent/base/key_ops.h"
#include "agent/link/answer.h"
#include "agent/link/link_context.h"
#include "agent/link/link_state.h"

namespace keyagent::link {

struct Rotation {
  std::string id;
  std::string old_challenge, new_challenge;  // JWE
};

struct CredentialInfo {
  std::string name, type;
  std::uint64_t version = 0;
  std::vector<std::string> kids;
  bool bound = false;  // its envelopes are bound to their use
};
struct SealedCredential {
  std::string name, type, kid, envelope;
  std::uint64_t version = 0;
};

struct TakenTask {
  std::string id, handler, credential, lease;
  std::string input;  // a JSON object
  bool repeatable = false;
  std::uint32_t attempt = 0, seconds = 0;
};

// How an enrolled agent reaches its instance: mutual TLS with the certificate of this auth key.
// Throws Error{kKeyNotPresent} when the instance has given it none.
tls::ClientOptions options_for(const LinkState& state, const std::string& auth_kid,
                               const Timing& timing);

// What a request brought. Throws Error{kPeer} for an answer that is neither done nor a failure().
std::string body_of(const tls::HttpResponse& response);

// One connection, opened at the first request. Not thread-safe. All throw what tls::Client throws:
// the instance's own refusals too, with their code.
class InstanceApi {
 public:
  InstanceApi(std::shared_ptr<tls::Library> library, tls::ClientOptions options)
      : client_(std::move(library), std::move(options)) {}

  Rotation begin_transport(const std::string& old_kid, const PublicKeyInfo& fresh);
  void prove_transport(const std::string& id, const SecretBytes& old_answer,
                       const SecretBytes& new_answer);
  // The signed confirmation.
  std::string switch_transport(const std::string& id);
  // The chain in PEM. `crl`: the list that comes with it.
  std::string renew(const std::string& request, std::string& crl);
  std::string crl();
  std::vector<CredentialInfo> credentials();
  SealedCredential credential(const std::string& name, const std::string& kid);
  // nullopt: there is none for this handler now.
  std::optional<TakenTask> take_task(const std::string& handler);
  // The lease time from now on. Throws Error{kKeyState} when the lease has expired.
  std::chrono::milliseconds start_task(const std::string& id, const std::string& lease);
  std::chrono::milliseconds keep_task(const std::string& id, const std::string& lease);
  void end_task(const std::string& id, const std::string& lease, const std::string& outcome,
                const std::string& text, const std::string& result);

 private:
  Answer post(const std::string& path, const nlohmann::json& body);
  Answer get(const std::string& path);
  tls::Client client_;
};

}  // namespace keyagent::link
