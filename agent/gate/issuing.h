// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a CA key of this agent may certify, for any caller: the rules of `issuing` in keyagentd.yml.
// Pure. Each function throws Error{kDenied} that names the rule.

#include <chrono>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/pki/issuer.h"
#include "agent/wire/keyagent.pb.h"

namespace keyagent::gate {

struct IssuingRules {
  std::vector<std::string> clients{"*"};  // ids of agents, as patterns
  std::vector<std::string> servers;       // host names and addresses; empty: any
  std::chrono::milliseconds max_certificate{std::chrono::hours(24 * 398)};
  std::chrono::milliseconds max_list{std::chrono::hours(24 * 30)};
};

// The CA certificate's subject and validity.
pki::Validity check_ca_certificate(const wire::CaCertificate& asked, WallTime now);
// The content of the certificate, with a serial number that the agent chooses. Always: CA:FALSE,
// one extended key usage, and the subject and alternative names from `names`.
pki::Certified check_certificate(const wire::EndCertificate& asked, const IssuingRules& rules,
                                 WallTime now);
struct CheckedList {
  std::vector<pki::Revoked> revoked;
  pki::Validity validity;
};
CheckedList check_list(const wire::RevocationList& asked, const IssuingRules& rules, WallTime now);

}  // namespace keyagent::gate
