#include "agent/pki/certificate_file.h"

#include <arpa/inet.h>
#include <openssl/asn1.h>
#include <openssl/bn.h>
#include <openssl/pem.h>
#include <openssl/pkcs7.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "agent/base/encoding.h"
#include "agent/pki/x509.h"

namespace keyagent::pki {
namespace {

constexpr std::size_t kMostNames = 100;

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

void free_text(char* text) {
  OPENSSL_free(text);
}
void free_bytes(unsigned char* bytes) {
  OPENSSL_free(bytes);
}

// Certificates on their way in, each of them once.
class Collected {
 public:
  void add(Bytes der) {
    if (std::find(all_.begin(), all_.end(), der) != all_.end()) return;
    if (all_.size() == kMostCertificates)
      refuse("the file holds more than " + std::to_string(kMostCertificates) + " certificates");
    all_.push_back(std::move(der));
  }
  void add_all(const PKCS7* message) {
    if (!PKCS7_type_is_signed(message) || message->d.sign == nullptr)
      refuse("the PKCS#7 message in the file is none that holds certificates");
    const STACK_OF(X509)* held = message->d.sign->cert;
    for (int i = 0; i < sk_X509_num(held); ++i) add(der_of(sk_X509_value(held, i)));
  }
  std::vector<Bytes> take() {
    if (all_.empty()) refuse("the file holds no certificate: PEM, DER or PKCS#7 is expected");
    return std::move(all_);
  }

 private:
  std::vector<Bytes> all_;
};

using Message = Owned<PKCS7, PKCS7_free>;

Message parse_message(ByteView der) {
  const unsigned char* at = der.data();
  Message message(d2i_PKCS7(nullptr, &at, static_cast<long>(der.size())));
  if (message && at != der.data() + der.size()) message.reset();
  return message;
}

void add_block(Collected& to, std::string_view name, ByteView der) {
  if (name == PEM_STRING_X509 || name == PEM_STRING_X509_OLD || name == PEM_STRING_X509_TRUSTED) {
    // A trusted certificate has its trust behind it.
    const unsigned char* at = der.data();
    const Certificate certificate(d2i_X509(nullptr, &at, static_cast<long>(der.size())));
    const bool whole =
        certificate && (name == PEM_STRING_X509_TRUSTED || at == der.data() + der.size());
    if (!whole) refuse("a block of the file says CERTIFICATE and is none: it is cut or spoiled");
    to.add(der_of(certificate.get()));
  } else if (name == PEM_STRING_PKCS7 || name == PEM_STRING_PKCS7_SIGNED ||
             name == PEM_STRING_CMS) {
    const Message message = parse_message(der);
    if (!message) refuse("the PKCS#7 message in the file is cut or spoiled");
    to.add_all(message.get());
  } else if (name.find("PRIVATE KEY") != name.npos) {
    refuse("the file holds a private key too: give a file with the certificates alone");
  } else if (name == PEM_STRING_X509_REQ || name == PEM_STRING_X509_REQ_OLD) {
    refuse("this is a certification request: the certificate is what the authority makes of it");
  }
}

void read_pem(Collected& to, ByteView file) {
  const Owned<BIO, BIO_free> bio(BIO_new_mem_buf(file.data(), static_cast<int>(file.size())));
  char *name = nullptr, *header = nullptr;
  unsigned char* data = nullptr;
  long size = 0;
  while (PEM_read_bio(bio.get(), &name, &header, &data, &size) == 1) {
    const Owned<char, free_text> name_held(name), header_held(header);
    const Owned<unsigned char, free_bytes> data_held(data);
    add_block(to, name, {data, static_cast<std::size_t>(size)});
  }
  if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
    refuse("a block of the file is cut or spoiled");
}

void read_der(Collected& to, ByteView file) {
  if (const Message message = parse_message(file)) return to.add_all(message.get());
  const unsigned char* at = file.data();
  const unsigned char* end = at + file.size();
  while (at != end) {
    const Certificate certificate(d2i_X509(nullptr, &at, end - at));
    if (!certificate) refuse("the file holds no certificate: PEM, DER or PKCS#7 is expected");
    to.add(der_of(certificate.get()));
  }
}

// Beyond what WallTime holds (RFC 5280 §4.1.2.5 has 99991231235959Z for ever) the last that it
// does.
WallTime time_of(const ASN1_TIME* time) {
  constexpr std::int64_t kLast = 9'183'110'400;  // 2261-01-01
  std::tm parts{};
  if (time == nullptr || ASN1_TIME_to_tm(time, &parts) != 1)
    refuse("a time in the certificate is none");
  const std::int64_t seconds = std::clamp<std::int64_t>(::timegm(&parts), 0, kLast);
  return WallTime(std::chrono::seconds(seconds));
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
  for (int i = 0; i < sk_GENERAL_NAME_num(names.get()) && out.size() < kMostNames; ++i)
    out.push_back(general_name_text(sk_GENERAL_NAME_value(names.get(), i)));
  return out;
}

std::vector<std::string> uses_of(const X509* certificate) {
  const Owned<EXTENDED_KEY_USAGE, EXTENDED_KEY_USAGE_free> uses(static_cast<EXTENDED_KEY_USAGE*>(
      X509_get_ext_d2i(certificate, NID_ext_key_usage, nullptr, nullptr)));
  std::vector<std::string> out;
  for (int i = 0; i < sk_ASN1_OBJECT_num(uses.get()) && out.size() < kMostNames; ++i) {
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
  const QuietErrors quiet;
  if (file.size() > kLargestCertificateFile)
    refuse("the file is larger than " + std::to_string(kLargestCertificateFile / 1024) + " KiB");
  Collected found;
  const bool pem = as_text(file).find("-----BEGIN ") != std::string_view::npos;
  pem ? read_pem(found, file) : read_der(found, file);
  return found.take();
}

std::string certificate_pem(ByteView der) {
  return pem_text(PEM_STRING_X509, der);
}

CertificateFacts certificate_facts(ByteView der) {
  const QuietErrors quiet;
  const Certificate certificate = parse_certificate(der);
  if (!certificate) refuse("a certificate is cut or spoiled");
  CertificateFacts facts;
  facts.subject = name_text(X509_get_subject_name(certificate.get()));
  facts.issuer = name_text(X509_get_issuer_name(certificate.get()));
  facts.serial = serial_of(certificate.get());
  facts.names = names_of(certificate.get());
  facts.uses = uses_of(certificate.get());
  facts.not_before = time_of(X509_get0_notBefore(certificate.get()));
  facts.not_after = time_of(X509_get0_notAfter(certificate.get()));
  facts.spki = spki_of(certificate.get());
  return facts;
}

}  // namespace keyagent::pki
