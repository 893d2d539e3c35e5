// SPDX-License-Identifier: Apache-2.0
#include "agent/envelope/cms_asn1.h"

// The macros of asn1t.h spell out every field; the order and tags are those of the standards named
// at each type.
namespace keyagent::envelope::asn1 {

// clang-format off

// RFC 5652 §6.2.1
ASN1_CHOICE(RecipientId) = {
    ASN1_SEQUENCE_OF(RecipientId, d.issuer_serial, ASN1_ANY),
    ASN1_IMP(RecipientId, d.key_id, ASN1_OCTET_STRING, 0),
} static_ASN1_CHOICE_END(RecipientId)

ASN1_SEQUENCE(KeyTrans) = {
    ASN1_SIMPLE(KeyTrans, version, ASN1_INTEGER),
    ASN1_SIMPLE(KeyTrans, rid, RecipientId),
    ASN1_SIMPLE(KeyTrans, algorithm, X509_ALGOR),
    ASN1_SIMPLE(KeyTrans, encrypted_key, ASN1_OCTET_STRING),
} static_ASN1_SEQUENCE_END(KeyTrans)

// RFC 5652 §6.2.2
ASN1_SEQUENCE(OriginatorKey) = {
    ASN1_SIMPLE(OriginatorKey, algorithm, X509_ALGOR),
    ASN1_SIMPLE(OriginatorKey, public_key, ASN1_BIT_STRING),
} static_ASN1_SEQUENCE_END(OriginatorKey)

ASN1_CHOICE(Originator) = {
    ASN1_SEQUENCE_OF(Originator, d.issuer_serial, ASN1_ANY),
    ASN1_IMP(Originator, d.key_id, ASN1_OCTET_STRING, 0),
    ASN1_IMP(Originator, d.key, OriginatorKey, 1),
} static_ASN1_CHOICE_END(Originator)

ASN1_SEQUENCE(RecipientKeyId) = {
    ASN1_SIMPLE(RecipientKeyId, key_id, ASN1_OCTET_STRING),
    ASN1_OPT(RecipientKeyId, date, ASN1_GENERALIZEDTIME),
    ASN1_SEQUENCE_OF_OPT(RecipientKeyId, other, ASN1_ANY),
} static_ASN1_SEQUENCE_END(RecipientKeyId)

ASN1_CHOICE(AgreeRecipientId) = {
    ASN1_SEQUENCE_OF(AgreeRecipientId, d.issuer_serial, ASN1_ANY),
    ASN1_IMP(AgreeRecipientId, d.key_id, RecipientKeyId, 0),
} static_ASN1_CHOICE_END(AgreeRecipientId)

ASN1_SEQUENCE(RecipientEncryptedKey) = {
    ASN1_SIMPLE(RecipientEncryptedKey, rid, AgreeRecipientId),
    ASN1_SIMPLE(RecipientEncryptedKey, encrypted_key, ASN1_OCTET_STRING),
} static_ASN1_SEQUENCE_END(RecipientEncryptedKey)

ASN1_SEQUENCE(KeyAgree) = {
    ASN1_SIMPLE(KeyAgree, version, ASN1_INTEGER),
    ASN1_EXP(KeyAgree, originator, Originator, 0),
    ASN1_EXP_OPT(KeyAgree, ukm, ASN1_OCTET_STRING, 1),
    ASN1_SIMPLE(KeyAgree, algorithm, X509_ALGOR),
    ASN1_SEQUENCE_OF(KeyAgree, keys, RecipientEncryptedKey),
} static_ASN1_SEQUENCE_END(KeyAgree)

// RFC 5652 §6.2: kekri, pwri and ori are passed over whole.
ASN1_CHOICE(RecipientInfo) = {
    ASN1_SIMPLE(RecipientInfo, d.trans, KeyTrans),
    ASN1_IMP(RecipientInfo, d.agree, KeyAgree, 1),
    ASN1_IMP_SEQUENCE_OF(RecipientInfo, d.other, ASN1_ANY, 2),
    ASN1_IMP_SEQUENCE_OF(RecipientInfo, d.other, ASN1_ANY, 3),
    ASN1_IMP_SEQUENCE_OF(RecipientInfo, d.other, ASN1_ANY, 4),
} static_ASN1_CHOICE_END(RecipientInfo)

// RFC 5652 §6.1
ASN1_SEQUENCE(EncryptedContent) = {
    ASN1_SIMPLE(EncryptedContent, type, ASN1_OBJECT),
    ASN1_SIMPLE(EncryptedContent, algorithm, X509_ALGOR),
    ASN1_IMP_OPT(EncryptedContent, content, ASN1_OCTET_STRING, 0),
} static_ASN1_SEQUENCE_END(EncryptedContent)

ASN1_SEQUENCE(Enveloped) = {
    ASN1_SIMPLE(Enveloped, version, ASN1_INTEGER),
    ASN1_IMP_SEQUENCE_OF_OPT(Enveloped, originator, ASN1_ANY, 0),
    ASN1_SET_OF(Enveloped, recipients, RecipientInfo),
    ASN1_SIMPLE(Enveloped, content, EncryptedContent),
    ASN1_IMP_SET_OF_OPT(Enveloped, unprotected, ASN1_ANY, 1),
} ASN1_SEQUENCE_END(Enveloped)

// RFC 5083 §2.1
ASN1_SEQUENCE(AuthEnveloped) = {
    ASN1_SIMPLE(AuthEnveloped, version, ASN1_INTEGER),
    ASN1_IMP_SEQUENCE_OF_OPT(AuthEnveloped, originator, ASN1_ANY, 0),
    ASN1_SET_OF(AuthEnveloped, recipients, RecipientInfo),
    ASN1_SIMPLE(AuthEnveloped, content, EncryptedContent),
    ASN1_IMP_SET_OF_OPT(AuthEnveloped, authenticated, ASN1_ANY, 1),
    ASN1_SIMPLE(AuthEnveloped, mac, ASN1_OCTET_STRING),
    ASN1_IMP_SET_OF_OPT(AuthEnveloped, unauthenticated, ASN1_ANY, 2),
} ASN1_SEQUENCE_END(AuthEnveloped)

ASN1_SEQUENCE(ContentInfo) = {
    ASN1_SIMPLE(ContentInfo, type, ASN1_OBJECT),
    ASN1_EXP(ContentInfo, content, ASN1_ANY, 0),
} ASN1_SEQUENCE_END(ContentInfo)

ASN1_SEQUENCE(GcmParameters) = {
    ASN1_SIMPLE(GcmParameters, nonce, ASN1_OCTET_STRING),
    ASN1_OPT(GcmParameters, tag_size, ASN1_INTEGER),
} ASN1_SEQUENCE_END(GcmParameters)

// RFC 5083 §2.2: what is authenticated is the DER with the SET OF tag in place of [1].
ASN1_ITEM_TEMPLATE(AuthAttributes) =
    ASN1_EX_TEMPLATE_TYPE(ASN1_TFLG_SET_OF, 0, authAttrs, ASN1_ANY)
ASN1_ITEM_TEMPLATE_END(AuthAttributes)

// clang-format on

}  // namespace keyagent::envelope::asn1
