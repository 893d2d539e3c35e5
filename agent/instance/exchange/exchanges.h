// SPDX-License-Identifier: Apache-2.0
#pragma once
// Exchange of data keys with other instances: requests of users, messages of peers, and automatic
// work. MISSION.md X1, X3 to X8, X10.

#include <functional>
#include <string>

#include "agent/instance/exchange/exchange_source.h"
#include "agent/instance/exchange/exchange_target.h"
#include "agent/instance/exchange/peers.h"
#include "agent/store/exchanges.h"

namespace keyagent::instance {

// Thread-safe. All of it is in the store: replicas may do everything at once, and one that ends
// anywhere has lost nothing.
class Exchanges {
 public:
  Exchanges(KeyExchangeBackend& door, PeerTransport& line, store::Store& store, Recorder& recorder,
            const Clock& clock, ExchangeSurroundings& around);

  Peers& peers() { return peers_; }

  // {"identity","spki"}; makes the key when it is missing.
  Json identity();
  // {"checks":[{"what","passed","text"}],"passed"}: what an exchange with this source needs.
  Json check(const Json& request);
  // At the target: {"peer","specifications","frequency","rekey","hours","period_hours"}
  Json request(const Json& request, const std::string& by);
  Json list(store::ExchangeFilter filter, const std::string& peer);
  Json show(const std::string& id);
  // At the source. {"always": true}: this peer's requests of this kind need no person from now on.
  Json approve(const std::string& id, const Json& request, const std::string& by);
  Json reject(const std::string& id, const std::string& reason, const std::string& by);
  // At either end.
  Json cancel(const std::string& id, const std::string& reason, const std::string& by);
  Json retry(const std::string& id, const std::string& by);
  // A series does not continue.
  Json stop(const std::string& id, const std::string& by);

  // Handles a message of a peer, and returns the signed answer.
  std::string answer(const std::string& text);

  // Does what is due; returns how many requests were checked.
  std::size_t work();

 private:
  Json people(const std::string& id, const ExchangeCause& what,
              const std::function<void(store::Exchange&)>& before = {});
  void work_on(store::Exchange row);
  std::string own();
  // After a rekey of the identity: what was of the one before continues.
  void follow_identity();

  KeyExchangeBackend& door_;
  store::Store& store_;
  Recorder& recorder_;
  const Clock& clock_;
  ExchangeSurroundings& around_;
  ExchangeMessages messages_;
  Peers peers_;
  ExchangeRepository book_;
  ExchangeSource source_;
  ExchangeTarget target_;
};

}  // namespace keyagent::instance
