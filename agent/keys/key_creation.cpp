// SPDX-License-Identifier: Apache-2.0
// A new key: what is allowed, its journal, its generation in the token, its tests.

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include <algorithm>
#include <utility>

#include "agent/base/encoding.h"
#include "agent/base/log.h"
#include "agent/keys/key_store_impl.h"

namespace keyagent::keys {
namespace {

using Number = std::unique_ptr<BIGNUM, decltype(&BN_free)>;

Number modulus_of(const Bytes& spki) {
  const unsigned char* der = spki.data();
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      d2i_PUBKEY(nullptr, &der, static_cast<long>(spki.size())), EVP_PKEY_free);
  BIGNUM* n = nullptr;
  if (key) EVP_PKEY_get_bn_param(key.get(), OSSL_PKEY_PARAM_RSA_N, &n);
  return Number(n, BN_free);
}

// Weak randomness shows as a modulus that shares a factor with another (Heninger et al. 2012;
// RELIABILITY 70).
bool shares_factor(const Bytes& a, const Bytes& b) {
  const Number m = modulus_of(a), n = modulus_of(b);
  if (!m || !n) return false;
  const std::unique_ptr<BN_CTX, decltype(&BN_CTX_free)> context(BN_CTX_new(), BN_CTX_free);
  const Number divisor(BN_new(), BN_free);
  return BN_gcd(divisor.get(), m.get(), n.get(), context.get()) != 1 || !BN_is_one(divisor.get());
}

[[noreturn]] void throw_exists(const KeyRecord& known) {
  throw Error(Code::kExists,
              "key " + known.name.text() + " already exists as " +
                  std::string(name_of(known.purpose)) + ", " +
                  std::string(name_of(known.algorithm)) +
                  (known.exchangeable ? ", exchangeable" : "") +
                  (known.accepts_cbc ? ", accepting AES-CBC" : ""),
              known.kid.text());
}

}  // namespace

void require_fitting(Purpose purpose, KeyAlgorithm algorithm, EnvelopeAlgorithm envelope) {
  const bool fits =
      allowed(purpose, algorithm) &&
      (envelope == EnvelopeAlgorithm::kNone ? !opens(purpose)
                                            : opens(purpose) && can_seal(algorithm, envelope));
  if (fits) return;
  throw Error(
      Code::kUsage,
      "a " + std::string(name_of(purpose)) + " key cannot be " + std::string(name_of(algorithm)) +
          (envelope == EnvelopeAlgorithm::kNone ? "" : " with " + std::string(name_of(envelope))));
}

int KeyStore::Impl::next_generation(const KeyName& name) const {
  int newest = 0;
  const auto now = current();
  for (const auto& record : now->records) {
    if (record.name == name) newest = std::max(newest, record.generation);
  }
  return newest + 1;
}

KeyRecord KeyStore::Impl::complete(const JournalStep& step, const Bytes& spki) {
  KeyRecord record = step.planned;
  record.spki = spki;
  record.kid = spki.empty() ? Kid(to_hex(random_bytes(16))) : Kid(jwk_thumbprint(spki));
  record.created = record.changed = options.clock->now();
  if (record.state == KeyState::kActive) record.activated = record.created;
  const auto now = current();
  for (const auto& other : now->records) {
    if (is_rsa(record.algorithm) && is_rsa(other.algorithm) &&
        shares_factor(record.spki, other.spki)) {
      throw Error(Code::kIntegrity,
                  "the new RSA key shares a factor with key " + other.name.text() +
                      ": the token's random number generator is broken; the key was rejected");
    }
  }
  vault.self_test(vault_key(record));
  return record;
}

// Nothing of a creation that went wrong stays, as far as the token answers now; reconcile() does
// the rest later.
void KeyStore::Impl::undo(const CkaId& cka_id) {
  try {
    vault.destroy(cka_id);
    ledger.drop_step(cka_id);
    republish();
  } catch (const std::exception& error) {
    log_warning("keys",
                std::string("a key that was not completed is left for the next reconciliation: ") +
                    error.what());
  }
}

std::string KeyStore::Impl::label_of(const KeyName& name) const {
  return "keyagent:" + options.agent_id + ":" + name.text();
}

KeyRecord KeyStore::Impl::make(const JournalStep& step) {
  vault.require_writable();
  ledger.begin_step(step);
  KeyRecord record;
  try {
    const auto& planned = step.planned;
    const Bytes spki = vault.generate({step.cka_id, label_of(planned.name), planned.algorithm,
                                       planned.purpose, planned.exchangeable});
    record = complete(step, spki);
    ledger.finish_create(record);
  } catch (...) {
    undo(step.cka_id);
    throw;
  }
  return take_into_use(record);
}

// From here on the key exists, whatever else fails: a repetition finds it.
KeyRecord KeyStore::Impl::take_into_use(const KeyRecord& record) {
  republish();
  vault.adopt(vault_key(record));
  return record;
}

CreateResult KeyStore::create(const CreateRequest& request, const Cause& cause) {
  const MutexLock lock(impl_->change_mutex);
  impl_->require_reconciled();
  JournalStep step;
  KeyRecord& planned = step.planned;
  planned.name = request.name;
  planned.purpose = request.purpose;
  planned.algorithm = request.algorithm.value_or(default_algorithm(request.purpose));
  planned.envelope =
      request.envelope.value_or(default_envelope(request.purpose, planned.algorithm));
  planned.exchangeable = request.exchangeable;
  planned.accepts_cbc = request.accepts_cbc;
  planned.reason = cause.reason;
  planned.actor = cause.actor;
  require_fitting(planned.purpose, planned.algorithm, planned.envelope);
  if (planned.exchangeable && planned.purpose != Purpose::kStorage)
    throw Error(Code::kUsage, "only storage keys are exchangeable");
  if (planned.accepts_cbc && planned.purpose != Purpose::kTransport)
    throw Error(Code::kUsage, "only transport keys can accept AES-CBC content");
  if (const auto named = purpose_of_name(request.name);
      named && planned.purpose == Purpose::kSign) {
    const std::string purpose(name_of(*named));
    throw Error(Code::kUsage, "the name " + request.name.text() +
                                  " is reserved for a key of purpose " + purpose +
                                  ": use --purpose " + purpose + ", or another name");
  }
  const auto snapshot = impl_->current();
  if (const KeyRecord* known = impl_->find_named(*snapshot, request.name)) {
    const bool fits = known->purpose == planned.purpose &&
                      (!request.algorithm || known->algorithm == planned.algorithm) &&
                      (!request.envelope || known->envelope == planned.envelope);
    // A name that only has what was imported gets its own key.
    const bool only_imported = !known->origin.empty() && known->state == KeyState::kDeactivated;
    if (fits && !only_imported && known->exchangeable == planned.exchangeable &&
        known->accepts_cbc == planned.accepts_cbc)
      return {*known, false};
    if (!fits || !only_imported) throw_exists(*known);
  }
  planned.generation = impl_->next_generation(request.name);
  step.cka_id = planned.cka_id = CkaId::random();
  return {impl_->make(step), true};
}

}  // namespace keyagent::keys
