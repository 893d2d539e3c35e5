// SPDX-License-Identifier: Apache-2.0
// What an authority sends and what it is sent. Files of certificates: what is read comes back the
// same from PEM, and the chain that is made of them is for the key that was asked for, does not
// depend on their order, and is made of itself. A revocation list, beside the certificate of its
// authority, and a certification request come back the same too.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "agent/pki/chain.h"
#include "agent/pki/issuer.h"
#include "agent/pki/revocation_list.h"

namespace {

using namespace keyagent;

void read_files(ByteView bytes) {
  const auto read = pki::read_certificates(bytes);
  std::string pem;
  for (const auto& each : read) pem += pki::certificate_pem(each);
  if (pem.size() <= pki::kMaxCertificateFile && pki::read_certificates(as_bytes(pem)) != read)
    std::abort();
  pki::ChainRules rules;
  rules.now = WallTime(std::chrono::seconds(1'780'315'200));  // 2026-06-01, as the seeds
  rules.spki = pki::certificate_facts(read.front()).spki;
  rules.tls = bytes.size() % 2 == 0;
  const auto chain = pki::make_chain(read, rules).certificates;
  if (pki::certificate_facts(chain.front()).spki != rules.spki) std::abort();
  if (pki::make_chain({read.rbegin(), read.rend()}, rules).certificates != chain) std::abort();
  if (pki::make_chain(chain, rules).certificates != chain) std::abort();
  rules.anchors = {chain.back()};
  pki::make_chain(read, rules);
}

void read_list(ByteView bytes) {
  const Bytes authority = pki::read_certificates(bytes).front();
  const Bytes list = pki::read_crl(as_text(bytes), authority);
  if (pki::read_crl(pki::crl_pem(list), authority) != list) std::abort();
}

void read_request(ByteView bytes) {
  const std::string text(as_text(bytes));
  const Bytes spki = pki::key_of_request(text);
  const bool pem = text.find("-----BEGIN") != text.npos;
  if (!pem && pki::key_of_request(pki::request_pem(bytes)) != spki) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  for (const auto read : {read_files, read_list, read_request}) {
    try {
      read({data, size});
    } catch (const Error&) {
      // Refused.
    }
  }
  return 0;
}
