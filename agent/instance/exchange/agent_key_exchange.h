// SPDX-License-Identifier: Apache-2.0
#pragma once
// The exchange of keys through this host's agent (key_door.h).

#include <optional>

#include "agent/base/clock.h"
#include "agent/base/mutex.h"
#include "agent/client/client.h"
#include "agent/client/remote_keys.h"
#include "agent/instance/common/config.h"
#include "agent/instance/exchange/key_exchange_backend.h"

namespace keyagent::instance {

// Thread-safe.
class AgentKeyExchange final : public KeyExchangeBackend {
 public:
  AgentKeyExchange(const InstanceConfig& config, const Clock& clock);

  PublicKeyInfo identity() override;
  bool had_identity(const std::string& kid) override;
  void make_keys() override;
  std::string sign(envelope::Statement statement, const std::string& payload) override;
  ExchangeOffer offer() override;
  std::string cannot_exchange() override;
  std::vector<DataKey> data_keys() override;
  bool allows(const std::string& action, const std::string& key, const std::string& peer) override;
  std::string export_key(const ExportOrder& order) override;
  bool import_key(const ImportOrder& order) override;

 private:
  client::Client client_;
  client::RemoteKeys keys_;
  const Clock& clock_;
  Mutex mutex_;
  // As it was when it was looked for last; nullopt: not there.
  std::optional<PublicKeyInfo> identity_ GUARDED_BY(mutex_);
  bool looked_ GUARDED_BY(mutex_) = false;
  SteadyTime looked_at_ GUARDED_BY(mutex_){};
};

}  // namespace keyagent::instance
