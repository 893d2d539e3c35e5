// SPDX-License-Identifier: Apache-2.0
#include "agent/sshagent/ssh_key.h"

#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/x509.h>

#include <algorithm>
#include <memory>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/sshagent/ssh_wire.h"

namespace keyagent::sshagent {
namespace {

struct Free {
  void operator()(EVP_PKEY* p) const { EVP_PKEY_free(p); }
  void operator()(EVP_PKEY_CTX* p) const { EVP_PKEY_CTX_free(p); }
  void operator()(EVP_MD_CTX* p) const { EVP_MD_CTX_free(p); }
  void operator()(BIGNUM* p) const { BN_free(p); }
  void operator()(ECDSA_SIG* p) const { ECDSA_SIG_free(p); }
  void operator()(OSSL_PARAM_BLD* p) const { OSSL_PARAM_BLD_free(p); }
  void operator()(OSSL_PARAM* p) const { OSSL_PARAM_free(p); }
};
template <class T>
using Owned = std::unique_ptr<T, Free>;

struct Curve {
  std::string_view ssh, openssl;
  std::size_t field;  // bytes
  const EVP_MD* (*digest)();
};
constexpr Curve kCurves[] = {{"nistp256", "prime256v1", 32, EVP_sha256},
                             {"nistp384", "secp384r1", 48, EVP_sha384},
                             {"nistp521", "secp521r1", 66, EVP_sha512}};
constexpr std::string_view kEcdsa = "ecdsa-sha2-", kEd25519 = "ssh-ed25519", kRsa = "ssh-rsa";
constexpr std::size_t kEd25519Size = 32, kEd25519Signature = 64;
constexpr int kLeastRsa = 1024, kMaxRsa = 16384;  // bits
constexpr std::size_t kMaxExponent = 8;           // bytes: verification must stay cheap

[[noreturn]] void refuse(const std::string& why) {
  ERR_clear_error();
  throw Error(Code::kUsage, "not a public key that both ssh and keyagent support: " + why);
}

const Curve& curve_of(std::string_view name, std::string_view Curve::*of) {
  const auto* found = std::find_if(std::begin(kCurves), std::end(kCurves),
                                   [&](const Curve& each) { return each.*of == name; });
  if (found == std::end(kCurves)) refuse("its curve is different");
  return *found;
}

Owned<EVP_PKEY> load_spki(ByteView spki) {
  const unsigned char* at = spki.data();
  Owned<EVP_PKEY> key(d2i_PUBKEY(nullptr, &at, static_cast<long>(spki.size())));
  if (!key || at != spki.data() + spki.size()) refuse("malformed");
  return key;
}

// Big-endian; 0: as short as possible.
Bytes number_of(const EVP_PKEY* key, const char* name, std::size_t width) {
  BIGNUM* raw = nullptr;
  if (EVP_PKEY_get_bn_param(key, name, &raw) != 1) refuse("incomplete");
  const Owned<BIGNUM> number(raw);
  Bytes bytes(width != 0 ? width : static_cast<std::size_t>(BN_num_bytes(raw)));
  if (BN_bn2binpad(raw, bytes.data(), static_cast<int>(bytes.size())) < 0) refuse("too large");
  return bytes;
}

Bytes blob_of_ec(const EVP_PKEY* key) {
  char group[32] = {};
  if (EVP_PKEY_get_group_name(key, group, sizeof group, nullptr) != 1)
    refuse("its curve is unsupported");
  const Curve& curve = curve_of(group, &Curve::openssl);
  Bytes point{0x04};
  for (const char* each : {OSSL_PKEY_PARAM_EC_PUB_X, OSSL_PKEY_PARAM_EC_PUB_Y}) {
    const Bytes coordinate = number_of(key, each, curve.field);
    point.insert(point.end(), coordinate.begin(), coordinate.end());
  }
  const SecretBytes blob = Writer()
                               .string(std::string(kEcdsa) + std::string(curve.ssh))
                               .string(curve.ssh)
                               .string(point)
                               .take();
  return {blob.begin(), blob.end()};
}

// SEC1 and RSA numbers alike, through OpenSSL's parameters; it checks that a point is on its curve.
Owned<EVP_PKEY> from_params(const char* type, const Owned<OSSL_PARAM_BLD>& build) {
  const Owned<OSSL_PARAM> params(OSSL_PARAM_BLD_to_param(build.get()));
  const Owned<EVP_PKEY_CTX> context(EVP_PKEY_CTX_new_from_name(nullptr, type, nullptr));
  EVP_PKEY* key = nullptr;
  if (!params || !context || EVP_PKEY_fromdata_init(context.get()) != 1 ||
      EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY, params.get()) != 1)
    refuse("malformed");
  return Owned<EVP_PKEY>(key);
}

Owned<EVP_PKEY> read_rsa(Reader& reader) {
  const ByteView exponent = reader.positive(), modulus = reader.positive();
  if (exponent.size() > kMaxExponent) refuse("its exponent is too large");
  const auto number = [](ByteView bytes) {
    return Owned<BIGNUM>(BN_bin2bn(bytes.data(), static_cast<int>(bytes.size()), nullptr));
  };
  const auto n = number(modulus), e = number(exponent);
  if (!n || !e || BN_num_bits(n.get()) < kLeastRsa || BN_num_bits(n.get()) > kMaxRsa ||
      BN_is_odd(n.get()) == 0 || BN_is_odd(e.get()) == 0 || BN_is_one(e.get()) == 1)
    refuse("an RSA key of an unsupported size or form");
  const Owned<OSSL_PARAM_BLD> build(OSSL_PARAM_BLD_new());
  OSSL_PARAM_BLD_push_BN(build.get(), OSSL_PKEY_PARAM_RSA_N, n.get());
  OSSL_PARAM_BLD_push_BN(build.get(), OSSL_PKEY_PARAM_RSA_E, e.get());
  return from_params("RSA", build);
}

Owned<EVP_PKEY> read_ec(Reader& reader, std::string_view type) {
  const Curve& curve = curve_of(type.substr(kEcdsa.size()), &Curve::ssh);
  if (reader.name() != curve.ssh) refuse("it names two curves");
  const ByteView point = reader.string();
  if (point.size() != 1 + 2 * curve.field || point[0] != 0x04) refuse("malformed point");
  const Owned<OSSL_PARAM_BLD> build(OSSL_PARAM_BLD_new());
  OSSL_PARAM_BLD_push_utf8_string(build.get(), OSSL_PKEY_PARAM_GROUP_NAME, curve.openssl.data(),
                                  curve.openssl.size());
  OSSL_PARAM_BLD_push_octet_string(build.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(),
                                   point.size());
  return from_params("EC", build);
}

Owned<EVP_PKEY> read_ed25519(Reader& reader) {
  const ByteView raw = reader.string();
  if (raw.size() != kEd25519Size) refuse("an Ed25519 key has 32 bytes");
  Owned<EVP_PKEY> key(
      EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, raw.data(), raw.size()));
  if (!key) refuse("malformed");
  return key;
}

Owned<EVP_PKEY> load_blob(ByteView blob) {
  Reader reader(blob);
  const std::string_view type = reader.name();
  Owned<EVP_PKEY> key;
  if (type == kRsa) {
    key = read_rsa(reader);
  } else if (type == kEd25519) {
    key = read_ed25519(reader);
  } else if (type.starts_with(kEcdsa) && type.find('@') == type.npos) {
    key = read_ec(reader, type);
  } else {
    refuse("its type is unexpected");
  }
  reader.finish();
  return key;
}

Bytes ecdsa_der(Reader signature) {
  const ByteView r = signature.positive(), s = signature.positive();
  signature.finish();
  const Owned<ECDSA_SIG> both(ECDSA_SIG_new());
  BIGNUM* first = BN_bin2bn(r.data(), static_cast<int>(r.size()), nullptr);
  BIGNUM* second = BN_bin2bn(s.data(), static_cast<int>(s.size()), nullptr);
  if (ECDSA_SIG_set0(both.get(), first, second) != 1) refuse("no signature");
  unsigned char* der = nullptr;
  const int size = i2d_ECDSA_SIG(both.get(), &der);
  if (size <= 0) refuse("no signature");
  Bytes out(der, der + size);
  OPENSSL_free(der);
  return out;
}

bool verify(EVP_PKEY* key, const EVP_MD* digest, ByteView signature, ByteView data) {
  const Owned<EVP_MD_CTX> context(EVP_MD_CTX_new());
  const bool good = EVP_DigestVerifyInit(context.get(), nullptr, digest, nullptr, key) == 1 &&
                    EVP_DigestVerify(context.get(), signature.data(), signature.size(), data.data(),
                                     data.size()) == 1;
  ERR_clear_error();
  return good;
}

bool verify_as(EVP_PKEY* key, std::string_view name, ByteView raw, ByteView data) {
  const bool rsa = EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA;
  if (name == "rsa-sha2-256" && rsa) return verify(key, EVP_sha256(), raw, data);
  if (name == "rsa-sha2-512" && rsa) return verify(key, EVP_sha512(), raw, data);
  if (name == kEd25519 && EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519)
    return raw.size() == kEd25519Signature && verify(key, nullptr, raw, data);
  char group[32] = {};
  if (EVP_PKEY_get_base_id(key) != EVP_PKEY_EC ||
      EVP_PKEY_get_group_name(key, group, sizeof group, nullptr) != 1)
    return false;
  const Curve& curve = curve_of(group, &Curve::openssl);
  return name == std::string(kEcdsa) + std::string(curve.ssh) &&
         verify(key, curve.digest(), ecdsa_der(Reader(raw)), data);
}

Bytes digest(const EVP_MD* hash, ByteView data) {
  Bytes out(static_cast<std::size_t>(EVP_MD_get_size(hash)));
  if (EVP_Digest(data.data(), data.size(), out.data(), nullptr, hash, nullptr) != 1)
    throw Error(Code::kInternal, "a digest could not be made");
  return out;
}

std::string base64(ByteView bytes) {
  std::string text(4 * ((bytes.size() + 2) / 3) + 1, '\0');
  const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()), bytes.data(),
                                   static_cast<int>(bytes.size()));
  text.resize(static_cast<std::size_t>(size));
  return text;
}

}  // namespace

Bytes key_blob(ByteView spki) {
  const auto key = load_spki(spki);
  SecretBytes blob;
  switch (EVP_PKEY_get_base_id(key.get())) {
    case EVP_PKEY_RSA:
      blob = Writer()
                 .string(kRsa)
                 .mpint(number_of(key.get(), OSSL_PKEY_PARAM_RSA_E, 0))
                 .mpint(number_of(key.get(), OSSL_PKEY_PARAM_RSA_N, 0))
                 .take();
      break;
    case EVP_PKEY_EC:
      return blob_of_ec(key.get());
    case EVP_PKEY_ED25519: {
      Bytes raw(kEd25519Size);
      std::size_t size = raw.size();
      if (EVP_PKEY_get_raw_public_key(key.get(), raw.data(), &size) != 1) refuse("incomplete");
      blob = Writer().string(kEd25519).string(raw).take();
      break;
    }
    default:
      refuse("its type is unexpected");
  }
  return {blob.begin(), blob.end()};
}

Bytes spki_of_blob(ByteView blob) {
  const auto key = load_blob(blob);
  unsigned char* der = nullptr;
  const int size = i2d_PUBKEY(key.get(), &der);
  if (size <= 0) refuse("malformed");
  Bytes spki(der, der + size);
  OPENSSL_free(der);
  return spki;
}

std::string fingerprint(ByteView blob) {
  const std::string text = base64(sha256(blob));
  return "SHA256:" + text.substr(0, text.find('='));
}

std::string authorized_key(ByteView spki, std::string_view comment) {
  const Bytes blob = key_blob(spki);
  return std::string(Reader(blob).name()) + " " + base64(blob) + " " + std::string(comment);
}

std::optional<SshSignature> signature_for(KeyAlgorithm key, std::uint32_t flags) {
  if (is_rsa(key)) {
    if ((flags & kRsaSha256) != 0) return SshSignature{"rsa-sha2-256", SignatureAlgorithm::kRs256};
    if ((flags & kRsaSha512) != 0) return SshSignature{"rsa-sha2-512", SignatureAlgorithm::kRs512};
    return std::nullopt;
  }
  switch (key) {
    case KeyAlgorithm::kEcP256:
      return SshSignature{"ecdsa-sha2-nistp256", SignatureAlgorithm::kEs256};
    case KeyAlgorithm::kEcP384:
      return SshSignature{"ecdsa-sha2-nistp384", SignatureAlgorithm::kEs384};
    case KeyAlgorithm::kEd25519:
      return SshSignature{kEd25519, SignatureAlgorithm::kEdDsa};
    default:
      return std::nullopt;
  }
}

Bytes signature_input(SignatureAlgorithm algorithm, ByteView data) {
  switch (digest_of(algorithm)) {
    case DigestAlgorithm::kSha256:
      return digest(EVP_sha256(), data);
    case DigestAlgorithm::kSha384:
      return digest(EVP_sha384(), data);
    case DigestAlgorithm::kSha512:
      return digest(EVP_sha512(), data);
    default:
      return {data.begin(), data.end()};
  }
}

Bytes signature_blob(const SshSignature& how, ByteView raw) {
  Writer blob;
  blob.string(how.name);
  if (how.name.starts_with(kEcdsa)) {
    const std::size_t field = raw.size() / 2;
    blob.string(Writer().mpint(raw.first(field)).mpint(raw.subspan(field)).take());
  } else {
    blob.string(raw);
  }
  return {blob.bytes().begin(), blob.bytes().end()};
}

bool verify_blob(ByteView blob, ByteView signature, ByteView data) {
  const auto key = load_blob(blob);
  try {
    Reader reader(signature);
    const std::string_view name = reader.name();
    const ByteView raw = reader.string();
    reader.finish();
    return verify_as(key.get(), name, raw, data);
  } catch (const Error&) {
    return false;
  }
}

}  // namespace keyagent::sshagent
