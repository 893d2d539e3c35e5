// SPDX-License-Identifier: Apache-2.0
// Sealing (AuthEnvelopedData only) and opening of CMS.

#include "agent/envelope/cms.h"

#include <algorithm>
#include <initializer_list>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/envelope/jose.h"
#include "agent/envelope/public_key.h"

namespace keyagent::envelope {

namespace {

// --- A DER writer for the few shapes that seal_cms() makes; all of it is public. X.690 §8.1,
// §10.1.

constexpr std::uint8_t kSequence = 0x30, kSet = 0x31, kInteger = 0x02, kOctets = 0x04, kBits = 0x03;
constexpr std::uint8_t context(std::uint8_t n) {
  return static_cast<std::uint8_t>(0x80U | n);
}
constexpr std::uint8_t constructed(std::uint8_t n) {
  return static_cast<std::uint8_t>(0xA0U | n);
}

Bytes tlv(std::uint8_t tag, std::initializer_list<ByteView> parts) {
  std::size_t size = 0;
  for (const ByteView part : parts) size += part.size();
  Bytes out;
  out.reserve(size + 10);
  out.push_back(tag);
  if (size < 0x80) {
    out.push_back(static_cast<std::uint8_t>(size));
  } else {
    Bytes length;
    for (std::size_t rest = size; rest != 0; rest >>= 8U) {
      length.insert(length.begin(), static_cast<std::uint8_t>(rest));
    }
    out.push_back(static_cast<std::uint8_t>(0x80U | length.size()));
    out.insert(out.end(), length.begin(), length.end());
  }
  for (const ByteView part : parts) out.insert(out.end(), part.begin(), part.end());
  return out;
}

Bytes small_integer(std::uint8_t value) {
  return {kInteger, 1, value};
}

// Object identifiers, whole DER.
// 1.2.840.113549.1.7.1 data; 1.2.840.113549.1.9.16.1.23 authEnvelopedData
const Bytes kOidData{0x06, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 7, 1};
const Bytes kOidAuthEnveloped{0x06, 11, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 9, 16, 1, 23};
// 1.2.840.113549.1.1.7 RSAES-OAEP; .1.8 MGF1; 2.16.840.1.101.3.4.2.1 SHA-256
const Bytes kOidOaep{0x06, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 7};
const Bytes kOidMgf1{0x06, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 8};
const Bytes kOidSha256{0x06, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1};
// 1.2.840.10045.2.1 ecPublicKey; 1.3.132.1.11.1
// dhSinglePass-stdDH-sha256kdf; 2.16.840.1.101.3.4.1.45 AES-256 wrap
const Bytes kOidEcPublicKey{0x06, 7, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 2, 1};
const Bytes kOidStdDhSha256{0x06, 6, 0x2B, 0x81, 4, 1, 11, 1};
const Bytes kOidAes256Wrap{0x06, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 45};
// 2.16.840.1.101.3.4.1.6 and .46 AES-128-GCM, AES-256-GCM
const Bytes kOidAes128Gcm{0x06, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 6};
const Bytes kOidAes256Gcm{0x06, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 46};

constexpr std::size_t kKekSize = 32;

// RFC 3560 §2, RFC 4055 §4.1; defaults (SHA-1) are left out, as DER demands.
Bytes oaep_parameters(EnvelopeAlgorithm algorithm) {
  if (algorithm == EnvelopeAlgorithm::kRsaOaep) return tlv(kSequence, {});
  const Bytes sha256 = tlv(kSequence, {kOidSha256});
  const Bytes mgf1 = tlv(kSequence, {kOidMgf1, sha256});
  return tlv(kSequence, {tlv(constructed(0), {sha256}), tlv(constructed(1), {mgf1})});
}

Bytes transport_info(const PublicKeyInfo& key, ByteView key_id, const SecretBytes& cek) {
  const OaepHash hash =
      key.envelope == EnvelopeAlgorithm::kRsaOaep ? OaepHash::kSha1 : OaepHash::kSha256;
  const Bytes encrypted = oaep_encrypt(key.spki, hash, cek);
  return tlv(kSequence, {small_integer(2), tlv(context(0), {key_id}),
                         tlv(kSequence, {kOidOaep, oaep_parameters(key.envelope)}),
                         tlv(kOctets, {encrypted})});
}

// RFC 5753 §7.2 with an empty ukm: keyInfo and the size of the key in bits.
Bytes shared_info(ByteView wrap) {
  const Bytes bits{0, 0, 1, 0};  // 256
  return tlv(kSequence, {wrap, tlv(constructed(2), {tlv(kOctets, {bits})})});
}

Bytes agreement_info(const PublicKeyInfo& key, ByteView key_id, const SecretBytes& cek) {
  const EphemeralAgreement ephemeral = agree_ephemeral(key.spki);
  const Bytes wrap = tlv(kSequence, {kOidAes256Wrap});
  const SecretBytes kek = x963_kdf(KdfHash::kSha256, ephemeral.z, shared_info(wrap), kKekSize);
  const Bytes no_unused_bits{0};
  const Bytes originator = tlv(constructed(1), {tlv(kSequence, {kOidEcPublicKey}),
                                                tlv(kBits, {no_unused_bits, ephemeral.point})});
  const Bytes rid = tlv(constructed(0), {tlv(kOctets, {key_id})});
  const Bytes recipient = tlv(kSequence, {rid, tlv(kOctets, {aes_kw_wrap(kek, cek)})});
  return tlv(constructed(1),
             {small_integer(3), tlv(constructed(0), {originator}),
              tlv(kSequence, {kOidStdDhSha256, wrap}), tlv(kSequence, {recipient})});
}

// Selects the recipient for this key: the one that names it by any of its key identifiers; else the
// only one whose identifier cannot be compared (issuer and serial number); else, if the caller
// named the key, a sole recipient with an unknown identifier.
const CmsRecipient& find_recipient(const CmsMessage& message, const PublicKeyInfo& key,
                                   bool named) {
  const auto own = key_identifiers(key.spki);
  for (const CmsRecipient& recipient : message.recipients) {
    if (recipient.key_id && std::find(own.begin(), own.end(), *recipient.key_id) != own.end())
      return recipient;
  }
  const auto unnamed = std::count_if(message.recipients.begin(), message.recipients.end(),
                                     [](const auto& each) { return !each.key_id; });
  if (unnamed == 1) {
    return *std::find_if(message.recipients.begin(), message.recipients.end(),
                         [](const auto& each) { return !each.key_id; });
  }
  if (named && message.recipients.size() == 1) return message.recipients.front();
  if (unnamed == 0)
    throw Error(Code::kInput, "the envelope is sealed to another key", key.kid.text());
  throw Error(Code::kUnsupported,
              "the message has several recipients named by issuer and serial number; seal with key "
              "identifiers (openssl cms -encrypt -keyid)",
              key.kid.text());
}

bool is_ecdh(EnvelopeAlgorithm algorithm) {
  return algorithm == EnvelopeAlgorithm::kEcdhEs || algorithm == EnvelopeAlgorithm::kEcdhEsA256Kw;
}

// Everything that the bytes alone decide, before the token is asked.
void check_fits(const PublicKeyInfo& key, const CmsMessage& message,
                const CmsRecipient& recipient) {
  require_content(key, message.authenticated);
  if (recipient.algorithm == EnvelopeAlgorithm::kNone) {
    throw Error(Code::kUnsupported, "this CMS message cannot be opened: " + recipient.refusal,
                key.kid.text());
  }
  const bool agreement = is_ecdh(recipient.algorithm);
  if (agreement ? !is_ecdh(key.envelope) : recipient.algorithm != key.envelope) {
    throw Error(Code::kUnsupported,
                "the envelope is sealed with " +
                    (agreement ? "ECDH" : std::string(keyagent::name_of(recipient.algorithm))) +
                    ", this key opens " + std::string(keyagent::name_of(key.envelope)) + " only",
                key.kid.text());
  }
  if (!agreement) {
    if (recipient.encrypted_key.size() == rsa_modulus_size(key.algorithm)) return;
    throw Error(Code::kInput, "malformed CMS: the encrypted key is not as long as the modulus");
  }
  if (recipient.curve && *recipient.curve != key.algorithm) {
    throw Error(Code::kUnsupported, "the originator's key is on another curve than this key",
                key.kid.text());
  }
  if (recipient.encrypted_key.size() != message.cek_size + kKeyWrapExtra) {
    throw Error(Code::kInput, "malformed CMS: the encrypted key has the wrong length");
  }
  // An invalid-curve attack dies here; that the point is not on the curve is plain to everyone.
  if (!on_curve(key.algorithm, recipient.ephemeral_point)) throw_input_error();
}

// The content encryption key: the true one, or a random one. One token operation, whatever the
// bytes hold.
SecretBytes recover_cek(KeyOps& ops, const PublicKeyInfo& key, const CmsMessage& message,
                        const CmsRecipient& recipient) {
  if (!is_ecdh(recipient.algorithm)) {
    const OaepHash hash =
        recipient.algorithm == EnvelopeAlgorithm::kRsaOaep ? OaepHash::kSha1 : OaepHash::kSha256;
    return ops.decrypt_cek(key.kid, hash, recipient.encrypted_key, message.cek_size);
  }
  const SecretBytes z = ops.agree(key.kid, recipient.ephemeral_point);
  const SecretBytes kek = x963_kdf(recipient.kdf, z, recipient.shared_info, recipient.kek_size);
  return aes_kw_unwrap(kek, recipient.encrypted_key);
}

}  // namespace

Bytes seal_cms(const PublicKeyInfo& key, ContentEncryption enc, const SecretBytes& plaintext) {
  require_authenticated(key);
  if (plaintext.size() > kMaxPlaintext) {
    throw Error(Code::kUsage, "an envelope carries at most 128 KiB; seal a key for more");
  }
  if (key.spki.empty() || !can_seal(key.algorithm, key.envelope)) {
    throw Error(Code::kUnsupported,
                "cannot seal to this key with CMS: it has no public key for envelopes",
                key.kid.text());
  }
  const SecretBytes cek = random_secret(cek_size(enc));
  const Bytes key_id = subject_key_identifier(key.spki);
  const Bytes recipient =
      is_rsa(key.algorithm) ? transport_info(key, key_id, cek) : agreement_info(key, key_id, cek);
  const Sealed sealed = gcm_seal(cek, {}, plaintext);
  const Bytes gcm = tlv(kSequence, {tlv(kOctets, {sealed.iv}), small_integer(kGcmTag)});
  const Bytes& gcm_oid = enc == ContentEncryption::kA128Gcm ? kOidAes128Gcm : kOidAes256Gcm;
  const Bytes content = tlv(
      kSequence, {kOidData, tlv(kSequence, {gcm_oid, gcm}), tlv(context(0), {sealed.ciphertext})});
  const Bytes data = tlv(
      kSequence, {small_integer(0), tlv(kSet, {recipient}), content, tlv(kOctets, {sealed.tag})});
  return tlv(kSequence, {kOidAuthEnveloped, tlv(constructed(0), {data})});
}

SecretBytes open_cms(KeyOps& ops, const PublicKeyInfo& key, ByteView bytes, bool named) {
  const CmsMessage message = parse_cms(bytes);
  if (key.spki.empty()) {
    throw Error(Code::kUnsupported, "a storage key opens JWE only", key.kid.text());
  }
  const CmsRecipient& recipient = find_recipient(message, key, named);
  check_fits(key, message, recipient);
  const SecretBytes cek = recover_cek(ops, key, message, recipient);
  if (!message.authenticated) return cbc_open(cek, message.iv, message.ciphertext);
  return gcm_open(cek, message.iv, message.aad, message.ciphertext, message.tag);
}

}  // namespace keyagent::envelope
