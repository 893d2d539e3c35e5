// SPDX-License-Identifier: Apache-2.0
#pragma once
// Reads certificate files: certificates in PEM, DER or PKCS#7, and the fields of one.

#include <cstdint>
#include <string>
#include <vector>

#include "agent/base/bytes.h"
#include "agent/base/clock.h"
#include "agent/base/error.h"

namespace keyagent::pki {

// Why a certificate is not taken. Tests and the fuzzer tell refusals apart by it, people by the
// text.
enum class ChainFault {
  kUnreadable,  // USAGE: no certificates in these bytes
  kOtherKey,    // INTEGRITY: none of them is for the key
  kForm,        // CONFIGURATION: X.509 v1, or extensions that are malformed
  kUse,         // CONFIGURATION: not made for what the key does
  kValidity,    // CONFIGURATION: expired, or not yet valid
  kTrust,       // INTEGRITY: it does not verify up to an authority
  kName         // CONFIGURATION: for another host
};

class ChainError : public Error {
 public:
  ChainError(ChainFault fault, const std::string& text);
  ChainFault fault() const { return fault_; }

 private:
  ChainFault fault_;
};

inline constexpr std::size_t kMaxCertificates = 32;
inline constexpr std::size_t kMaxCertificateFile = 96 * 1024;
// A trust bundle is not a chain: /etc/ssl/certs/ca-certificates.crt has 140 authorities in 220 KiB.
inline constexpr std::size_t kMaxAuthorities = 2048;
inline constexpr std::size_t kMaxTrustBundle = 8 * 1024 * 1024;

// Every certificate once, in DER and in the order of the file. The only reader of such files: takes
// PEM (base/pem.h) with the labels CERTIFICATE, X509 CERTIFICATE, TRUSTED CERTIFICATE, PKCS7, PKCS
// #7 SIGNED DATA and CMS, a CERTIFICATE block that holds PKCS#7, DER (one after the other) and
// PKCS#7 in DER. Throws ChainError{kUnreadable} for anything else and names what the file holds:
// nothing, a private key, a request, PKCS#12, UTF-16, or more than the two limits.
std::vector<Bytes> read_certificates(ByteView file);
// The same with the limits of a trust bundle.
std::vector<Bytes> read_authorities(ByteView file);
// Those of `authorities` that a chain from one of `certificates` can lead to, by their names, in
// their order; the first of all when there is none, so that a bundle never becomes "no authority
// was named".
std::vector<Bytes> relevant_authorities(const std::vector<Bytes>& authorities,
                                        const std::vector<Bytes>& certificates);

// "-----BEGIN CERTIFICATE-----" … of one.
std::string certificate_pem(ByteView der);

struct CertificateFacts {
  std::string subject, issuer;         // RFC 4514, fit for a line of text
  std::string serial;                  // hex
  std::vector<std::string> names;      // "DNS:www.example.org", "IP:192.0.2.1", …; at most 100
  std::vector<std::string> uses;       // "serverAuth", "clientAuth", else dotted numbers
  WallTime not_before{}, not_after{};  // for comparisons: base/asn1_time.h
  // The same as written in the certificate, whatever the year: RFC 3339, for people.
  std::string valid_from, valid_until;
  Bytes spki;
};
// Throws ChainError{kUnreadable}.
CertificateFacts certificate_facts(ByteView der);

}  // namespace keyagent::pki
