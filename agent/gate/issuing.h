// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a CA key of this agent may certify, whoever asks: the rules of `issuing` in keyagentd.yml.
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
// What the certificate will say, with a serial number of the agent's choice. Always: CA:FALSE, one
// extended key usage, the subject and the alternative names made of `names`.
pki::Certified check_certificate(const wire::EndCertificate& asked, const IssuingRules& rules,
                                 WallTime now);
struct CheckedList {
  std::vector<pki::Revoked> revoked;
  pki::Validity validity;
};
CheckedList check_list(const wire::RevocationList& asked, const IssuingRules& rules, WallTime now);

}  // namespace keyagent::gate
