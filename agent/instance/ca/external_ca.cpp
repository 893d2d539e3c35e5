// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/ca/external_ca.h"

#include <algorithm>

#include "agent/base/disk.h"
#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/pki/chain.h"
#include "agent/pki/issuer.h"
#include "agent/pki/revocation_list.h"
#include "agent/store/certificates.h"
#include "agent/store/challenges.h"
#include "agent/store/enroll_rows.h"

namespace keyagent::instance {
namespace {

constexpr auto kPatience = std::chrono::hours(24 * 30);  // of a request
constexpr std::int64_t kMaxImports = 1000;               // of one agent in 24 h
constexpr const char* kKind = "certificate";

Bytes read(const std::filesystem::path& path, const std::string& what) {
  try {
    return read_trusted_file(path);
  } catch (const Error& error) {
    throw Error(Code::kConfiguration, what + ": " + error.what());
  }
}

std::string id_of(const std::string& agent, const std::string& kid) {
  return "certificate " + agent + " " + kid;
}

bool says(const pki::CertificateFacts& facts, const char* use) {
  return std::find(facts.uses.begin(), facts.uses.end(), use) != facts.uses.end();
}

}  // namespace

ExternalCa::ExternalCa(const OutsideFiles& files, store::Store& store, const Clock& clock)
    : files_(files), store_(store), clock_(clock) {
  known_ = pki::read_certificates(read_trusted_file(files_.authority));
  for (const auto& each : known_) {
    const auto facts = pki::certificate_facts(each);
    if (facts.subject != facts.issuer) continue;
    if (!root_.empty())
      throw Error(Code::kConfiguration, files_.authority.string() +
                                            " has more than one root; agents pin exactly one key");
    root_ = each;
  }
  if (root_.empty())
    throw Error(Code::kConfiguration,
                files_.authority.string() + " has no root (a self-signed certificate)");
}

std::vector<Bytes> ExternalCa::with_known(std::vector<Bytes> certificates) const {
  certificates.insert(certificates.end(), known_.begin(), known_.end());
  return certificates;
}

std::vector<Bytes> ExternalCa::server_chain(const std::string& key, ByteView spki,
                                            const std::string& host) {
  if (!std::filesystem::exists(files_.certificate))
    throw Error(Code::kConfiguration,
                files_.certificate.string() +
                    " does not exist: have the CA certify `keyinstanced --config FILE request`");
  const auto file = pki::read_certificates(read(files_.certificate, "ca.certificate"));
  auto chain = pki::make_chain(with_known(file),
                               {{spki.begin(), spki.end()}, key, true, host, {root_}, clock_.now()})
                   .certificates;
  if (!says(pki::certificate_facts(chain.front()), "serverAuth"))
    throw Error(Code::kConfiguration, files_.certificate.string() +
                                          " is not for TLS servers: extendedKeyUsage=serverAuth");
  // Agents look for the root among what is sent.
  if (chain.back() != root_) chain.push_back(root_);
  return chain;
}

Bytes ExternalCa::crl() const {
  return pki::read_crl(as_text(read(files_.crl, "ca.crl")), root_);
}

std::optional<std::vector<Bytes>> ExternalCa::chain_of(const std::string& agent, ByteView spki,
                                                       const std::string& csr) {
  const auto kid = jwk_thumbprint(spki);
  std::optional<store::Certificate> newest;
  for (auto& each : store_.certificates().list(agent)) {
    const bool good = each.kid == kid && !each.revoked && each.not_after > clock_.now();
    if (good && (!newest || each.not_after > newest->not_after)) newest = std::move(each);
  }
  if (newest)
    return pki::make_chain(with_known({newest->der}),
                           {{spki.begin(), spki.end()}, agent, true, agent, {root_}, clock_.now()})
        .certificates;
  store::Challenge waiting{id_of(agent, kid), kKind, agent, "asked", csr, clock_.now() + kPatience};
  if (const auto known = store_.challenges().find(waiting.id, clock_.now())) {
    if (known->state != "asked") store_.challenges().move(waiting, known->state);
    return std::nullopt;
  }
  try {
    store_.challenges().add(waiting, clock_.now());
  } catch (const Error& error) {
    if (error.code() != Code::kExists) throw;  // the agent has asked twice at once
  }
  return std::nullopt;
}

Json ExternalCa::requests() const {
  Json out = Json::array();
  for (const auto& each : store_.challenges().all(kKind, clock_.now())) {
    if (each.state != "asked") continue;
    out.push_back({{"agent", each.agent},
                   {"kid", each.id.substr(each.id.rfind(' ') + 1)},
                   {"csr", each.data},
                   {"until", rfc3339(each.expires)}});
  }
  return {{"requests", out}};
}

Json ExternalCa::import(const std::string& agent, const std::string& file) {
  const auto certificates = pki::read_certificates(as_bytes(file));
  std::optional<Error> refused;
  for (auto waiting : store_.challenges().all(kKind, clock_.now())) {
    if (waiting.agent != agent || waiting.state != "asked") continue;
    const Bytes spki = pki::key_of_request(waiting.data);
    try {
      const auto leaf = pki::make_chain(with_known(certificates),
                                        {spki, agent, true, agent, {root_}, clock_.now()})
                            .certificates.front();
      // What is between has to be known here, too: the next start has this file no more.
      pki::make_chain(with_known({leaf}), {spki, agent, true, agent, {root_}, clock_.now()});
      const auto facts = pki::certificate_facts(leaf);
      if (facts.names != std::vector<std::string>{"DNS:" + agent})
        throw Error(
            Code::kIntegrity,
            "the certificate must name only this agent; its request has subjectAltName DNS:" +
                agent);
      if (!says(facts, "clientAuth"))
        throw Error(Code::kIntegrity,
                    "the certificate is not for TLS clients: extendedKeyUsage=clientAuth");
      waiting.state = "certified";
      const auto entered =
          store_.certificates().issue({facts.serial, agent, jwk_thumbprint(spki), facts.not_before,
                                       facts.not_after, std::nullopt, "", leaf},
                                      {.count = kMaxImports}, clock_.now(), &waiting, "asked");
      if (entered != store::IssueOutcome::kIssued)
        throw Error(Code::kKeyState,
                    entered == store::IssueOutcome::kOverBudget
                        ? "the agent " + agent + " has too many certificates of the last 24 h"
                        : "the agent " + agent +
                              " is no longer trusted with this key, or its request has ended; run: "
                              "keyagent instance certificate list");
      return {{"agent", agent},
              {"kid", jwk_thumbprint(spki)},
              {"serial", facts.serial},
              {"not_after", facts.valid_until}};
    } catch (const pki::ChainError& error) {
      // Of two requests the certificate may be for the other.
      if (!refused || error.fault() != pki::ChainFault::kOtherKey) refused = error;
    }
  }
  if (refused) throw *refused;
  throw Error(Code::kUsage,
              "no request of agent " + agent +
                  " waits for a certificate; run: keyagent instance certificate list");
}

}  // namespace keyagent::instance
