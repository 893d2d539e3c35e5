#include "agent/instance/authority.h"

#include <algorithm>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/base/log.h"
#include "agent/pki/revocation_list.h"

namespace keyagent::instance {
namespace {

using namespace std::chrono_literals;

constexpr auto kCaLife = std::chrono::hours(24 * 3650);
constexpr auto kSkew = 5min;  // clocks of agents that are behind
constexpr const char* kSetting = "ca-certificate";

bool is_address(const std::string& host) {
  return host.find(':') != std::string::npos ||
         host.find_first_not_of("0123456789.") == std::string::npos;
}

}  // namespace

Authority::Authority(const InstanceConfig& config, HostKeys& keys, store::Store& store,
                     const Clock& clock)
    : config_(config), keys_(keys), store_(store), clock_(clock), crl_entries_(0) {}

pki::Validity Authority::valid_for(std::chrono::milliseconds life) const {
  const auto now = clock_.now();
  return {now - kSkew, now + life};
}

void Authority::bring_up() {
  const auto info = keys_.find(config_.ca_key);
  if (!store_.setting(kSetting)) {
    const Bytes made = pki::make_authority(info.spki, "/O=keyagent/CN=instance " + config_.id,
                                           valid_for(kCaLife), keys_.ca_signer());
    // Another replica may have been faster: its certificate is the one.
    if (store_.set_setting_once(kSetting, pki::certificate_pem(made)))
      log_info("instance", "made the certification authority of instance " + config_.id);
  }
  certificate_ = pki::read_certificates(as_bytes(store_.setting(kSetting).value())).front();
  if (pki::certificate_facts(certificate_).spki != info.spki)
    throw Error(Code::kIntegrity,
                "the store's CA certificate is for another key than " + config_.ca_key +
                    " of this host's agent: the agents pinned that key; restore the token, or give "
                    "this instance a new store",
                info.kid.text());
}

std::string Authority::fingerprint() const {
  return to_base64url(sha256(pki::certificate_facts(certificate_).spki));
}

Bytes Authority::issue(const pki::Certified& certified, const std::string& agent,
                       const std::string& kid) {
  Bytes der = pki::issue(certificate_, certified, keys_.ca_signer());
  store::Certificate row;
  row.serial = certified.serial;
  row.agent = agent;
  row.kid = kid;
  row.not_before = certified.validity.not_before;
  row.not_after = certified.validity.not_after;
  row.der = der;
  store_.add_certificate(row);
  return der;
}

std::string Authority::certify_agent(const std::string& agent, ByteView spki) {
  const pki::Certified certified{
      {spki.begin(), spki.end()}, "/O=keyagent/CN=" + agent,           {"DNS:" + agent},
      pki::Use::kClient,          valid_for(config_.certificate_life), pki::new_serial()};
  return pki::certificate_pem(issue(certified, agent, jwk_thumbprint(spki))) + certificate_pem();
}

tls::Identity Authority::server_identity() {
  const auto info = keys_.find(config_.tls_key);
  const auto third = clock_.now() + config_.certificate_life / 3;
  for (const auto& each : store_.certificates({})) {
    const bool ours = each.agent.empty() && each.kid == info.kid.text() && !each.revoked;
    if (ours && each.not_after > third) return {info.kid.text(), {each.der, certificate_}};
  }
  std::vector<std::string> names;
  for (const auto& host : config_.hosts)
    names.push_back((is_address(host) ? "IP:" : "DNS:") + host);
  const pki::Certified certified{
      info.spki,         "/O=keyagent/CN=" + config_.hosts.front(), names,
      pki::Use::kServer, valid_for(config_.certificate_life),       pki::new_serial()};
  return {info.kid.text(), {issue(certified, {}, info.kid.text()), certificate_}};
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

// A CRL lives crl_life and is made anew at half of it, and whenever something was revoked.
Bytes Authority::current_crl() {
  std::vector<pki::Revoked> revoked;
  for (const auto& each : store_.certificates({})) {
    if (each.revoked && each.not_after > clock_.now())
      revoked.push_back({each.serial, *each.revoked, each.reason});
  }
  const std::lock_guard lock(mutex_);
  const auto now = clock_.now();
  if (crl_.empty() || revoked.size() != crl_entries_ || now > crl_made_ + config_.crl_life / 2) {
    const auto number =
        std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch());
    crl_ = pki::make_crl(certificate_, revoked, static_cast<std::uint64_t>(number.count()),
                         valid_for(config_.crl_life), keys_.ca_signer());
    crl_entries_ = revoked.size();
    crl_made_ = now;
  }
  return crl_;
}

void Authority::revoke(const std::string& agent, const std::string& reason) {
  for (const auto& each : store_.certificates(agent)) {
    if (!each.revoked && each.not_after > clock_.now())
      store_.revoke_certificate(each.serial, clock_.now(), reason);
  }
}

}  // namespace keyagent::instance
