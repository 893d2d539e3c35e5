// SPDX-License-Identifier: Apache-2.0
// Certificates of keys: install, show, remove, and their status.

#include "agent/base/encoding.h"
#include "agent/gate/operation.h"
#include "agent/pki/chain.h"

namespace keyagent::gate {
namespace {

using Days = std::chrono::duration<int, std::ratio<86400>>;

// MISSION T8: warn again when fewer days are left.
constexpr int kWarnings[] = {1, 7, 14, 30};

void describe(const std::vector<Bytes>& chain, wire::CertificateReply& reply) {
  for (const auto& der : chain) {
    const auto facts = pki::certificate_facts(der);
    auto& out = *reply.add_chain();
    out.set_der(der.data(), der.size());
    out.set_subject(facts.subject);
    out.set_issuer(facts.issuer);
    out.set_serial(facts.serial);
    out.set_not_before(facts.valid_from);
    out.set_not_after(facts.valid_until);
    for (const auto& name : facts.names) out.add_names(name);
    for (const auto& use : facts.uses) out.add_uses(use);
  }
}

void describe(const Call& call, wire::CertificateReply& reply) {
  KeyDescriber(call.state).describe(*call.key, *reply.mutable_key());
  const auto record = call.state.services.keys.certificate(call.key->kid);
  if (!record) return;
  describe(record->chain, reply);
  reply.set_installed(rfc3339(record->installed));
  reply.set_actor(record->actor);
}

std::vector<Bytes> read_authorities(const std::string& file) {
  if (file.empty()) return {};
  try {
    return pki::read_authorities(as_bytes(file));
  } catch (const pki::ChainError& error) {
    throw pki::ChainError(error.fault(), std::string("the authorities: ") + error.what());
  }
}

}  // namespace

// Everything is checked before anything changes.
void run_certificate_install(Call& call) {
  const auto& request = call.request.certificate_install();
  const auto& key = *call.key;
  if (key.spki.empty())
    throw Error(Code::kUsage,
                "key " + key.name.text() + " is a secret key and cannot have a certificate",
                key.kid.text());
  const auto& services = call.state.services;
  const pki::ChainRules rules{key.spki,
                              key.name.text(),
                              key.purpose == Purpose::kAuth,
                              request.host(),
                              read_authorities(request.authorities()),
                              services.clock.now()};
  const auto chain = pki::make_chain(pki::read_certificates(as_bytes(request.file())), rules);
  const auto facts = pki::certificate_facts(chain.certificates.front());
  auto& reply = *call.response.mutable_certificate_install();
  reply.set_changed(services.keys.install_certificate(
      key.kid, chain.certificates, {"certificate installed", call.principal.text()}));
  call.detail = "serial " + facts.serial + " of " + facts.issuer + ", until " + facts.valid_until +
                (reply.changed() ? "" : "; already installed");
  for (const auto& note : chain.notes) reply.add_notes(note);
  describe(call, reply);
}

void run_certificate_show(Call& call) {
  describe(call, *call.response.mutable_certificate_show());
}

void run_certificate_remove(Call& call) {
  auto& reply = *call.response.mutable_certificate_remove();
  reply.set_changed(call.state.services.keys.install_certificate(
      call.key->kid, {}, {"certificate removed", call.principal.text()}));
  describe(call, reply);
}

CertificateWatch::CertificateWatch(const State& state)
    : all_(state.services.keys.certificates()), now_(state.services.clock.now()) {
  for (const auto& [kid, record] : *all_) {
    const auto key = state.services.keys.find(kid.text());
    int& newest = certified_[key.name];
    newest = std::max(newest, key.generation);
  }
}

CertificateWatch::Seen CertificateWatch::look(const keys::KeyRecord& record) const {
  Seen seen;
  const auto found = all_->find(record.kid);
  const bool in_force = record.state == KeyState::kActive;
  if (found == all_->end()) {
    const auto certified = certified_.find(record.name);
    if (in_force && certified != certified_.end() && certified->second < record.generation)
      seen.text = "generation " + std::to_string(record.generation) +
                  " has no certificate, and generation " + std::to_string(certified->second) +
                  " had one";
    return seen;
  }
  const auto facts = pki::certificate_facts(found->second.chain.front());
  const auto until = facts.not_after;
  seen.until = facts.valid_until;
  if (!in_force) return seen;
  const std::string date = seen.until.substr(0, 10);
  seen.ended = until <= now_;
  if (seen.ended) seen.text = "its certificate expired on " + date;
  for (const int days : kWarnings) {
    if (!seen.text.empty() || until - now_ > Days(days)) continue;
    seen.text = "its certificate expires within " + std::to_string(days) +
                (days == 1 ? " day, on " : " days, on ") + date;
  }
  return seen;
}

}  // namespace keyagent::gate
