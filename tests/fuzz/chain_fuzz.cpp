// Files of certificates: what is read comes back the same from PEM, and the chain that is made of
// them is for the key that was asked for, does not depend on their order, and is made of itself.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "agent/pki/chain.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace keyagent;
  try {
    const auto read = pki::read_certificates({data, size});
    std::string pem;
    for (const auto& each : read) pem += pki::certificate_pem(each);
    if (pem.size() <= pki::kLargestCertificateFile && pki::read_certificates(as_bytes(pem)) != read)
      std::abort();
    pki::ChainRules rules;
    rules.now = WallTime(std::chrono::seconds(1'780'315'200));  // 2026-06-01, as the seeds
    rules.spki = pki::certificate_facts(read.front()).spki;
    rules.tls = size % 2 == 0;
    const auto chain = pki::make_chain(read, rules).certificates;
    if (pki::certificate_facts(chain.front()).spki != rules.spki) std::abort();
    if (pki::make_chain({read.rbegin(), read.rend()}, rules).certificates != chain) std::abort();
    if (pki::make_chain(chain, rules).certificates != chain) std::abort();
    rules.anchors = {chain.back()};
    pki::make_chain(read, rules);
  } catch (const Error&) {
    // Refused.
  }
  return 0;
}
