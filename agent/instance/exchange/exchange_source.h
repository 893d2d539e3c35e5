// SPDX-License-Identifier: Apache-2.0
#pragma once
// The source end of an exchange: takes requests, has them approved, has the host's agent wrap the
// keys, and receives the results.

#include <string>

#include "agent/instance/exchange/exchange_messages.h"
#include "agent/instance/exchange/exchange_repository.h"
#include "agent/instance/exchange/key_exchange_backend.h"
#include "agent/instance/exchange/peers.h"

namespace keyagent::instance {

// Thread-safe.
class ExchangeSource {
 public:
  ExchangeSource(KeyExchangeBackend& door, store::Store& store, Peers& peers,
                 ExchangeRepository& book, ExchangeSurroundings& around, const Clock& clock)
      : door_(door), store_(store), peers_(peers), book_(book), around_(around), clock_(clock) {}

  // Handles a verified message of a target: returns the answer's body, throws the refusal.
  Json answer(const PeerMessage& message);
  // Has the keys wrapped, when work_of() returns kExport.
  void export_keys(store::Exchange row);

 private:
  Json check(const PeerMessage& message);
  Json take_request(const PeerMessage& message);
  Json give_packages(const PeerMessage& message);
  Json take_results(const PeerMessage& message);
  Json take_end(const PeerMessage& message);
  store::Exchange known(const PeerMessage& message);
  Json how_it_stands(const store::Exchange& row);
  void approve_by_policy(store::Exchange& row);
  std::vector<store::ExchangeKey> wrap(const store::Exchange& row);
  store::ExchangeKey wrap_one(const store::Exchange& row, const DataKey& key,
                              const ExportOrder& order);

  KeyExchangeBackend& door_;
  store::Store& store_;
  Peers& peers_;
  ExchangeRepository& book_;
  ExchangeSurroundings& around_;
  const Clock& clock_;
};

// The outcome of a key that its agent did not give or take: "refused" where a policy, a state or
// the caller is the reason, "failed" else.
store::ExchangeKey not_done(store::ExchangeKey key, const Error& error);
// The code of the first key that was refused or has failed.
Code first_code(const std::vector<store::ExchangeKey>& keys);

}  // namespace keyagent::instance
