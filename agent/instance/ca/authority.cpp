// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/ca/authority.h"

#include <algorithm>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/base/log.h"
#include "agent/instance/common/json.h"
#include "agent/pki/revocation_list.h"
#include "agent/store/certificates.h"
#include "agent/store/challenges.h"
#include "agent/store/enroll_rows.h"
#include "agent/store/settings.h"

namespace keyagent::instance {
namespace {

using namespace std::chrono_literals;

constexpr auto kCaLife = std::chrono::hours(24 * 3650);
constexpr auto kSkew = 5min;  // clocks of agents that are behind

bool is_address(const std::string& host) {
  return host.find(':') != std::string::npos ||
         host.find_first_not_of("0123456789.") == std::string::npos;
}

}  // namespace

Authority::Authority(const InstanceConfig& config, HostKeys& keys, store::Store& store,
                     Recorder& recorder, const Clock& clock)
    : config_(config), keys_(keys), store_(store), recorder_(recorder), clock_(clock) {
  if (config.outside) outside_ = std::make_unique<ExternalCa>(*config.outside, store, clock);
}

pki::Validity Authority::valid_for(std::chrono::milliseconds life) const {
  const auto now = clock_.now();
  return {now - kSkew, now + life};
}

void Authority::bring_up() {
  const Bytes spki =
      outside_ ? pki::certificate_facts(outside_->root()).spki : keys_.find(config_.ca_key).spki;
  if (!store_.settings().get(kSetting)) {
    const Bytes first = outside_ ? outside_->root()
                                 : keys_.make_authority("/O=keyagent/CN=instance " + config_.id,
                                                        valid_for(kCaLife));
    // Another replica may have been faster: its certificate is the one.
    if (store_.settings().set_once(kSetting, pki::certificate_pem(first)))
      log_info("instance", "loaded the certification authority of instance " + config_.id);
  }
  certificate_ = pki::read_certificates(as_bytes(store_.settings().get(kSetting).value())).front();
  if (pki::certificate_facts(certificate_).spki != spki)
    throw Error(Code::kIntegrity,
                outside_ ? "the key of ca.outside differs from the CA key of this store, which the "
                           "agents pinned; use a new store for this instance"
                         : "the store's CA certificate is for another key than " + config_.ca_key +
                               " of this host's agent: the agents pinned that key; restore the "
                               "token, or use a new store for this instance",
                jwk_thumbprint(spki));
  if (outside_) certificate_ = outside_->root();  // its key may have a new certificate
}

std::string Authority::fingerprint() const {
  return to_base64url(sha256(pki::certificate_facts(certificate_).spki));
}

store::Certificate Authority::sign(const HostKeys::Certified& certified, const std::string& agent,
                                   const std::string& kid) {
  Bytes der = keys_.issue(certificate_, certified);
  const auto facts = pki::certificate_facts(der);
  if (facts.spki != certified.spki)
    throw Error(Code::kIntegrity, "the agent of this host certified another key");
  store::Certificate row;
  row.serial = facts.serial;
  row.agent = agent;
  row.kid = kid;
  row.not_before = facts.not_before;
  row.not_after = facts.not_after;
  row.der = std::move(der);
  return row;
}

ExternalCa& Authority::outside() {
  if (!outside_)
    throw Error(Code::kUsage, "this instance has a built-in CA: ca.outside is not set");
  return *outside_;
}

std::optional<std::string> Authority::certify_agent(const std::string& agent, ByteView spki,
                                                    const std::string& csr) {
  if (outside_) {
    const auto chain = outside_->chain_of(agent, spki, csr);
    if (!chain) return std::nullopt;
    std::string pem;
    for (const auto& each : *chain) pem += pki::certificate_pem(each);
    return pem;
  }
  const auto certificate = sign_for_agent(agent, spki);
  enter(certificate);
  return chain_of(certificate);
}

store::Certificate Authority::sign_for_agent(const std::string& agent, ByteView spki) {
  const HostKeys::Certified certified{
      {spki.begin(), spki.end()}, pki::Use::kClient, {agent}, valid_for(config_.certificate_life)};
  return sign(certified, agent, jwk_thumbprint(spki));
}

std::string Authority::chain_of(const store::Certificate& certificate) const {
  return pki::certificate_pem(certificate.der) + certificate_pem();
}

// Stores a certificate before it is handed out; a certificate that cannot be stored is discarded.
store::IssueOutcome Authority::enter(const store::Certificate& certificate,
                                     const store::Challenge* challenge) {
  const auto outcome = store_.certificates().issue(
      certificate, {.count = config_.limits.certificates}, clock_.now(), challenge, "proved");
  if (outcome == store::IssueOutcome::kNotTrusted)
    throw Error(Code::kKeyState,
                "the agent " + certificate.agent + " is no longer trusted with this key",
                certificate.kid);
  if (outcome == store::IssueOutcome::kOverBudget) {
    const std::string text = "it had " + std::to_string(config_.limits.certificates) +
                             " certificates in 24 h (limits.certificates)";
    recorder_.record(Outcome::kAlarm, "agent " + certificate.agent, "certificate.renew",
                     certificate.agent, text);
    throw Error(Code::kBusy, "no certificate for the agent " + certificate.agent + ": " + text +
                                 "; find out why it requests certificates, or raise the limit");
  }
  return outcome;
}

std::optional<std::string> Authority::certify_enrolled(const std::string& agent, ByteView spki,
                                                       const std::string& csr,
                                                       const std::string& enrollment) {
  if (outside_) return certify_agent(agent, spki, csr);
  // The second time another replica, or another poll, was faster: its certificate is the one.
  for (int i = 0; i < 2; ++i) {
    auto challenge = store_.challenges().find(enrollment, clock_.now());
    if (!challenge) break;
    Json data = parse_object(challenge->data);
    if (challenge->state == kCertified) {
      const auto serial = text_of(data, "serial");
      for (const auto& each : store_.certificates().list(agent)) {
        if (each.serial == serial && !each.revoked && each.not_after > clock_.now())
          return chain_of(each);
      }
      break;
    }
    const auto certificate = sign_for_agent(agent, spki);
    data["serial"] = certificate.serial;
    challenge->data = data.dump();
    challenge->state = kCertified;
    if (enter(certificate, &*challenge) == store::IssueOutcome::kIssued)
      return chain_of(certificate);
  }
  throw Error(Code::kDenied,
              "the certificate of this enrollment was revoked or has expired; enroll again");
}

tls::Identity Authority::server_identity() {
  const auto info = keys_.find(config_.tls_key);
  if (outside_)
    return {info.kid.text(),
            outside_->server_chain(config_.tls_key, info.spki, config_.hosts.front())};
  const auto third = clock_.now() + config_.certificate_life / 3;
  for (const auto& each : store_.certificates().own()) {
    const bool ours = each.kid == info.kid.text() && !each.revoked;
    if (ours && each.not_after > third) return {info.kid.text(), {each.der, certificate_}};
  }
  const HostKeys::Certified certified{info.spki, pki::Use::kServer, config_.hosts,
                                      valid_for(config_.certificate_life)};
  const auto certificate = sign(certified, {}, info.kid.text());
  store_.certificates().add(certificate);
  return {info.kid.text(), {certificate.der, certificate_}};
}

tls::Trust Authority::agents_trust() {
  tls::Trust trust;
  trust.anchors = {certificate_};
  trust.crls = {current_crl()};
  return trust;
}

std::string Authority::crl_pem() {
  return pki::crl_pem(current_crl());
}

// A CRL lives crl_life and is made again at half of it, and whenever something was revoked.
Bytes Authority::current_crl() {
  if (outside_) return outside_->crl();
  // Before the time is read: a list's number is its time, and numbers never go back.
  const MutexLock lock(mutex_);
  // Before the list: what is revoked meanwhile is in it, and another mark the next time.
  const auto now = clock_.now();
  const auto mark = store_.certificates().revocation_mark(now);
  if (!crl_.empty() && mark == crl_mark_ && now <= crl_made_ + config_.crl_life / 2) return crl_;
  std::vector<pki::Revoked> revoked;
  for (const auto& each : store_.certificates().revoked(now))
    revoked.push_back({each.serial, *each.revoked, each.reason});
  const auto number = std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch());
  crl_ = keys_.make_crl(certificate_, revoked, static_cast<std::uint64_t>(number.count()),
                        valid_for(config_.crl_life));
  crl_mark_ = mark;
  crl_made_ = now;
  return crl_;
}

void Authority::revoke(const std::string& agent, const std::string& reason) {
  for (const auto& each : store_.certificates().list(agent)) {
    if (!each.revoked && each.not_after > clock_.now())
      store_.certificates().revoke(each.serial, clock_.now(), reason);
  }
}

std::vector<std::string> server_names(const InstanceConfig& config) {
  std::vector<std::string> names;
  for (const auto& host : config.hosts) names.push_back((is_address(host) ? "IP:" : "DNS:") + host);
  return names;
}

}  // namespace keyagent::instance
