// SPDX-License-Identifier: Apache-2.0
#pragma once
// Enrollment: its tokens, the agents that wait for a person, and the transactions that decide.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "agent/store/engine/repository.h"
#include "agent/store/enroll_rows.h"

namespace keyagent::store {

class Enrollments : public Repository {
 public:
  using Repository::Repository;
  using EnrolledEvent = std::function<Event(const Enrolled&)>;

  void add_token(const EnrollmentToken& token);
  // Not used, not expired at `now`, good for this id.
  std::optional<EnrollmentToken> find_token(const Bytes& hash, const std::string& agent_id,
                                            WallTime now);
  std::int64_t count_tokens(WallTime now);  // unused, not expired

  // What enroll() or ask_approval() would find now; nothing is changed.
  Enrolled preview(const Enrollment& enrollment);
  // Decides and acts in one transaction: with a token. The token and the challenge are used up and
  // the event is recorded only when the agent is entered, replaced or known. An agent that is
  // replaced loses its certificates, sealed copies and open rekeys, and, unless the token lets it
  // inherit, its groups and assignments; others that wait for its id are dropped.
  // Throws Error{kBusy}: it was changed at the same moment.
  Enrolled enroll(const Enrollment& enrollment, const EnrolledEvent& event);
  // The same without a token: kPending, or what is in the way.
  Enrolled ask_approval(const Enrollment& enrollment, const PendingLimits& limits,
                        const EnrolledEvent& event);
  // Those that wait or were rejected, not expired; of one id or (empty) of all.
  std::vector<PendingAgent> pending(const std::string& id, WallTime now);
  // A person approves this fingerprint: kEntered, or what is in the way by now.
  Enrolled approve(const std::string& id, const std::string& auth_kid, const std::string& approver,
                   WallTime now, const EnrolledEvent& event);
  // Of an id, one fingerprint or (empty) all. Returns how many.
  std::int64_t reject(const std::string& id, const std::string& auth_kid, const std::string& reason,
                      const Event& event);
};

}  // namespace keyagent::store
