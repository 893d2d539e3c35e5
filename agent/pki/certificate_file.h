#pragma once
// What people call a certificate file: certificates in PEM, DER or PKCS#7, and what one says.

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

inline constexpr std::size_t kMostCertificates = 32;
inline constexpr std::size_t kLargestCertificateFile = 96 * 1024;

// Every certificate once, in DER and in the order of the file. Takes PEM with anything between the
// blocks, DER (one after the other), and PKCS#7 in both. Throws ChainError{kUnreadable}: nothing
// there, bytes that are no certificate, a private key, or more than the two limits.
std::vector<Bytes> read_certificates(ByteView file);

// "-----BEGIN CERTIFICATE-----" … of one.
std::string certificate_pem(ByteView der);

struct CertificateFacts {
  std::string subject, issuer;         // RFC 4514, fit for a line of text
  std::string serial;                  // hex
  std::vector<std::string> names;      // "DNS:www.example.org", "IP:192.0.2.1", …; at most 100
  std::vector<std::string> uses;       // "serverAuth", "clientAuth", else dotted numbers
  WallTime not_before{}, not_after{};  // nothing later than 2261
  Bytes spki;
};
// Throws ChainError{kUnreadable}.
CertificateFacts certificate_facts(ByteView der);

}  // namespace keyagent::pki
