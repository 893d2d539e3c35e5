// SPDX-License-Identifier: Apache-2.0
#pragma once
// The two keys of the link and what it needs of them, as requests to the gate.

#include <map>
#include <string>
#include <vector>

#include "agent/base/key_ops.h"
#include "agent/link/gate_client.h"

namespace keyagent::link {

// A key as the gate describes it. Throws Error{kInternal} for a key type that this build does not
// know.
PublicKeyInfo info_of(const wire::Key& key);

// Thread-safe, as GateClient is. All throw what the gate refuses with.
class OwnKeys {
 public:
  explicit OwnKeys(GateClient& gate) : gate_(gate) {}

  // By name (the active generation) or kid.
  wire::Key show(const std::string& which);
  // Every generation that is not destroyed, the newest first.
  std::vector<wire::Key> generations(const std::string& name);
  // The key of this name, made where there is none. With `replace`, one that the token has lost is
  // destroyed in the ledger first, and a revoked one is rekeyed. Throws Error{kUsage} for one of
  // another purpose, Error{kKeyLost}, Error{kKeyState}.
  wire::Key provide(const std::string& name, Purpose purpose, bool replace);
  // An audit key that the token has lost is rekeyed, so that the log is signed again.
  void replace_lost_audit_keys();

  Bytes sign(const Kid& kid, SignatureAlgorithm algorithm, ByteView input);
  Bytes sign_message(const Kid& kid, SignatureAlgorithm algorithm, ByteView message);
  // A PKCS#10 request in PEM for an auth key, staged or active: subject CN and SAN are `agent`.
  std::string certification_request(const wire::Key& key, const std::string& agent);
  // The 32 bytes of a challenge that is sealed to this transport key, staged, active or
  // deactivated. Throws Error{kIntegrity} for one that is not for it, or is none.
  SecretBytes answer(const std::string& kid, const std::string& challenge);
  // `subject`: whose envelope it is; when too many of it fail, it alone is paused.
  SecretBytes open(const std::string& kid, const std::string& envelope, const std::string& subject);

  // How many credentials of the instance name which key, so that none of these is destroyed
  // (MISSION R12). Written when it differs from what the ledger has. Not `complete`: there may be
  // more, and no count in the ledger is lowered.
  void report_sealed(std::map<std::string, std::uint64_t> counts, bool complete);
  void forget_sealed();

  GateClient& gate() { return gate_; }

 private:
  wire::Key succeed_revoked(wire::Key key);

  GateClient& gate_;
};

}  // namespace keyagent::link
