// SPDX-License-Identifier: Apache-2.0
#include <openssl/cms.h>
#include <openssl/objects.h>
#include <openssl/rsa.h>

#include <string_view>

#include "agent/base/error.h"
#include "agent/envelope/cms.h"
#include "agent/envelope/cms_asn1.h"
#include "agent/envelope/openssl_owned.h"

namespace keyagent::envelope {

namespace {

constexpr int kMaxRecipients = 64;

[[noreturn]] void malformed(const std::string& what) {
  throw Error(Code::kInput, "malformed CMS: " + what);
}

[[noreturn]] void unsupported(const std::string& what) {
  throw Error(Code::kUnsupported, "this CMS message cannot be opened: " + what);
}

Bytes bytes_of(const ASN1_STRING* s) {
  return Bytes(ASN1_STRING_get0_data(s), ASN1_STRING_get0_data(s) + ASN1_STRING_length(s));
}

std::string oid_text(const ASN1_OBJECT* object) {
  char text[80] = {};
  OBJ_obj2txt(text, sizeof text, object, 0);
  return text;
}

bool is_version(const ASN1_INTEGER* number, long value) {
  std::int64_t got = -1;
  return ASN1_INTEGER_get_int64(&got, number) == 1 && got == value;
}

// Empty parameters: absent or NULL.
bool no_parameters(const X509_ALGOR* algorithm) {
  const int type = algorithm->parameter == nullptr ? V_ASN1_UNDEF : algorithm->parameter->type;
  return type == V_ASN1_UNDEF || type == V_ASN1_NULL;
}

// The algorithm that stands in the parameters of another.
template <typename T>
asn1::Parsed<T> parse_parameters(const X509_ALGOR* algorithm, const ASN1_ITEM* item) {
  const ASN1_TYPE* p = algorithm->parameter;
  if (p == nullptr || p->type != V_ASN1_SEQUENCE) return nullptr;
  return asn1::parse<T>(p->value.sequence->data, p->value.sequence->length, item);
}

// RFC 4055 §4.1. Hash and MGF1 hash must be the same and the label empty, as in JOSE.
EnvelopeAlgorithm oaep_algorithm(const X509_ALGOR* algorithm) {
  const auto params = parse_parameters<RSA_OAEP_PARAMS>(algorithm, ASN1_ITEM_rptr(RSA_OAEP_PARAMS));
  if (!params) malformed("RSAES-OAEP without its parameters");
  int hash = NID_sha1;
  int mgf_hash = NID_sha1;
  if (params->hashFunc != nullptr) {
    hash = OBJ_obj2nid(params->hashFunc->algorithm);
    if (!no_parameters(params->hashFunc)) return EnvelopeAlgorithm::kNone;
  }
  if (params->maskGenFunc != nullptr) {
    const auto inner =
        parse_parameters<X509_ALGOR>(params->maskGenFunc, ASN1_ITEM_rptr(X509_ALGOR));
    if (OBJ_obj2nid(params->maskGenFunc->algorithm) != NID_mgf1 || !inner ||
        !no_parameters(inner.get())) {
      return EnvelopeAlgorithm::kNone;
    }
    mgf_hash = OBJ_obj2nid(inner->algorithm);
  }
  if (params->pSourceFunc != nullptr) {
    const ASN1_TYPE* label = params->pSourceFunc->parameter;
    if (OBJ_obj2nid(params->pSourceFunc->algorithm) != NID_pSpecified || label == nullptr ||
        label->type != V_ASN1_OCTET_STRING || ASN1_STRING_length(label->value.octet_string) != 0) {
      return EnvelopeAlgorithm::kNone;
    }
  }
  if (hash != mgf_hash) return EnvelopeAlgorithm::kNone;
  if (hash == NID_sha1) return EnvelopeAlgorithm::kRsaOaep;
  return hash == NID_sha256 ? EnvelopeAlgorithm::kRsaOaep256 : EnvelopeAlgorithm::kNone;
}

CmsRecipient read_transport(const asn1::KeyTrans& info) {
  CmsRecipient out;
  const bool by_key_id = info.rid->type == 1;
  if (!is_version(info.version, by_key_id ? 2 : 0)) malformed("wrong version of a recipient");
  if (by_key_id) out.key_id = bytes_of(info.rid->d.key_id);
  out.encrypted_key = bytes_of(info.encrypted_key);
  const int nid = OBJ_obj2nid(info.algorithm->algorithm);
  if (nid == NID_rsaesOaep) out.algorithm = oaep_algorithm(info.algorithm);
  if (out.algorithm != EnvelopeAlgorithm::kNone) return out;
  if (nid == NID_rsaesOaep) {
    out.refusal = "RSAES-OAEP with other hashes than SHA-1 or SHA-256 for both, or with a label";
  } else if (nid == NID_rsaEncryption) {
    out.refusal =
        "RSA PKCS#1 v1.5 is a padding oracle; seal with OAEP (openssl cms -encrypt … -keyopt "
        "rsa_padding_mode:oaep)";
  } else {
    out.refusal = "key encryption " + oid_text(info.algorithm->algorithm);
  }
  return out;
}

std::optional<KdfHash> agreement_hash(int nid) {
  switch (nid) {
    case NID_dhSinglePass_stdDH_sha1kdf_scheme:
      return KdfHash::kSha1;
    case NID_dhSinglePass_stdDH_sha256kdf_scheme:
      return KdfHash::kSha256;
    case NID_dhSinglePass_stdDH_sha384kdf_scheme:
      return KdfHash::kSha384;
    case NID_dhSinglePass_stdDH_sha512kdf_scheme:
      return KdfHash::kSha512;
    default:
      return std::nullopt;
  }
}

// RFC 5753 §7.2, the DER that goes into the key derivation. The length of the key is in bits there,
// in bytes here.
Bytes encode_shared_info(X509_ALGOR* wrap, ASN1_OCTET_STRING* ukm, std::size_t kek_size) {
  unsigned char* der = nullptr;
  const int size = CMS_SharedInfo_encode(&der, wrap, ukm, static_cast<int>(kek_size));
  if (size <= 0) malformed("key agreement parameters");
  Bytes out(der, der + size);
  OPENSSL_free(der);
  return out;
}

void read_originator(const asn1::OriginatorKey& key, CmsRecipient& out) {
  if (OBJ_obj2nid(key.algorithm->algorithm) != NID_X9_62_id_ecPublicKey) {
    out.refusal = "originator's key of type " + oid_text(key.algorithm->algorithm);
    return;
  }
  if (!no_parameters(key.algorithm)) {
    const ASN1_TYPE* p = key.algorithm->parameter;
    const int curve = p->type == V_ASN1_OBJECT ? OBJ_obj2nid(p->value.object) : NID_undef;
    if (curve == NID_X9_62_prime256v1) out.curve = KeyAlgorithm::kEcP256;
    if (curve == NID_secp384r1) out.curve = KeyAlgorithm::kEcP384;
    if (!out.curve) out.refusal = "originator's key on a curve other than P-256 and P-384";
  }
  if ((key.public_key->flags & 0x07) != 0) malformed("originator's key has unused bits");
  out.ephemeral_point = bytes_of(key.public_key);
}

// What all keys of one KeyAgreeRecipientInfo share.
CmsRecipient read_agreement(const asn1::KeyAgree& info) {
  CmsRecipient out;
  if (!is_version(info.version, 3)) malformed("wrong version of a recipient");
  const auto hash = agreement_hash(OBJ_obj2nid(info.algorithm->algorithm));
  auto wrap = parse_parameters<X509_ALGOR>(info.algorithm, ASN1_ITEM_rptr(X509_ALGOR));
  const int wrap_nid = wrap ? OBJ_obj2nid(wrap->algorithm) : NID_undef;
  if (wrap_nid == NID_id_aes128_wrap) out.kek_size = 16;
  if (wrap_nid == NID_id_aes256_wrap) out.kek_size = 32;
  if (info.originator->type != 2) {
    out.refusal = "static key agreement; the originator's key must be in the message";
  } else {
    read_originator(*info.originator->d.key, out);
  }
  if (!hash) out.refusal = "key agreement " + oid_text(info.algorithm->algorithm);
  if (out.kek_size == 0 || !no_parameters(wrap.get())) {
    out.refusal = "key agreement with another key wrap than AES-128 or AES-256";
  }
  if (!out.refusal.empty()) return out;
  out.kdf = *hash;
  out.shared_info = encode_shared_info(wrap.get(), info.ukm, out.kek_size);
  out.algorithm = EnvelopeAlgorithm::kEcdhEsA256Kw;
  return out;
}

void add_agreed(const asn1::KeyAgree& info, std::vector<CmsRecipient>& out) {
  const CmsRecipient shared = read_agreement(info);
  for (int i = 0; i < asn1::sk_RecipientEncryptedKey_num(info.keys); ++i) {
    const asn1::RecipientEncryptedKey* key = asn1::sk_RecipientEncryptedKey_value(info.keys, i);
    if (out.size() >= kMaxRecipients) unsupported("more than 64 recipients");
    out.push_back(shared);
    if (key->rid->type == 1) out.back().key_id = bytes_of(key->rid->d.key_id->key_id);
    out.back().encrypted_key = bytes_of(key->encrypted_key);
  }
}

std::vector<CmsRecipient> read_recipients(const asn1::stack_st_RecipientInfo* infos) {
  using asn1::sk_RecipientInfo_num;
  using asn1::sk_RecipientInfo_value;
  std::vector<CmsRecipient> out;
  if (sk_RecipientInfo_num(infos) > kMaxRecipients) unsupported("more than 64 recipients");
  for (int i = 0; i < sk_RecipientInfo_num(infos); ++i) {
    const asn1::RecipientInfo* info = sk_RecipientInfo_value(infos, i);
    if (info->type == 0) out.push_back(read_transport(*info->d.trans));
    if (info->type == 1) add_agreed(*info->d.agree, out);
  }
  if (out.empty()) unsupported("it has no recipient with a public key");
  return out;
}

void read_content(const asn1::EncryptedContent& content, CmsMessage& out) {
  if (OBJ_obj2nid(content.type) != NID_pkcs7_data) {
    unsupported("it holds " + oid_text(content.type) + ", not data");
  }
  if (content.content == nullptr) unsupported("its content is detached");
  out.ciphertext = bytes_of(content.content);
}

void read_gcm(const X509_ALGOR* algorithm, const ASN1_OCTET_STRING* mac, CmsMessage& out) {
  const int nid = OBJ_obj2nid(algorithm->algorithm);
  if (nid != NID_aes_128_gcm && nid != NID_aes_256_gcm) {
    unsupported("content encryption " + oid_text(algorithm->algorithm) +
                "; supported are AES-128-GCM and AES-256-GCM");
  }
  out.cek_size = nid == NID_aes_128_gcm ? 16 : 32;
  const auto params = parse_parameters<asn1::GcmParameters>(algorithm, asn1::GcmParameters_it());
  if (!params) malformed("AES-GCM without its parameters");
  out.iv = bytes_of(params->nonce);
  out.tag = bytes_of(mac);
  // The size of the tag is not authenticated: a shorter one would let anyone weaken any message (SP
  // 800-38D appendix C).
  if (params->tag_size == nullptr || !is_version(params->tag_size, kGcmTag)) {
    unsupported("its authentication tag is shorter than 16 bytes");
  }
  if (out.iv.size() != kGcmIv) unsupported("its nonce must have 12 bytes");
  if (out.tag.size() != kGcmTag) malformed("the authentication tag must have 16 bytes");
  if (out.ciphertext.size() > kMaxPlaintext) malformed("the content exceeds 128 KiB");
}

void read_cbc(const X509_ALGOR* algorithm, CmsMessage& out) {
  const int nid = OBJ_obj2nid(algorithm->algorithm);
  if (nid != NID_aes_128_cbc && nid != NID_aes_256_cbc) {
    unsupported("content encryption " + oid_text(algorithm->algorithm) +
                "; supported are AES-128-CBC and AES-256-CBC");
  }
  out.cek_size = nid == NID_aes_128_cbc ? 16 : 32;
  const ASN1_TYPE* iv = algorithm->parameter;
  if (iv == nullptr || iv->type != V_ASN1_OCTET_STRING) malformed("AES-CBC without its IV");
  out.iv = bytes_of(iv->value.octet_string);
  if (out.iv.size() != kAesBlock) malformed("the initialization vector must have 16 bytes");
  if (out.ciphertext.empty() || out.ciphertext.size() % kAesBlock != 0) {
    malformed("the content length is not a multiple of the block size");
  }
  if (out.ciphertext.size() > kMaxPlaintext + kAesBlock) malformed("the content exceeds 128 KiB");
}

Bytes encode_attributes(const STACK_OF(ASN1_TYPE) * attributes) {
  if (attributes == nullptr) return {};
  unsigned char* der = nullptr;
  const int size = ASN1_item_i2d(reinterpret_cast<const ASN1_VALUE*>(attributes), &der,
                                 asn1::AuthAttributes_it());
  if (size <= 0) malformed("authenticated attributes");
  Bytes out(der, der + size);
  OPENSSL_free(der);
  return out;
}

CmsMessage read_authenticated(const unsigned char* der, long size) {
  const auto data = asn1::parse<asn1::AuthEnveloped>(der, size, asn1::AuthEnveloped_it());
  if (!data || !is_version(data->version, 0)) malformed("AuthEnvelopedData cannot be parsed");
  CmsMessage out;
  out.authenticated = true;
  out.recipients = read_recipients(data->recipients);
  read_content(*data->content, out);
  read_gcm(data->content->algorithm, data->mac, out);
  out.aad = encode_attributes(data->authenticated);
  return out;
}

CmsMessage read_unauthenticated(const unsigned char* der, long size) {
  const auto data = asn1::parse<asn1::Enveloped>(der, size, asn1::Enveloped_it());
  if (!data) malformed("EnvelopedData cannot be parsed");
  CmsMessage out;
  out.recipients = read_recipients(data->recipients);
  read_content(*data->content, out);
  read_cbc(data->content->algorithm, out);
  return out;
}

}  // namespace

CmsMessage parse_cms(ByteView bytes) {
  const CleanErrorQueue clean;
  const auto info = asn1::parse<asn1::ContentInfo>(bytes.data(), static_cast<long>(bytes.size()),
                                                   asn1::ContentInfo_it());
  if (!info || info->content->type != V_ASN1_SEQUENCE) malformed("ContentInfo cannot be parsed");
  const ASN1_STRING* inner = info->content->value.sequence;
  switch (OBJ_obj2nid(info->type)) {
    case NID_id_smime_ct_authEnvelopedData:
      return read_authenticated(inner->data, inner->length);
    case NID_pkcs7_enveloped:
      return read_unauthenticated(inner->data, inner->length);
    default:
      unsupported("it is " + oid_text(info->type) + ", not (Auth)EnvelopedData");
  }
}

}  // namespace keyagent::envelope
