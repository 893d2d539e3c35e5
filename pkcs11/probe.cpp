// SPDX-License-Identifier: Apache-2.0
#include "pkcs11/probe.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include <algorithm>
#include <chrono>
#include <memory>

#include "pkcs11/error.h"
#include "pkcs11/key.h"
#include "pkcs11/key_template.h"
#include "pkcs11/object.h"

namespace keyagent::pkcs11 {
namespace {

using Outcome = ProbeResult::Outcome;
using PublicKey = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using Context = std::unique_ptr<EVP_PKEY_CTX, decltype(&EVP_PKEY_CTX_free)>;

constexpr int kRepetitions = 5;
constexpr const char* kLabel = "keyagent-probe";

[[noreturn]] void wrong(const std::string& text) {
  throw Error(Error::Kind::kOutput, text);
}

Bytes random_bytes(std::size_t size) {
  Bytes bytes(size);
  if (RAND_bytes(bytes.data(), static_cast<int>(size)) != 1) wrong("no random bytes");
  return bytes;
}

PublicKey read_spki(const Bytes& spki) {
  const std::uint8_t* at = spki.data();
  PublicKey key(d2i_PUBKEY(nullptr, &at, static_cast<long>(spki.size())), EVP_PKEY_free);
  if (!key) wrong("the public key does not parse");
  return key;
}

Bytes oaep_encrypt(const Bytes& spki, const EVP_MD* hash, const Bytes& text) {
  const auto key = read_spki(spki);
  const Context context(EVP_PKEY_CTX_new(key.get(), nullptr), EVP_PKEY_CTX_free);
  Bytes out(static_cast<std::size_t>(EVP_PKEY_get_size(key.get())));
  std::size_t size = out.size();
  const bool done =
      EVP_PKEY_encrypt_init(context.get()) == 1 &&
      EVP_PKEY_CTX_set_rsa_padding(context.get(), RSA_PKCS1_OAEP_PADDING) == 1 &&
      EVP_PKEY_CTX_set_rsa_oaep_md(context.get(), hash) == 1 &&
      EVP_PKEY_CTX_set_rsa_mgf1_md(context.get(), hash) == 1 &&
      EVP_PKEY_encrypt(context.get(), out.data(), &size, text.data(), text.size()) == 1;
  if (!done) wrong("OpenSSL does not encrypt");
  out.resize(size);
  return out;
}

// The shared secret as OpenSSL computes it, and the ephemeral point that the token is given.
std::pair<Bytes, Bytes> software_ecdh(const Bytes& spki, const char* group) {
  const auto theirs = read_spki(spki);
  const PublicKey mine(EVP_EC_gen(group), EVP_PKEY_free);
  const Context context(EVP_PKEY_CTX_new(mine.get(), nullptr), EVP_PKEY_CTX_free);
  Bytes secret(64), point(133);
  std::size_t secret_size = secret.size(), point_size = 0;
  const bool done = EVP_PKEY_derive_init(context.get()) == 1 &&
                    EVP_PKEY_derive_set_peer(context.get(), theirs.get()) == 1 &&
                    EVP_PKEY_derive(context.get(), secret.data(), &secret_size) == 1 &&
                    EVP_PKEY_get_octet_string_param(mine.get(), OSSL_PKEY_PARAM_PUB_KEY,
                                                    point.data(), point.size(), &point_size) == 1;
  if (!done) wrong("OpenSSL does not derive");
  secret.resize(secret_size);
  point.resize(point_size);
  return {secret, point};
}

// Tokens differ in how they refuse a wrong tag: SoftHSM answers CKR_GENERAL_ERROR.
bool opens(Session& session, const Bytes& id, const Bytes& iv, const Bytes& aad,
           const Gcm& sealed) {
  try {
    return gcm_decrypt(session, id, iv, aad, sealed.ciphertext, sealed.tag).has_value();
  } catch (const Error& error) {
    if (error.rv_class() != RvClass::kAmbiguous && error.rv_class() != RvClass::kInput) throw;
    session.mark_unusable();
    return false;
  }
}

// The run over one token: what it made is destroyed with it.
class Prober {
 public:
  Prober(Token& token, const std::function<void(int, int, const std::string&)>& progress)
      : token_(token), profile_(token.profile()), progress_(progress) {}
  ~Prober() {
    for (const auto& id : made_) {
      try {
        token_.run([&](Session& session) { destroy(session, id); });
      } catch (const std::exception&) {
        // The token is gone; what is left carries the probe's label.
      }
    }
  }

  void run();
  std::vector<ProbeResult> take() { return std::move(results_); }

 private:
  struct Step {
    std::string name;
    bool claimed;
    std::function<void(ProbeResult&)> work;
  };

  bool claims(const char* algorithm) const { return profile_.algorithms.contains(algorithm); }
  void add(const std::string& name, bool claimed, std::function<void(ProbeResult&)> work) {
    steps_.push_back({name, claimed, std::move(work)});
  }
  void plan();
  void plan_generation();
  void plan_signatures();
  void plan_decryption();
  void plan_secret_keys();
  void plan_extraction();
  void plan_token();

  Bytes make(KeyKind kind, Usage usage, Bytes* spki = nullptr, bool extractable = false);
  void time(ProbeResult& result, const std::function<void(Session&)>& work);
  void perform(const Step& step);

  void sign_with(ProbeResult& result, KeyKind kind, SignScheme scheme, Hash hash);
  void decrypt_with(ProbeResult& result, Hash hash);
  void agree(ProbeResult& result);
  void encrypt(ProbeResult& result);
  void wrap_with(ProbeResult& result, WrapScheme scheme);
  void extract(ProbeResult& result, KeyKind kind, Usage usage);

  Token& token_;
  const Profile& profile_;
  const std::function<void(int, int, const std::string&)>& progress_;
  std::vector<Bytes> made_;
  std::vector<Step> steps_;
  std::vector<ProbeResult> results_;
};

Bytes Prober::make(KeyKind kind, Usage usage, Bytes* spki, bool extractable) {
  const KeySpec spec{kind, usage, random_bytes(16), kLabel, extractable};
  made_.push_back(spec.cka_id);
  auto made = token_.run([&](Session& session) { return generate(session, spec); }, true);
  if (spki != nullptr) *spki = std::move(made);
  return spec.cka_id;
}

void Prober::time(ProbeResult& result, const std::function<void(Session&)>& work) {
  std::vector<double> times;
  for (int i = 0; i < kRepetitions; ++i) {
    token_.run([&](Session& session) {
      const auto start = std::chrono::steady_clock::now();
      work(session);
      times.push_back(
          std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start)
              .count());
    });
  }
  std::sort(times.begin(), times.end());
  result.p50_us = times[times.size() / 2];
  result.p999_us = times.back();
}

void Prober::sign_with(ProbeResult& result, KeyKind kind, SignScheme scheme, Hash hash) {
  Bytes spki;
  const Bytes id = make(kind, Usage::kSign, &spki);
  const Bytes input = random_bytes(hash == Hash::kSha384 ? 48 : 32);
  time(result, [&](Session& session) {
    const auto signature = sign(session, id, kind, scheme, hash, input);
    if (!verify_signature(spki, scheme, hash, input, signature))
      wrong("the signature does not verify");
  });
}

void Prober::decrypt_with(ProbeResult& result, Hash hash) {
  Bytes spki;
  const Bytes id = make(KeyKind::kRsa2048, Usage::kDecrypt, &spki);
  const Bytes text = random_bytes(32);
  const auto sealed = oaep_encrypt(spki, hash == Hash::kSha1 ? EVP_sha1() : EVP_sha256(), text);
  time(result, [&](Session& session) {
    const auto opened = oaep_decrypt(session, id, hash, sealed, text.size());
    if (!std::equal(opened.begin(), opened.end(), text.begin(), text.end()))
      wrong("the decrypted data differs");
  });
}

void Prober::agree(ProbeResult& result) {
  Bytes spki;
  const Bytes id = make(KeyKind::kEcP256, Usage::kDerive, &spki);
  const auto [secret, point] = software_ecdh(spki, "P-256");
  time(result, [&, &expected = secret, &peer = point](Session& session) {
    const auto derived = ecdh(session, id, KeyKind::kEcP256, peer);
    if (!std::equal(derived.begin(), derived.end(), expected.begin(), expected.end()))
      wrong("the derived secret differs");
  });
}

void Prober::encrypt(ProbeResult& result) {
  const Bytes id = make(KeyKind::kAes256, Usage::kEncrypt);
  const Bytes aad = random_bytes(20), bytes = random_bytes(100);
  const SecretBytes text(bytes.begin(), bytes.end());
  time(result, [&](Session& session) {
    const Bytes iv = random_bytes(12);
    auto sealed = gcm_encrypt(session, id, iv, aad, text);
    if (gcm_decrypt(session, id, iv, aad, sealed.ciphertext, sealed.tag) != text)
      wrong("the decrypted data differs");
    sealed.tag[0] ^= 1;
    if (opens(session, id, iv, aad, sealed)) wrong("a wrong tag is accepted");
  });
}

void Prober::wrap_with(ProbeResult& result, WrapScheme scheme) {
  const Bytes wrapping = make(KeyKind::kAes256, Usage::kWrap);
  const Bytes target = make(KeyKind::kAes256, Usage::kEncrypt, nullptr, true);
  const KeyId under{wrapping, CKO_SECRET_KEY};
  Bytes wrapped;
  time(result, [&](Session& session) {
    wrapped = wrap(session, under, scheme, {target, CKO_SECRET_KEY});
  });
  const KeySpec copy{KeyKind::kAes256, Usage::kEncrypt, random_bytes(16), kLabel, false};
  made_.push_back(copy.cka_id);
  token_.run([&](Session& session) { unwrap(session, under, scheme, wrapped, copy); }, true);
  const Bytes iv = random_bytes(12);
  const SecretBytes text(32, 0x5a);
  token_.run([&](Session& session) {
    const auto sealed = gcm_encrypt(session, target, iv, {}, text);
    if (gcm_decrypt(session, copy.cka_id, iv, {}, sealed.ciphertext, sealed.tag) != text)
      wrong("the unwrapped key differs");
  });
}

void Prober::extract(ProbeResult& result, KeyKind kind, Usage usage) {
  const Bytes id = make(kind, usage);
  const KeyId key{id, kind == KeyKind::kAes256 ? CKO_SECRET_KEY : CKO_PRIVATE_KEY};
  const auto custody = token_.run([&](Session& session) { return prove_custody(session, key); });
  result.detail = "read: " + custody.read_answer + "; wrap: " + custody.wrap_answer +
                  "; copy: " + custody.copy_answer;
  result.outcome = custody.holds() ? Outcome::kRefused : Outcome::kLeaks;
  if (custody.holds() && profile_.always_sensitive &&
      (custody.always_sensitive == false || custody.never_extractable == false ||
       custody.local == false)) {
    result.outcome = Outcome::kFails;
    result.detail += "; LOCAL, ALWAYS_SENSITIVE or NEVER_EXTRACTABLE is reported FALSE";
  }
}

void Prober::plan_generation() {
  for (const KeyKind kind :
       {KeyKind::kRsa2048, KeyKind::kRsa3072, KeyKind::kRsa4096, KeyKind::kEcP256, KeyKind::kEcP384,
        KeyKind::kEd25519, KeyKind::kAes256}) {
    const Usage usage = kind == KeyKind::kAes256 ? Usage::kEncrypt : Usage::kSign;
    add(std::string("generate ") + kind_name(kind), claims(kind_name(kind)),
        [this, kind, usage](ProbeResult&) { make(kind, usage); });
  }
}

void Prober::plan_signatures() {
  struct Row {
    const char* name;
    KeyKind kind;
    SignScheme scheme;
    Hash hash;
    bool offered;
  };
  const Row rows[] = {
      {"RS256", KeyKind::kRsa2048, SignScheme::kPkcs1, Hash::kSha256, true},
      {"PS256", KeyKind::kRsa2048, SignScheme::kPss, Hash::kSha256, profile_.pss},
      {"ES256", KeyKind::kEcP256, SignScheme::kEcdsa, Hash::kSha256, true},
      {"ES384", KeyKind::kEcP384, SignScheme::kEcdsa, Hash::kSha384, true},
      {"EdDSA", KeyKind::kEd25519, SignScheme::kEdDsa, Hash::kNone, true},
  };
  for (const Row& row : rows) {
    add(std::string("sign ") + row.name, row.offered && claims(kind_name(row.kind)),
        [this, row](ProbeResult& result) { sign_with(result, row.kind, row.scheme, row.hash); });
  }
}

void Prober::plan_decryption() {
  const auto oaep = [this](const char* name, OaepPath path, Hash hash) {
    const std::string how = path == OaepPath::kRawInToken ? " (raw RSA in the token)" : "";
    add("decrypt " + (name + how), path != OaepPath::kUnsupported && claims("rsa-2048"),
        [this, hash](ProbeResult& result) { decrypt_with(result, hash); });
  };
  oaep("RSA-OAEP", profile_.oaep_sha1, Hash::kSha1);
  oaep("RSA-OAEP-256", profile_.oaep_sha256, Hash::kSha256);
  add("derive ECDH P-256", profile_.ecdh && claims("ec-p256"),
      [this](ProbeResult& result) { agree(result); });
}

void Prober::plan_secret_keys() {
  const bool aes = claims("aes-256");
  add("encrypt A256GCM", aes && profile_.aes_gcm, [this](ProbeResult& r) { encrypt(r); });
  add("wrap AES-KW", aes && profile_.aes_key_wrap,
      [this](ProbeResult& r) { wrap_with(r, WrapScheme::kAesKw); });
  add("wrap AES-KWP", aes && profile_.aes_kwp_mechanism != 0,
      [this](ProbeResult& r) { wrap_with(r, WrapScheme::kAesKwp); });
}

void Prober::plan_extraction() {
  for (const KeyKind kind : {KeyKind::kRsa2048, KeyKind::kEcP256, KeyKind::kAes256}) {
    const Usage usage = kind == KeyKind::kRsa2048  ? Usage::kDecrypt
                        : kind == KeyKind::kEcP256 ? Usage::kSign
                                                   : Usage::kEncrypt;
    add(std::string("extract ") + kind_name(kind), claims(kind_name(kind)),
        [this, kind, usage](ProbeResult& result) { extract(result, kind, usage); });
  }
}

void Prober::plan_token() {
  add("random", true, [this](ProbeResult& result) {
    time(result, [](Session& session) {
      Bytes bytes(32);
      check(session.c().C_GenerateRandom(session.handle(), bytes.data(), bytes.size()),
            "C_GenerateRandom");
      if (bytes == Bytes(32)) wrong("32 zeros");
    });
  });
  add("data objects", profile_.data_objects, [this](ProbeResult&) {
    const Bytes value = random_bytes(40);
    token_.run([&](Session& session) {
      replace_data(session, kLabel, kLabel, value);
      const auto found = read_data(session, kLabel, kLabel);
      destroy_data(session, kLabel, kLabel);
      if (found != std::vector<Bytes>{value}) wrong("the value read differs");
    });
  });
}

void Prober::plan() {
  plan_token();
  plan_generation();
  plan_signatures();
  plan_decryption();
  plan_secret_keys();
  plan_extraction();
}

void Prober::perform(const Step& step) {
  ProbeResult result;
  result.name = step.name;
  result.claimed = step.claimed;
  if (!step.claimed) {
    result.detail = "not in profile " + profile_.name;
    results_.push_back(std::move(result));
    return;
  }
  result.outcome = Outcome::kWorks;
  try {
    step.work(result);
  } catch (const Error& error) {
    result.outcome = Outcome::kFails;
    result.detail = error.what();
  }
  results_.push_back(std::move(result));
}

void Prober::run() {
  plan();
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    if (progress_) progress_(static_cast<int>(i), static_cast<int>(steps_.size()), steps_[i].name);
    perform(steps_[i]);
  }
}

}  // namespace

bool ProbeReport::sound() const {
  return std::all_of(results.begin(), results.end(), [](const ProbeResult& result) {
    if (result.outcome == Outcome::kLeaks) return false;
    return !result.claimed || result.outcome == Outcome::kWorks ||
           result.outcome == Outcome::kRefused;
  });
}

ProbeReport probe(Token& token, const std::function<void(int, int, const std::string&)>& progress) {
  token.run([](Session& session) { session.require_login(); });
  ProbeReport report;
  {
    Prober prober(token, progress);
    prober.run();
    report.results = prober.take();
  }
  report.token = token.status();
  return report;
}

}  // namespace keyagent::pkcs11
