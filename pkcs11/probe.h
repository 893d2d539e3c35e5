// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a token can really do: a round trip for each mechanism and a real attempt to take a key out.

#include <functional>
#include <string>
#include <vector>

#include "pkcs11/token.h"

namespace keyagent::pkcs11 {

struct ProbeResult {
  std::string name;  // "generate rsa-3072", "sign ES256", "decrypt RSA-OAEP-256 (raw RSA in the
                     // token)", "extract: read value"
  enum class Outcome { kWorks, kAbsent, kFails, kRefused, kLeaks } outcome = Outcome::kAbsent;
  std::string detail;    // CKR name or measured fact
  double p50_us = 0;     // of a few repetitions; 0 where not timed
  double p999_us = 0;    // worst seen: the seed of the answer-time quantum
  bool claimed = false;  // value in the profile
};

struct ProbeReport {
  TokenStatus token;
  std::vector<ProbeResult> results;
  // No kLeaks, and every claim of the profile works.
  bool sound() const;
};

// Makes keys labeled "keyagent-probe" under random ids and destroys them again, also after a
// failure. `progress` is called before each step with (done, total, name); may be empty. Throws
// Error only when the token is not usable at all.
ProbeReport probe(Token& token,
                  const std::function<void(int, int, const std::string&)>& progress = {});

}  // namespace keyagent::pkcs11
