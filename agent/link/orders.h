// SPDX-License-Identifier: Apache-2.0
#pragma once
// Rekeys that the instance orders: begun once each, whatever is repeated, and reported.

#include <functional>
#include <map>
#include <string>

#include "agent/base/rate_budget.h"
#include "agent/link/instance_connection.h"
#include "agent/link/link_state.h"
#include "agent/link/own_keys.h"

namespace keyagent::link {

// Used by the link's thread only. The ledger records the rekeys; the state file maps orders to
// rekeys.
class Orders {
 public:
  Orders(const LinkContext& around, LinkStore& store, OwnKeys& keys)
      : store_(store), keys_(keys), budget_(*around.clock, {8, std::chrono::hours(1), 4}) {}

  // `key`: "transport" or "auth". Throws nothing that the gate refuses with: that is reported. An
  // instance that orders in a loop is refused here, before the gate records anything; how many
  // orders may become a rekey is the ledger's to count (RELIABILITY 153).
  void take(const nlohmann::json& id, const std::string& key);
  // Reports changes since the last call; retries orders that could not begin yet.
  void look(const UplinkHandlers::Send& send);
  // Reports all orders again, because a new session has no earlier reports.
  void repeat();

 private:
  struct Order {
    nlohmann::json id;  // as it came
    std::string key;
    std::uint64_t rekey = 0;  // 0: not begun yet
    std::string failure;      // it never will be
    std::string said;
  };
  void begin(const std::string& id, Order& order);
  bool adopt(const LinkState& state, const std::string& id, Order& order, const std::string& name);

  LinkStore& store_;
  OwnKeys& keys_;
  RateBudget budget_;
  std::map<std::string, Order> orders_;
};

}  // namespace keyagent::link
