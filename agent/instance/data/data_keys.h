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

// Thread-safe. Every method throws what the agent says: kPeer where it cannot be reached.
class DataKeys {
 public:
  explicit DataKeys(const InstanceConfig& config);

  // Makes the key where there is none; otherwise it stays as it is. False: it was there.
  // `exchangeable`: it may leave the token, wrapped for whom the agent's policy names; only said at
  // its birth.
  bool create(const std::string& specification, bool exchangeable = false);
  // Every generation that the agent knows, also destroyed ones, the newest first.
  std::vector<wire::Key> generations(const std::string& specification);
  // The one in effect; nullopt: there is none.
  static std::optional<wire::Key> active(const std::vector<wire::Key>& generations);

  struct Sealed {
    std::string envelope, kid;
  };
  // Under the active generation.
  Sealed seal(const std::string& specification, const SecretBytes& plaintext);
  SecretBytes open(const std::string& envelope);
  // The same under the active generation of its key: the agent opens it, seals it, opens that and
  // compares; what is in it stays there. nullopt: it is under the active one.
  std::optional<Sealed> seal_again(const std::string& envelope);

  // A rekey of the specification's key is begun, or the one that is in progress.
  wire::Rekey rekey(const std::string& specification);
  std::optional<wire::Rekey> rekey_under_way(const std::string& specification);

  // What the agent knows of what is sealed to a kid. It destroys no key while that is above zero.
  // Said apart for each kid: so a report that is late says nothing of other ones.
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
