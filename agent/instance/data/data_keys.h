// SPDX-License-Identifier: Apache-2.0
#pragma once
// The keys of the instance's data: generations of storage keys in the token of its host, reached
// through that host's agent.

#include <optional>
#include <string>
#include <vector>

#include "agent/base/bytes.h"
#include "agent/base/clock.h"
#include "agent/client/client.h"
#include "agent/instance/common/config.h"
#include "agent/wire/keyagent.pb.h"

namespace keyagent::instance {

// [a-z0-9][a-z0-9._-]{0,40}: "cards", "card-data.v2".
bool is_specification_name(const std::string& name);
// The key of a specification: "data.cards".
std::string data_key_name(const std::string& specification);
// The inverse; nullopt: a key of none.
std::optional<std::string> specification_of(const std::string& key);
// The key whose kid other instances pin.
inline constexpr const char* kExchangeIdentity = "exchange-identity";

// Thread-safe. Every method throws the agent's error: kPeer when it cannot be reached.
class DataKeys {
 public:
  explicit DataKeys(const InstanceConfig& config);

  // Creates the key if it is missing; otherwise it stays unchanged. False: it existed.
  // `exchangeable`: it may leave the token, wrapped for the identities in the agent's policy; set
  // only at creation.
  bool create(const std::string& specification, bool exchangeable = false);
  // All generations in the agent, including destroyed ones, newest first.
  std::vector<wire::Key> generations(const std::string& specification);
  // The one in effect; nullopt: there is none.
  static std::optional<wire::Key> active(const std::vector<wire::Key>& generations);

  struct Sealed {
    std::string envelope, kid;
  };
  // Under the active generation.
  Sealed seal(const std::string& specification, const SecretBytes& plaintext);
  SecretBytes open(const std::string& envelope);
  // Seals it to the active generation of its key: the agent opens it, seals it, opens the result
  // and compares; the plaintext stays in the agent. nullopt: it is sealed to the active one
  // already.
  std::optional<Sealed> seal_again(const std::string& envelope);

  // A rekey of the specification's key is begun, or the one that is in progress.
  wire::Rekey rekey(const std::string& specification);
  std::optional<wire::Rekey> rekey_under_way(const std::string& specification);

  // Reports to the agent how much data is sealed to a kid. It destroys no key while that is above
  // zero. Each kid is reported separately, so that a late report does not affect the others.
  void report(const std::string& kid, std::int64_t count);
  struct Reported {
    std::string kid;
    std::int64_t count = 0;
    WallTime at;
  };
  std::vector<Reported> reported();

  // Whose a key is that is made here: {"instance":"keys-example"}, with "identity", the kid that
  // others pin, where there is one.
  std::string source();

 private:
  std::string source_prefix() const;

  client::Client client_;
  const InstanceConfig& config_;
};

}  // namespace keyagent::instance
