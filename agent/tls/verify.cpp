// SPDX-License-Identifier: Apache-2.0
#include "agent/tls/verify.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include <algorithm>

#include "agent/base/asn1_time.h"
#include "agent/base/encoding.h"

namespace keyagent::tls {
namespace {

std::string whose(const Expected& expected) {
  return expected.side == Side::kServer ? "the client" : "the server";
}

WallTime time_of(const ASN1_TIME* time) {
  return wall_time(time).value_or(WallTime{});
}

std::string subject_of(X509* certificate) {
  const Owned<BIO> out(BIO_new(BIO_s_mem()));
  X509_NAME_print_ex(out.get(), X509_get_subject_name(certificate), 0,
                     XN_FLAG_RFC2253 & ~static_cast<unsigned long>(ASN1_STRFLGS_ESC_MSB));
  char* text = nullptr;
  const long size = BIO_get_mem_data(out.get(), &text);
  return escape_controls({text, static_cast<std::size_t>(std::max(size, 0L))});
}

std::string serial_of(X509* certificate) {
  const Owned<BIGNUM> number(ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), nullptr));
  Bytes bytes(static_cast<std::size_t>(std::max(1, number ? BN_num_bytes(number.get()) : 1)));
  if (number) BN_bn2bin(number.get(), bytes.data());
  return to_hex(bytes);
}

Bytes der_of(X509* certificate) {
  Bytes der(static_cast<std::size_t>(std::max(0, i2d_X509(certificate, nullptr))));
  unsigned char* at = der.data();
  i2d_X509(certificate, &at);
  return der;
}

Bytes spki_of(X509* certificate) {
  X509_PUBKEY* key = X509_get_X509_PUBKEY(certificate);
  Bytes der(static_cast<std::size_t>(std::max(0, i2d_X509_PUBKEY(key, nullptr))));
  unsigned char* at = der.data();
  i2d_X509_PUBKEY(key, &at);
  return der;
}

// Empty for a kind of key that no agent has.
std::string kid_of(ByteView spki) {
  try {
    return jwk_thumbprint(spki);
  } catch (const Error&) {
    return {};
  }
}

std::string name_of(const GENERAL_NAME* name) {
  int type = 0;
  const auto* value = static_cast<const ASN1_STRING*>(GENERAL_NAME_get0_value(name, &type));
  if (type != GEN_DNS && type != GEN_URI && type != GEN_IPADD) return {};
  const auto size = static_cast<std::size_t>(ASN1_STRING_length(value));
  const unsigned char* data = ASN1_STRING_get0_data(value);
  if (type == GEN_IPADD) {
    char text[INET6_ADDRSTRLEN] = {};
    if (size != 4 && size != 16) return {};
    return std::string("IP:") +
           ::inet_ntop(size == 4 ? AF_INET : AF_INET6, data, text, sizeof text);
  }
  const std::string text(reinterpret_cast<const char*>(data), size);
  // Reject a name that contains a control character.
  if (text.empty() || escape_controls(text) != text) return {};
  return (type == GEN_DNS ? "DNS:" : "URI:") + text;
}

// OpenSSL takes a certificate without the extension for one of any purpose.
bool has_purpose(X509* certificate, Side side) {
  const std::uint32_t wanted = side == Side::kServer ? XKU_SSL_CLIENT : XKU_SSL_SERVER;
  const std::uint32_t usage = X509_get_extended_key_usage(certificate);
  return (X509_get_extension_flags(certificate) & EXFLAG_XKUSAGE) != 0 && (usage & wanted) != 0;
}

Code code_of(int error) {
  switch (error) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
      return Code::kPeerExpired;
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return Code::kPeerNotYetValid;
    case X509_V_ERR_INVALID_PURPOSE:
      return Code::kPeerPurpose;
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
      return Code::kPeerName;
    case X509_V_ERR_CERT_REVOKED:
      return Code::kPeerRevoked;
    default:
      return Code::kPeerUntrusted;
  }
}

std::string reason_of(int error, X509* at, const Expected& expected) {
  const std::string now = rfc3339(system_clock().now());
  switch (code_of(error)) {
    case Code::kPeerExpired:
      return "expired on " + time_text(X509_get0_notAfter(at)) + "; it is " + now;
    case Code::kPeerNotYetValid:
      return "is valid from " + time_text(X509_get0_notBefore(at)) + " on, but this clock says " +
             now + ": a clock is wrong (clock skew), or it is too early";
    case Code::kPeerPurpose:
      return expected.side == Side::kServer ? "is not for TLS clients (extended key usage)"
                                            : "is not for TLS servers (extended key usage)";
    case Code::kPeerName:
      return "does not name " + expected.host + " (subject alternative name)";
    case Code::kPeerRevoked:
      return "was revoked";
    default:
      return std::string("is not trusted: ") + X509_verify_cert_error_string(error);
  }
}

Error refusal(X509_STORE_CTX* store, const Expected& expected) {
  const int error = X509_STORE_CTX_get_error(store);
  X509* at = X509_STORE_CTX_get_current_cert(store);
  if (at == nullptr) at = X509_STORE_CTX_get0_cert(store);
  const bool own = at == X509_STORE_CTX_get0_cert(store);
  return Error(code_of(error), whose(expected) + (own ? "'s certificate " : "'s authority ") +
                                   subject_of(at) + " (serial " + serial_of(at) + ") " +
                                   reason_of(error, at, expected));
}

// A missing or expired CRL does not fail the verification: an agent that was offline for long must
// be able to fetch the next one. Certificates revoked by an expired CRL stay revoked.
int forgive(int good, X509_STORE_CTX* store) {
  const int error = X509_STORE_CTX_get_error(store);
  if (good == 0 && (error == X509_V_ERR_UNABLE_TO_GET_CRL || error == X509_V_ERR_CRL_HAS_EXPIRED)) {
    X509_STORE_CTX_set_error(store, X509_V_OK);
    return 1;
  }
  return good;
}

struct Stack {
  ~Stack() { sk_X509_free(certificates); }
  STACK_OF(X509) * certificates = sk_X509_new_null();
};

// The root with the pinned key among those that were sent becomes the only one that is trusted.
std::optional<Error> trust_pinned(X509_STORE_CTX* store, const Expected& expected,
                                  const Stack& roots) {
  STACK_OF(X509)* sent = X509_STORE_CTX_get0_untrusted(store);
  std::string seen;
  for (int i = 0; i < sk_X509_num(sent); ++i) {
    X509* each = sk_X509_value(sent, i);
    if ((X509_get_extension_flags(each) & EXFLAG_SS) == 0) continue;
    seen = to_base64url(sha256(spki_of(each)));
    if (seen != expected.anchor_spki) continue;
    sk_X509_push(roots.certificates, each);
    X509_STORE_CTX_set0_trusted_stack(store, roots.certificates);
    return std::nullopt;
  }
  X509_STORE_CTX_set_error(store, X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN);
  return Error(Code::kPeerKey, whose(expected) + "'s root " +
                                   (seen.empty() ? "was not sent" : "has the key " + seen) +
                                   "; expected is " + expected.anchor_spki);
}

std::optional<Error> judge_leaf(X509_STORE_CTX* store, const Expected& expected) {
  X509* leaf = X509_STORE_CTX_get0_cert(store);
  if (!has_purpose(leaf, expected.side)) {
    X509_STORE_CTX_set_error(store, X509_V_ERR_INVALID_PURPOSE);
    return refusal(store, expected);
  }
  const std::string kid = kid_of(spki_of(leaf));
  if (expected.kid.empty() || kid == expected.kid) return std::nullopt;
  X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REJECTED);
  return Error(Code::kPeerKey,
               whose(expected) + "'s key is " + kid + "; expected is " + expected.kid,
               expected.kid);
}

}  // namespace

std::optional<Error> judge(X509_STORE_CTX* store, const Expected& expected) {
  const Stack roots;
  std::optional<Error> refused;
  if (!expected.anchor_spki.empty()) refused = trust_pinned(store, expected, roots);
  X509_STORE_CTX_set_verify_cb(store, forgive);
  if (!refused && X509_verify_cert(store) != 1) refused = refusal(store, expected);
  if (!refused) refused = judge_leaf(store, expected);
  if (!refused) X509_STORE_CTX_set_error(store, X509_V_OK);
  ERR_clear_error();
  return refused;
}

void set_parameters(X509_VERIFY_PARAM* parameters, const Expected& expected) {
  if (expected.side == Side::kServer) return;
  X509_VERIFY_PARAM_set_hostflags(
      parameters, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  if (X509_VERIFY_PARAM_set1_ip_asc(parameters, expected.host.c_str()) == 1) return;
  if (expected.host.empty() ||
      X509_VERIFY_PARAM_set1_host(parameters, expected.host.data(), expected.host.size()) != 1)
    throw Error(Code::kUsage, "'" + expected.host + "' is not a host name");
}

Peer describe(X509* certificate) {
  Peer peer;
  peer.certified = true;
  peer.certificate = der_of(certificate);
  peer.spki = spki_of(certificate);
  peer.kid = kid_of(peer.spki);
  peer.subject = subject_of(certificate);
  peer.serial = serial_of(certificate);
  peer.not_before = time_of(X509_get0_notBefore(certificate));
  peer.not_after = time_of(X509_get0_notAfter(certificate));
  peer.valid_until = time_text(X509_get0_notAfter(certificate));
  const Owned<GENERAL_NAMES> names(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; names && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    if (auto name = name_of(sk_GENERAL_NAME_value(names.get(), i)); !name.empty())
      peer.names.push_back(std::move(name));
  }
  ERR_clear_error();
  return peer;
}

}  // namespace keyagent::tls
