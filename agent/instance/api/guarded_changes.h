// SPDX-License-Identifier: Apache-2.0
#pragma once
// Changes that extend someone's access: which user may make them alone, and which need approval by
// a second one (README.md, "Rights").

#include <string>
#include <vector>

#include "agent/instance/common/config.h"
#include "agent/instance/common/decisions.h"
#include "agent/instance/data/credentials.h"
#include "agent/instance/data/specifications.h"
#include "agent/instance/exchange/exchanges.h"
#include "agent/instance/fleet/agents.h"
#include "agent/instance/fleet/enrollment.h"

namespace keyagent::instance {

// Thread-safe. Each answer is that of the change, or {"decision":{…}} where it waits for a second
// person.
class GuardedChanges {
 public:
  struct Services {
    store::Store& store;
    Recorder& recorder;
    Decisions& decisions;
    Exchanges& exchanges;
    Enrollment& enrollment;
    Specifications& specifications;
    Credentials& credentials;
    Agents& agents;
    Users& users;
  };
  GuardedChanges(const Approvals& approvals, const Services& parts);

  Json put_peer(const std::string& name, Json request, const AuthenticatedUser& person);
  Json set_automatic(const std::string& name, const Json& request, const AuthenticatedUser& person);
  // Where "always" waits for a second person, the answer has its "decision" too.
  Json approve_exchange(const std::string& id, const Json& request,
                        const AuthenticatedUser& person);
  // {"token","expires"}; a token that grants groups or credentials needs a creator with the right
  // to assign groups, or approval by such a user: {"token","decision"}.
  Json make_token(const Json& request, const AuthenticatedUser& person);
  // Error{kDenied}: the decision would give the approver access to records.
  Json create_specification(const Json& request, const AuthenticatedUser& person);
  Json set_access(const std::string& name, const Json& request, const AuthenticatedUser& person);
  Json remove_credential(const std::string& name, const AuthenticatedUser& person);
  // Revoking cannot be undone; everything else, also suspending, needs one person.
  Json change_trust(TrustVerb verb, const std::string& id, const Json& request,
                    const AuthenticatedUser& person);
  // Disabling a user, or changing one's password, needs no approval.
  Json put_user(const std::string& name, const UserEdit& edit, const AuthenticatedUser& person);

 private:
  void handle_peers();
  void handle_tokens();
  void handle_access();
  void handle_credentials();
  void handle_agents();
  void handle_users();
  void require_no_gain(const std::string& name, const Json& request,
                       const AuthenticatedUser& decider);
  std::string access_of(const std::string& name) const;
  Json change_access(const std::string& name, const Json& request, const std::string& by);

  const Approvals approvals_;
  const Services parts_;
};

}  // namespace keyagent::instance
