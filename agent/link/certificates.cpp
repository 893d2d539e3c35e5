// SPDX-License-Identifier: Apache-2.0
#include "agent/link/certificates.h"

#include <algorithm>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/envelope/envelope.h"
#include "agent/pki/chain.h"
#include "agent/pki/revocation_list.h"

namespace keyagent::link {
namespace {

[[noreturn]] void refuse(const std::string& why) {
  throw Error(Code::kIntegrity, why);
}

// An invalid file is a usage error in pki and envelope; from the instance it is Error{kIntegrity}.
template <class Work>
auto judged(Work&& work) {
  try {
    return work();
  } catch (const Error& error) {
    if (error.code() == Code::kInternal) throw;
    refuse(error.what());
  }
}

}  // namespace

std::vector<Bytes> certificates_of_pem(std::string_view pem) {
  return judged([&] { return pki::read_certificates(as_bytes(pem)); });
}

std::string pem_of_certificates(const std::vector<Bytes>& chain) {
  std::string out;
  for (const auto& each : chain) out += pki::certificate_pem(each);
  return out;
}

Bytes revocation_list_of_pem(std::string_view pem, ByteView ca) {
  return judged([&] { return pki::read_crl(pem, ca); });
}

Leaf leaf_of(ByteView certificate) {
  return judged([&] { return pki::certificate_facts(certificate); });
}

std::string fingerprint_of(ByteView certificate) {
  return to_base64url(sha256(leaf_of(certificate).spki));
}

PublicKeyInfo signing_key_of(ByteView spki) {
  return judged([&] { return envelope::key_of_spki(spki, Purpose::kConfirm); });
}

std::vector<Bytes> require_ours(const std::vector<Bytes>& sent, ByteView ca, ByteView spki,
                                const std::string& agent, WallTime now) {
  if (sent.empty()) refuse("the certificate's chain is empty");
  pki::ChainRules rules;
  rules.spki.assign(spki.begin(), spki.end());
  rules.key = agent;
  rules.tls = true;
  rules.anchors = {Bytes(ca.begin(), ca.end())};
  rules.now = now;
  auto chain = judged([&] { return pki::make_chain(sent, rules).certificates; });
  const Leaf leaf = leaf_of(chain.front());
  if (std::find(leaf.uses.begin(), leaf.uses.end(), "clientAuth") == leaf.uses.end())
    refuse("the certificate is not for a TLS client");
  if (leaf.names != std::vector<std::string>{"DNS:" + agent})
    refuse("the certificate must name only this agent, " + agent);
  return chain;
}

}  // namespace keyagent::link
