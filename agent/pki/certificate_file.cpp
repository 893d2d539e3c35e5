// SPDX-License-Identifier: Apache-2.0
#include "agent/pki/certificate_file.h"

#include <arpa/inet.h>
#include <openssl/asn1.h>
#include <openssl/bn.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/pkcs7.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <initializer_list>
#include <set>
#include <string_view>

#include "agent/base/asn1_time.h"
#include "agent/base/encoding.h"
#include "agent/base/pem.h"
#include "agent/pki/x509.h"

namespace keyagent::pki {
namespace {

constexpr std::size_t kMaxNames = 100;

Code code_of(ChainFault fault) {
  switch (fault) {
    case ChainFault::kUnreadable:
      return Code::kUsage;
    case ChainFault::kOtherKey:
    case ChainFault::kTrust:
      return Code::kIntegrity;
    case ChainFault::kForm:
    case ChainFault::kUse:
    case ChainFault::kValidity:
    case ChainFault::kName:
      break;
  }
  return Code::kConfiguration;
}

[[noreturn]] void refuse(const std::string& text) {
  throw ChainError(ChainFault::kUnreadable, text);
}

void free_bytes(unsigned char* bytes) {
  OPENSSL_free(bytes);
}

// Certificates on their way in, each of them once.
class Collected {
 public:
  explicit Collected(std::size_t max_count) : max_count_(max_count) {}
  void add(Bytes der) {
    if (!seen_.insert(der).second) return;
    if (all_.size() == max_count_)
      refuse("the file holds more than " + std::to_string(max_count_) + " certificates");
    all_.push_back(std::move(der));
  }
  void add_all(const PKCS7* message) {
    if (!PKCS7_type_is_signed(message) || message->d.sign == nullptr)
      refuse("the PKCS#7 message in the file does not contain certificates");
    const STACK_OF(X509)* held = message->d.sign->cert;
    for (int i = 0; i < sk_X509_num(held); ++i) add(der_of(sk_X509_value(held, i)));
  }
  std::vector<Bytes> take() {
    if (all_.empty()) refuse(kNone);
    return std::move(all_);
  }

  static constexpr const char* kNone =
      "the file contains no certificate; expected PEM, DER or PKCS#7";

 private:
  const std::size_t max_count_;
  std::set<Bytes> seen_;
  std::vector<Bytes> all_;
};

using Message = Owned<PKCS7, PKCS7_free>;

Message parse_message(ByteView der) {
  const unsigned char* at = der.data();
  Message message(d2i_PKCS7(nullptr, &at, static_cast<long>(der.size())));
  if (message && at != der.data() + der.size()) message.reset();
  return message;
}

bool is_one_of(std::string_view label, std::initializer_list<std::string_view> labels) {
  return std::find(labels.begin(), labels.end(), label) != labels.end();
}

void add_certificate(Collected& to, const PemBlock& block) {
  const ByteView der = block.content;
  const unsigned char* at = der.data();
  const Certificate certificate(d2i_X509(nullptr, &at, static_cast<long>(der.size())));
  // A trusted certificate has its trust behind it.
  const bool whole =
      certificate && (block.label == PEM_STRING_X509_TRUSTED || at == der.data() + der.size());
  if (whole) return to.add(der_of(certificate.get()));
  if (const Message message = parse_message(der)) return to.add_all(message.get());
  refuse("a CERTIFICATE block of the file is truncated or corrupt");
}

void add_block(Collected& to, const PemBlock& block) {
  const std::string_view label = block.label;
  if (is_one_of(label, {PEM_STRING_X509, PEM_STRING_X509_OLD, PEM_STRING_X509_TRUSTED})) {
    add_certificate(to, block);
  } else if (is_one_of(label, {PEM_STRING_PKCS7, PEM_STRING_PKCS7_SIGNED, PEM_STRING_CMS})) {
    const Message message = parse_message(block.content);
    if (!message) refuse("the PKCS#7 message in the file is truncated or corrupt");
    to.add_all(message.get());
  } else if (label.find("PRIVATE KEY") != label.npos) {
    refuse("the file contains a private key; give a file with only the certificates");
  } else if (is_one_of(label, {PEM_STRING_X509_REQ, PEM_STRING_X509_REQ_OLD})) {
    refuse(
        "this is a certification request; give the certificate that the authority issued for it");
  }
}

bool is_pkcs12(ByteView der) {
  const unsigned char* at = der.data();
  const Owned<PKCS12, PKCS12_free> parsed(d2i_PKCS12(nullptr, &at, static_cast<long>(der.size())));
  return parsed != nullptr;
}

void read_der(Collected& to, ByteView file) {
  if (const auto whole = whole_der(file)) {
    if (const Message message = parse_message(*whole)) return to.add_all(message.get());
    if (is_pkcs12(*whole))
      refuse(
          "the file is PKCS#12, which can contain a private key; extract the certificates with: "
          "openssl pkcs12 -nokeys -in FILE -out chain.pem");
  }
  const unsigned char* at = file.data();
  const unsigned char* end = at + file.size();
  const auto over = [&] {
    return std::all_of(at, end, [](int byte) { return std::isspace(byte); });
  };
  while (!over()) {
    const Certificate certificate(d2i_X509(nullptr, &at, end - at));
    if (!certificate) refuse(Collected::kNone);
    to.add(der_of(certificate.get()));
  }
}

std::vector<Bytes> read_file(ByteView file, std::size_t max_size, std::size_t max_count) {
  const QuietErrors quiet;
  if (file.size() > max_size)
    refuse("the file is larger than " + std::to_string(max_size / 1024) + " KiB");
  Collected found(max_count);
  try {
    // DER has its own name: a certificate may hold the text "-----BEGIN ".
    if (!whole_der(file) && has_pem(file)) {
      for (const auto& block : read_pem(file)) add_block(found, block);
    } else {
      read_der(found, file);
    }
  } catch (const ChainError&) {
    throw;
  } catch (const Error& error) {
    refuse(error.what());
  }
  return found.take();
}

WallTime time_of(const ASN1_TIME* time) {
  const auto found = wall_time(time);
  if (!found) refuse("a time in the certificate is invalid");
  return *found;
}

std::string serial_of(const X509* certificate) {
  const ASN1_INTEGER* serial = X509_get0_serialNumber(certificate);
  const auto size = static_cast<std::size_t>(ASN1_STRING_length(serial));
  return to_hex({ASN1_STRING_get0_data(serial), std::min<std::size_t>(size, 64)});
}

std::string ip_text(const ASN1_OCTET_STRING* address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const int size = ASN1_STRING_length(address);
  if (size != 4 && size != 16) return "?";
  ::inet_ntop(size == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(address), text.data(),
              text.size());
  return text.data();
}

std::string general_name_text(const GENERAL_NAME* name) {
  int type = 0;
  const void* value = GENERAL_NAME_get0_value(name, &type);
  const auto text = [&](const char* kind) {
    const auto* string = static_cast<const ASN1_STRING*>(value);
    const std::string_view bytes(reinterpret_cast<const char*>(ASN1_STRING_get0_data(string)),
                                 static_cast<std::size_t>(ASN1_STRING_length(string)));
    return kind + escape_controls(bytes.substr(0, 255));
  };
  switch (type) {
    case GEN_DNS:
      return text("DNS:");
    case GEN_EMAIL:
      return text("email:");
    case GEN_URI:
      return text("URI:");
    case GEN_IPADD:
      return "IP:" + ip_text(static_cast<const ASN1_OCTET_STRING*>(value));
    default:
      return "another kind of name";
  }
}

std::vector<std::string> names_of(const X509* certificate) {
  const Owned<GENERAL_NAMES, GENERAL_NAMES_free> names(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  std::vector<std::string> out;
  for (int i = 0; i < sk_GENERAL_NAME_num(names.get()) && out.size() < kMaxNames; ++i)
    out.push_back(general_name_text(sk_GENERAL_NAME_value(names.get(), i)));
  return out;
}

std::vector<std::string> uses_of(const X509* certificate) {
  const Owned<EXTENDED_KEY_USAGE, EXTENDED_KEY_USAGE_free> uses(static_cast<EXTENDED_KEY_USAGE*>(
      X509_get_ext_d2i(certificate, NID_ext_key_usage, nullptr, nullptr)));
  std::vector<std::string> out;
  for (int i = 0; i < sk_ASN1_OBJECT_num(uses.get()) && out.size() < kMaxNames; ++i) {
    const ASN1_OBJECT* use = sk_ASN1_OBJECT_value(uses.get(), i);
    std::array<char, 80> text{};
    const int nid = OBJ_obj2nid(use);
    OBJ_obj2txt(text.data(), text.size(), use, 1);
    out.emplace_back(nid == NID_undef ? text.data() : OBJ_nid2sn(nid));
  }
  return out;
}

Bytes spki_of(const X509* certificate) {
  unsigned char* der = nullptr;
  const int size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &der);
  const Owned<unsigned char, free_bytes> held(der);
  return size > 0 ? Bytes(der, der + size) : Bytes();
}

}  // namespace

ChainError::ChainError(ChainFault fault, const std::string& text)
    : Error(code_of(fault), text), fault_(fault) {}

Certificate parse_certificate(ByteView der) {
  const unsigned char* at = der.data();
  Certificate certificate(d2i_X509(nullptr, &at, static_cast<long>(der.size())));
  if (certificate && at != der.data() + der.size()) certificate.reset();
  return certificate;
}

Bytes der_of(const X509* certificate) {
  unsigned char* der = nullptr;
  const int size = i2d_X509(certificate, &der);
  const Owned<unsigned char, free_bytes> held(der);
  return size > 0 ? Bytes(der, der + size) : Bytes();
}

std::string pem_text(const char* name, ByteView der) {
  const Owned<BIO, BIO_free> bio(BIO_new(BIO_s_mem()));
  PEM_write_bio(bio.get(), name, "", der.data(), static_cast<long>(der.size()));
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return {data, static_cast<std::size_t>(std::max(size, 0L))};
}

std::string name_text(const X509_NAME* name, std::size_t most) {
  const Owned<BIO, BIO_free> bio(BIO_new(BIO_s_mem()));
  X509_NAME_print_ex(bio.get(), name, 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB);
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  const std::string_view text(data, static_cast<std::size_t>(std::max(size, 0L)));
  return escape_controls(text.substr(0, most)) + (text.size() > most ? "…" : "");
}

std::string subject_of(const X509* certificate) {
  return "'" + name_text(X509_get_subject_name(certificate)) + "'";
}

std::vector<Bytes> read_certificates(ByteView file) {
  return read_file(file, kMaxCertificateFile, kMaxCertificates);
}

std::vector<Bytes> read_authorities(ByteView file) {
  return read_file(file, kMaxTrustBundle, kMaxAuthorities);
}

std::vector<Bytes> relevant_authorities(const std::vector<Bytes>& authorities,
                                        const std::vector<Bytes>& certificates) {
  const QuietErrors quiet;
  std::vector<Certificate> known, wanted;
  for (const auto& each : authorities) known.push_back(parse_certificate(each));
  for (const auto& each : certificates) wanted.push_back(parse_certificate(each));
  std::vector<bool> taken(known.size(), false);
  const auto take_issuers = [&](const X509* of) {
    std::vector<std::size_t> fresh;
    for (std::size_t i = 0; i < known.size(); ++i) {
      if (taken[i] || !known[i] || of == nullptr) continue;
      if (X509_NAME_cmp(X509_get_subject_name(known[i].get()), X509_get_issuer_name(of)) != 0)
        continue;
      taken[i] = true;
      fresh.push_back(i);
    }
    return fresh;
  };
  std::vector<std::size_t> left;
  for (const auto& each : wanted) {
    for (const auto i : take_issuers(each.get())) left.push_back(i);
  }
  while (!left.empty()) {
    const auto at = left.back();
    left.pop_back();
    for (const auto i : take_issuers(known[at].get())) left.push_back(i);
  }
  std::vector<Bytes> out;
  for (std::size_t i = 0; i < known.size(); ++i) {
    if (taken[i]) out.push_back(authorities[i]);
  }
  if (out.empty() && !authorities.empty()) out.push_back(authorities.front());
  return out;
}

std::string certificate_pem(ByteView der) {
  return pem_text(PEM_STRING_X509, der);
}

CertificateFacts certificate_facts(ByteView der) {
  const QuietErrors quiet;
  const Certificate certificate = parse_certificate(der);
  if (!certificate) refuse("a certificate is truncated or corrupt");
  CertificateFacts facts;
  facts.subject = name_text(X509_get_subject_name(certificate.get()));
  facts.issuer = name_text(X509_get_issuer_name(certificate.get()));
  facts.serial = serial_of(certificate.get());
  facts.names = names_of(certificate.get());
  facts.uses = uses_of(certificate.get());
  facts.not_before = time_of(X509_get0_notBefore(certificate.get()));
  facts.not_after = time_of(X509_get0_notAfter(certificate.get()));
  facts.valid_from = time_text(X509_get0_notBefore(certificate.get()));
  facts.valid_until = time_text(X509_get0_notAfter(certificate.get()));
  facts.spki = spki_of(certificate.get());
  return facts;
}

}  // namespace keyagent::pki
