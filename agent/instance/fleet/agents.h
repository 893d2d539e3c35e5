// SPDX-License-Identifier: Apache-2.0
#pragma once
// The agents of the instance: changes of their trust by users, and rotation of their keys.

#include <functional>
#include <string>

#include "agent/instance/common/json.h"
#include "agent/instance/fleet/fleet_parts.h"
#include "agent/instance/fleet/trust.h"
#include "agent/store/agents.h"
#include "agent/store/enroll_rows.h"
#include "agent/store/store.h"

namespace keyagent::instance {

// Thread-safe; what lasts is in the store.
class Agents {
 public:
  explicit Agents(const FleetParts& parts);

  // Who an mTLS session is. Throws Error{kDenied} for a key that no agent has (alarm) and for a
  // revoked one, kIntegrity when the certificate names another agent (alarm), kKeyState while
  // pending or suspended. A first session with a renewed key ends the trust in the old one.
  store::Agent identify(const tls::Peer& peer);

  Json list() const;
  Json show(const std::string& id) const;
  // The transport key as a JWK, to seal to.
  std::string jwk(const std::string& id) const;

  // `fingerprint`: for approve, the agent's auth kid. Error{kBusy}: it is kUnlessEnrolled, and the
  // agent is enrolled by now.
  enum class Applies { kAlways, kUnlessEnrolled };
  Json apply(TrustVerb verb, const std::string& id, const std::string& fingerprint,
             const std::string& reason, const std::string& by, Applies when = Applies::kAlways);
  // In two steps, for a change within a larger transaction: first the store, then (after it) the
  // agent's link and sessions, which are closed unless it is trusted.
  void change_trust(TrustVerb verb, const std::string& id, const std::string& fingerprint,
                    const std::string& reason, const std::string& actor,
                    Applies when = Applies::kAlways);
  void enforce_trust(const std::string& id);
  Json set_groups(const std::string& id, const std::vector<std::string>& groups,
                  const std::string& by);

  // R7, in three steps: API.md, POST /v1/transport…
  Json begin_rotation(const store::Agent& agent, const Json& request);
  Json prove_rotation(const store::Agent& agent, const std::string& id, const Json& request);
  Json switch_rotation(const store::Agent& agent, const std::string& id);
  // The transport key that the agent reports: accepted when this instance signed its confirmation
  // after the last change stored here (the store was restored from a backup). Returns the agent
  // with that key.
  store::Agent catch_up(const store::Agent& agent, const Json& said);
  // Begins the agent's link. If two agents continue from one state (its folder was copied, or
  // restored), the agent is suspended until an operator resumes it: Error{kKeyState}, an alarm.
  // Returns the value to be acknowledged in the welcome; empty: none.
  std::string continue_session(const store::Agent& agent, const Json& hello,
                               const std::string& address);
  // Stores the newest checkpoint of its audit log (null: only a query). One that is older than the
  // stored one, or another with as many records, is refused with an alarm. Returns the stored one,
  // null for none.
  Json keep_checkpoint(const store::Agent& agent, const Json& said);
  // Of that agent: {"agent","checkpoint","noted"}, for `keyagent audit verify --checkpoint`.
  Json checkpoint(const std::string& id) const;
  // The first of each day, the newest day first: {"agent","days":[{"day",…}]}.
  Json checkpoint_days(const std::string& id) const;
  // The agent's log is accepted as it is: its next checkpoint is taken.
  Json accept_log(const std::string& id, const std::string& reason, const std::string& by);
  // A certificate for the session's key or for a new one.
  Json renew(const store::Agent& agent, const Json& request);

 private:
  store::Agent require(const std::string& id) const;
  void require_key(const store::Agent& agent, const tls::Peer& peer);
  std::optional<Json> apply_pending(TrustVerb verb, const std::string& id,
                                    const std::string& fingerprint, const std::string& reason,
                                    const std::string& actor);
  void approve_pending(const std::string& id, const std::string& fingerprint,
                       const std::string& actor);
  // Changes the agent as it is now, with what belongs to it; again when another replica was faster.
  // `edit` checks all that must hold: what was read before may be over.
  store::Agent change(const std::string& id, const std::function<void(store::Agent&)>& edit,
                      const store::AgentChange& with = {});
  Json describe(const store::Agent& agent) const;
  Json describe(const store::PendingAgent& pending) const;
  std::string shown(const store::Agent& agent, bool live) const;

  HostKeys& keys_;
  Authority& authority_;
  store::Store& store_;
  Links& links_;
  Recorder& recorder_;
  const Clock& clock_;
  Followers& followers_;
};

// Trusted or suspended.
bool is_enrolled(const store::Agent& agent);

// The agent's transport key as envelopes are sealed to it; `next`: the staged one.
PublicKeyInfo transport_of(const store::Agent& agent, bool next = false);

}  // namespace keyagent::instance
