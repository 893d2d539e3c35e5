// SPDX-License-Identifier: Apache-2.0
#pragma once
// Differences between ledger and token, and the action for each. Pure: compares two lists. The
// table: README.md.

#include <string>
#include <vector>

#include "agent/keys/key_store.h"
#include "agent/keys/ledger.h"

namespace keyagent::keys {

struct Plan {
  std::vector<JournalStep> finish;  // created: both halves are there, to be tested and recorded
  std::vector<JournalStep> remove;  // our own orphan journaled id (or a destruction that was
                                    // begun): objects go, then the step
  std::vector<JournalStep> forget;  // nothing came of it: the step goes
  std::vector<KeyRecord> adopt;     // as it should be
  std::vector<KeyRecord> unusable;  // with `finding` set
  std::vector<Finding> findings;
};

// A key or a step of the ledger has not all its objects in the token.
bool misses_any(const LedgerState& ledger, const std::vector<vault::TokenObject>& token);

Plan plan_reconciliation(const LedgerState& ledger, const std::vector<vault::TokenObject>& token);

}  // namespace keyagent::keys
