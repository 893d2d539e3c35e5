// SPDX-License-Identifier: Apache-2.0
#pragma once
// Agents on their way to trust: what asks, what the deciding transaction finds, and the bounds.

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/store/rows.h"

namespace keyagent::store {

// An agent without a token, until an administrator decides. One row per (id, auth key): an unknown
// agent that requests a name does not block others from requesting it.
struct PendingAgent {
  Agent agent;          // state: pending or rejected
  std::string address;  // its principal (principal_of_address)
  WallTime expires;
};
struct PendingLimits {
  std::int64_t per_address = 10, total = 1000;
};

// The last step of an enrollment, as requested.
struct Enrollment {
  std::string challenge;  // its id; it must still be "asked" and not expired at `now`
  std::string data;       // of the challenge from here on
  WallTime now, expires;  // expires: of the proved challenge, and of a pending agent
  Agent agent;            // as it asks to be: id, keys, host, version
  Bytes token;            // the hash; empty: none
  bool replace = false;   // take the place of the agent that has this id
  std::string address;
};

enum class EnrollOutcome {
  kEntered,         // it is trusted now
  kReplaced,        // it is, and another key's trust has ended
  kKnown,           // the agent has these keys already
  kSuspended,       // the same, and it is suspended
  kPending,         // waits for a person
  kGone,            // the challenge is not "asked" anymore
  kRestored,        // the store was restored from a backup and not accepted yet
  kTokenRefused,    // unknown, used, expired, for another id, or its maker may not log in anymore
  kReserved,        // an unused token was made for this id, and this is not it
  kKeyInUse,        // another agent has this auth key
  kOtherKey,        // this id has another auth key, and no right to replace it was given
  kOtherTransport,  // the same with the transport key
  kRevoked,         // the agent with these keys was revoked
  kNotPending,      // nothing with this fingerprint waits
  kFull             // no room for one more that waits
};
struct Enrolled {
  EnrollOutcome outcome = EnrollOutcome::kGone;
  std::optional<Agent> before;           // who has the id, or the key (kKeyInUse)
  std::optional<EnrollmentToken> token;  // the one that was used
  std::vector<std::string> unassigned;   // credentials that a replaced agent does not get
};

// Certificates of one agent within a time, above which none is issued.
struct IssueBudget {
  std::int64_t count = 100;
  std::chrono::milliseconds within{std::chrono::hours(24)};
};
enum class IssueOutcome {
  kIssued,
  kNotTrusted,  // the agent is not trusted, or the key is neither its auth key nor its next one
  kOverBudget,
  kGone  // the challenge is not in the state that it was in
};

}  // namespace keyagent::store
