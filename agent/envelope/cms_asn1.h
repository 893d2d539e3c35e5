// SPDX-License-Identifier: Apache-2.0
#pragma once
// The ASN.1 of RFC 5652, 5083 and 5753 as OpenSSL templates: libcrypto's own CMS types are opaque
// and give no access to an encrypted key, which here goes to the token. Internal to this room.

#include <openssl/asn1t.h>
#include <openssl/x509.h>

#include <memory>

namespace keyagent::envelope::asn1 {

struct RecipientId {
  int type;
  union {
    STACK_OF(ASN1_TYPE) * issuer_serial;
    ASN1_OCTET_STRING* key_id;
  } d;
};
struct KeyTrans {
  ASN1_INTEGER* version;
  RecipientId* rid;
  X509_ALGOR* algorithm;
  ASN1_OCTET_STRING* encrypted_key;
};
struct OriginatorKey {
  X509_ALGOR* algorithm;
  ASN1_BIT_STRING* public_key;
};
struct Originator {
  int type;
  union {
    STACK_OF(ASN1_TYPE) * issuer_serial;
    ASN1_OCTET_STRING* key_id;
    OriginatorKey* key;
  } d;
};
struct RecipientKeyId {
  ASN1_OCTET_STRING* key_id;
  ASN1_GENERALIZEDTIME* date;
  STACK_OF(ASN1_TYPE) * other;
};
struct AgreeRecipientId {
  int type;
  union {
    STACK_OF(ASN1_TYPE) * issuer_serial;
    RecipientKeyId* key_id;
  } d;
};
struct RecipientEncryptedKey {
  AgreeRecipientId* rid;
  ASN1_OCTET_STRING* encrypted_key;
};
DEFINE_STACK_OF(RecipientEncryptedKey)
struct KeyAgree {
  ASN1_INTEGER* version;
  Originator* originator;
  ASN1_OCTET_STRING* ukm;
  X509_ALGOR* algorithm;
  STACK_OF(RecipientEncryptedKey) * keys;
};
struct RecipientInfo {
  int type;
  union {
    KeyTrans* trans;
    KeyAgree* agree;
    STACK_OF(ASN1_TYPE) * other;
  } d;
};
DEFINE_STACK_OF(RecipientInfo)
struct EncryptedContent {
  ASN1_OBJECT* type;
  X509_ALGOR* algorithm;
  ASN1_OCTET_STRING* content;
};
struct Enveloped {
  ASN1_INTEGER* version;
  STACK_OF(ASN1_TYPE) * originator;
  STACK_OF(RecipientInfo) * recipients;
  EncryptedContent* content;
  STACK_OF(ASN1_TYPE) * unprotected;
};
struct AuthEnveloped {
  ASN1_INTEGER* version;
  STACK_OF(ASN1_TYPE) * originator;
  STACK_OF(RecipientInfo) * recipients;
  EncryptedContent* content;
  STACK_OF(ASN1_TYPE) * authenticated;
  ASN1_OCTET_STRING* mac;
  STACK_OF(ASN1_TYPE) * unauthenticated;
};
struct ContentInfo {
  ASN1_OBJECT* type;
  ASN1_TYPE* content;
};
// RFC 5084 §3.2
struct GcmParameters {
  ASN1_OCTET_STRING* nonce;
  ASN1_INTEGER* tag_size;  // null: the default, 12
};

DECLARE_ASN1_ITEM(ContentInfo)
DECLARE_ASN1_ITEM(Enveloped)
DECLARE_ASN1_ITEM(AuthEnveloped)
DECLARE_ASN1_ITEM(GcmParameters)
DECLARE_ASN1_ITEM(AuthAttributes)

template <typename T>
struct ItemFree {
  const ASN1_ITEM* item = nullptr;
  void operator()(T* p) const { ASN1_item_free(reinterpret_cast<ASN1_VALUE*>(p), item); }
};
template <typename T>
using Parsed = std::unique_ptr<T, ItemFree<T>>;

// The value that fills exactly these bytes; null otherwise.
template <typename T>
Parsed<T> parse(const unsigned char* bytes, long size, const ASN1_ITEM* item) {
  const unsigned char* at = bytes;
  Parsed<T> value(reinterpret_cast<T*>(ASN1_item_d2i(nullptr, &at, size, item)), ItemFree<T>{item});
  if (at != bytes + size) value.reset();
  return value;
}

}  // namespace keyagent::envelope::asn1
