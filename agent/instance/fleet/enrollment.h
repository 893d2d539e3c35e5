// SPDX-License-Identifier: Apache-2.0
#pragma once
// How an agent becomes known: it proves its two keys, and a token or a person attests it.

#include <string>

#include "agent/base/clock.h"
#include "agent/base/rate_budget.h"
#include "agent/instance/common/json.h"
#include "agent/instance/fleet/fleet_parts.h"
#include "agent/instance/fleet/trust.h"
#include "agent/store/enroll_rows.h"
#include "agent/store/store.h"

namespace keyagent::instance {

// Thread-safe; what lasts is in the store, so that any replica continues. API.md, "Enrollment".
// Whatever is checked when an enrollment begins is checked again by the store, in the transaction
// that ends it.
class Enrollment {
 public:
  Enrollment(const InstanceConfig& config, const FleetParts& parts);

  // `from`: the address of the caller. Each address has a budget for what no token attests:
  // Error{kBusy} beyond it.
  Json begin(const Json& request, const std::string& from);
  Json prove(const std::string& id, const Json& request, const std::string& from);
  // The same answer each time: the certificate is issued once.
  Json poll(const std::string& id, const std::string& answer, const std::string& from);

  // {"token","expires"}. `inherit`: an agent that is replaced with it passes on its groups and
  // credentials; REQUIRES an `agent` then.
  Json make_token(const std::string& agent, const std::vector<std::string>& groups,
                  std::chrono::hours life, bool inherit, const std::string& by);
  // A token whose row does not exist yet: it is good once add_token() had its hash.
  struct TokenDraft {
    std::string text;
    Bytes hash;
  };
  TokenDraft draft_token() const;
  Json add_token(const Bytes& hash, const std::string& agent,
                 const std::vector<std::string>& groups, std::chrono::hours life, bool inherit,
                 const std::string& by);
  static void check_token(const std::string& agent, bool inherit);  // Error{kUsage}
  // "https://host:port" of the agents' listener, once it listens.
  void set_agents_port(std::uint16_t port) { agents_port_ = port; }

 private:
  store::Enrollment read_asked(const store::Challenge& challenge) const;
  void require_possible(const store::Enrollment& wanted, const std::string& from);
  [[noreturn]] void refuse(const store::Enrolled& found, const store::Enrollment& wanted,
                           const std::string& from);
  store::Enrolled decide(const store::Enrollment& wanted, const std::string& from);
  Json answer_for(const store::Challenge& challenge);
  Json trusted_answer(const store::Challenge& challenge, const store::Agent& agent);
  void charge(const std::string& from);
  void end_links_of(const store::Agent& replaced);

  const InstanceConfig& config_;
  HostKeys& keys_;
  Authority& authority_;
  store::Store& store_;
  Links& links_;
  Recorder& recorder_;
  const Clock& clock_;
  Followers& followers_;
  RateBudget strangers_;  // by address: what no token attests
  RateBudget polls_;      // by enrollment
  std::uint16_t agents_port_ = 0;
};

}  // namespace keyagent::instance
