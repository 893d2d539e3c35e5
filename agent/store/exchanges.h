// SPDX-License-Identifier: Apache-2.0
#pragma once
// Requests for keys between instances, at either end.

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "agent/store/engine/repository.h"
#include "agent/store/rows.h"

namespace keyagent::store {

struct ExchangeFilter {
  std::string own{}, state{}, peer{}, side{};  // empty: any, but for own
  std::size_t count = 100;
};

class Exchanges : public Repository {
 public:
  using Repository::Repository;

  // Numbered, with the event. False, and nothing is changed: there is one of this id.
  // Error{kBusy}: `max_open` of this end have not ended.
  bool add(const Exchange& exchange, std::size_t max_open, const Event& event);
  std::optional<Exchange> find(const std::string& id);
  std::vector<Exchange> list(const ExchangeFilter& filter);  // the newest first
  // Changes what changes in its life if the row still has exchange.revision, and raises it. `keys`
  // take the place of all that it had (nullptr: they stay); packages are kept only while it is
  // approved or exported. The event is recorded with it. False, and nothing is changed: someone
  // was faster.
  bool move(const Exchange& exchange, const std::vector<ExchangeKey>* keys = nullptr,
            const std::optional<Event>& event = std::nullopt);
  // As move(), while the peer still has peer.revision; its policy becomes peer.automatic with it.
  // So a policy approves what it covers when it approves, and a one-time one once.
  bool approve_by_policy(const Exchange& exchange, const Peer& peer, const Event& event);
  // By specification and kid.
  std::vector<ExchangeKey> keys(const std::string& id);
  // Whether there ever was one, of whatever identity.
  bool any();
  // Of this identity: something is to be done by `now`, or the series continues.
  std::vector<Exchange> due(const std::string& own, WallTime now, std::size_t count);
};

}  // namespace keyagent::store
