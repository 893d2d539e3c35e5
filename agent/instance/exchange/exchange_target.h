// SPDX-License-Identifier: Apache-2.0
#pragma once
// The target end of an exchange: sends the request, fetches the packages, has the host's agent
// unwrap the keys, and reports the result of each. It drives the exchange; the source only answers.

#include <string>

#include "agent/instance/exchange/exchange_messages.h"
#include "agent/instance/exchange/exchange_repository.h"
#include "agent/instance/exchange/key_exchange_backend.h"
#include "agent/instance/exchange/peer_transport.h"

namespace keyagent::instance {

// Thread-safe.
class ExchangeTarget {
 public:
  ExchangeTarget(KeyExchangeBackend& door, PeerTransport& line, store::Store& store,
                 ExchangeMessages& messages, ExchangeRepository& book, ExchangeSurroundings& around,
                 const Clock& clock)
      : door_(door),
        line_(line),
        store_(store),
        messages_(messages),
        book_(book),
        around_(around),
        clock_(clock) {}

  // Performs the step that work_of() returns, once. Throws temporary and permanent errors.
  void work(store::Exchange row);
  // Asks and reads the verified answer. Throws Error{kIntegrity} with both fingerprints when
  // another instance is there.
  Json ask(const store::Peer& peer, const std::string& type, const Json& body);
  // When a series continues: the next request of it, once over all replicas.
  void go_on(store::Exchange row);

 private:
  store::Peer peer_of(const store::Exchange& row);
  void request(store::Exchange& row);
  void fetch(store::Exchange& row);
  void import(store::Exchange& row);
  void report(store::Exchange& row);
  void finish(store::Exchange& row);
  void tell(store::Exchange& row);
  void fail(store::Exchange& row, const Json& answer, const ExchangeCause& what);
  void learn(store::Exchange& row, const Json& answer);

  KeyExchangeBackend& door_;
  PeerTransport& line_;
  store::Store& store_;
  ExchangeMessages& messages_;
  ExchangeRepository& book_;
  ExchangeSurroundings& around_;
  const Clock& clock_;
};

}  // namespace keyagent::instance
