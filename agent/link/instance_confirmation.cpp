// SPDX-License-Identifier: Apache-2.0
#include "agent/link/instance_confirmation.h"

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/envelope/statement.h"
#include "agent/link/certificates.h"

namespace keyagent::link {
namespace {

using keys::Confirmation;

// How long a new session may take before the rekey is put off.
constexpr std::chrono::seconds kNewSession{3};

PublicKeyInfo info_of(const keys::KeyRecord& key) {
  return {key.kid, key.name.text(), key.algorithm, key.purpose, key.envelope, key.spki};
}

// Temporary failures, worth another attempt; a suspended agent is one.
bool may_pass(Code code) {
  return retryable(code) || code == Code::kKeyState || code == Code::kInternal ||
         code == Code::kRefusedByPeer;
}

}  // namespace

Confirmation::Said BothConfirm::ask(Phase phase, const keys::RekeyRecord& rekey,
                                    const keys::KeyRecord& old, const keys::KeyRecord& fresh) {
  for (auto* each : {first_, second_}) {
    if (each == nullptr) continue;
    auto said = each->ask(phase, rekey, old, fresh);
    if (said.answer != Answer::kConfirmed) return said;
  }
  return {};
}

// A revoked key proves nothing to the instance: the enrollment that replaces it does. A transport
// key that was revoked after both keys were proved is not one: the instance has the new one.
bool InstanceConfirmation::is_replaced_by_enrollment(Phase phase, const LinkState& state,
                                                     bool transport, const keys::KeyRecord& old,
                                                     const keys::KeyRecord& fresh) const {
  if (old.state != KeyState::kCompromised) return false;
  if (phase == Phase::kProve) return enrolling_;
  return transport && state.rotation_kid != fresh.kid.text();
}

Confirmation::Said InstanceConfirmation::ask(Phase phase, const keys::RekeyRecord& rekey,
                                             const keys::KeyRecord& old,
                                             const keys::KeyRecord& fresh) {
  const auto state = store_.get();
  const bool transport = state && rekey.name.text() == state->transport_key;
  const bool auth = state && rekey.name.text() == state->auth_key;
  if (!transport && !auth) return {};
  if (is_replaced_by_enrollment(phase, *state, transport, old, fresh)) return {};
  if (state->stage == LinkState::Stage::kPending)
    return {Answer::kLater, "the instance has not approved this agent yet"};
  try {
    return transport ? ask_about_transport(phase, *state, old, fresh)
                     : ask_about_auth(phase, *state, fresh);
  } catch (const Error& error) {
    const std::string text = std::string(code_name(error.code())) + ": " + error.what();
    if (may_pass(error.code())) return {Answer::kLater, text};
    if (alarmed_ != text)
      tell(keys::KeyEvent::Weight::kAlarm, "link.confirmation", fresh, error.code(), error.what());
    alarmed_ = text;
    return {Answer::kRefused, text};
  }
}

void InstanceConfirmation::tell(keys::KeyEvent::Weight weight, const char* what,
                                const keys::KeyRecord& key, Code code,
                                const std::string& detail) const {
  if (!context_.tell) return;
  const std::string outcome = code == Code::kOk ? "ok" : std::string(code_name(code));
  context_.tell({weight, what, key.name.text(), key.kid.text(), "internal:link", outcome, detail});
}

// Tells the instance the new key and opens a challenge with each of the two. Returns the rotation.
std::string InstanceConfirmation::prove(InstanceApi& api, const keys::KeyRecord& old,
                                        const keys::KeyRecord& fresh) {
  const Rotation rotation = api.begin_transport(old.kid.text(), info_of(fresh));
  const SecretBytes by_old = keys_.answer(old.kid.text(), rotation.old_challenge);
  const SecretBytes by_new = keys_.answer(fresh.kid.text(), rotation.new_challenge);
  api.prove_transport(rotation.id, by_old, by_new);
  store_.update([&](LinkState& state) {
    state.rotation = rotation.id;
    state.rotation_kid = fresh.kid.text();
  });
  return rotation.id;
}

Confirmation::Said InstanceConfirmation::ask_about_transport(Phase phase, const LinkState& state,
                                                             const keys::KeyRecord& old,
                                                             const keys::KeyRecord& fresh) {
  InstanceApi api(library_.get(),
                  options_for(state, keys_.show(state.auth_key).kid(), context_.timing));
  if (phase == Phase::kProve) {
    prove(api, old, fresh);
    return {};
  }
  std::string id = state.rotation_kid == fresh.kid.text() ? state.rotation : "";
  std::string jws;
  try {
    if (!id.empty()) jws = api.switch_transport(id);
  } catch (const Error& error) {
    // It has forgotten the rotation: all three may be repeated.
    if (error.code() != Code::kKeyNotPresent && error.code() != Code::kUsage) throw;
    id.clear();
  }
  if (id.empty()) jws = api.switch_transport(prove(api, old, fresh));
  require_confirmation(state, jws, old, fresh);
  store_.update([&](LinkState& kept) {
    kept.confirmation = jws;
    kept.rotation.clear();
    kept.rotation_kid.clear();
  });
  switched_();
  tell(keys::KeyEvent::Weight::kInfo, "link.confirmed", fresh, Code::kOk,
       "the instance trusts the new key instead of " + old.kid.text() + ", signed: " + jws);
  return {};
}

void InstanceConfirmation::require_confirmation(const LinkState& state, const std::string& jws,
                                                const keys::KeyRecord& old,
                                                const keys::KeyRecord& fresh) {
  const auto pinned = from_base64url(state.confirmation_key);
  const Bytes payload = envelope::verify_statement(signing_key_of(pinned.value_or(Bytes{})), jws,
                                                   envelope::Statement::kRotation);
  const link::Answer said{std::string(as_text(payload))};
  const bool ours = said.text("agent") == state.agent && said.text("old_kid") == old.kid.text() &&
                    said.text("new_kid") == fresh.kid.text();
  if (!ours)
    throw Error(Code::kIntegrity, "the instance's confirmation is for another rekey",
                fresh.kid.text());
}

Confirmation::Said InstanceConfirmation::ask_about_auth(Phase phase, const LinkState& state,
                                                        const keys::KeyRecord& fresh) {
  const std::string kid = fresh.kid.text();
  if (phase == Phase::kSwitched) {
    if (uplink_.report().auth_kid != kid) uplink_.reconnect();
    if (!uplink_.wait_connected(kid, kNewSession))
      return {Answer::kLater, "the link is not up with the new certificate yet"};
    store_.update([&](LinkState& kept) {
      std::erase_if(kept.certificates, [&](const auto& each) { return each.first != kid; });
    });
    return {};
  }
  if (state.certificates.contains(kid)) return {};
  const std::string now = keys_.show(state.auth_key).kid();
  InstanceApi api(library_.get(), options_for(state, now, context_.timing));
  std::string crl;
  const auto sent = certificates_of_pem(
      api.renew(keys_.certification_request(keys_.show(kid), state.agent), crl));
  const Bytes ca = certificates_of_pem(state.ca).front();
  const auto chain = require_ours(sent, ca, fresh.spki, state.agent, context_.clock->now());
  if (!crl.empty()) revocation_list_of_pem(crl, ca);
  store_.update([&](LinkState& kept) {
    std::erase_if(kept.certificates, [&](const auto& each) { return each.first != now; });
    kept.certificates[kid] = pem_of_certificates(chain);
    if (!crl.empty()) kept.crl = crl;
  });
  tell(keys::KeyEvent::Weight::kInfo, "link.certificate", fresh, Code::kOk,
       "serial " + leaf_of(chain.front()).serial + " until " + leaf_of(chain.front()).valid_until);
  return {};
}

}  // namespace keyagent::link
