// SPDX-License-Identifier: Apache-2.0
#pragma once
// Certificates as tests want them: any names, times and extensions, right or wrong.

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <chrono>
#include <ctime>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/bytes.h"
#include "agent/base/clock.h"
#include "agent/pki/chain.h"

namespace keyagent::test {

using Pkey = std::shared_ptr<EVP_PKEY>;
inline Pkey ec_key(const char* curve = "P-256") {
  return {EVP_EC_gen(curve), EVP_PKEY_free};
}
inline Pkey rsa_key(unsigned bits) {
  return {EVP_RSA_gen(bits), EVP_PKEY_free};
}
inline Bytes spki_of(const Pkey& key) {
  unsigned char* der = nullptr;
  const int size = i2d_PUBKEY(key.get(), &der);
  Bytes out(der, der + size);
  OPENSSL_free(der);
  return out;
}

// The time at which the chains of tests are checked.
inline const WallTime kNow = parse_rfc3339("2026-06-01T12:00:00.000Z");

struct Party {
  Pkey key;
  std::shared_ptr<X509> certificate;
  Bytes der() const {
    unsigned char* out = nullptr;
    const int size = i2d_X509(certificate.get(), &out);
    Bytes bytes(out, out + size);
    OPENSSL_free(out);
    return bytes;
  }
};

using Extensions = std::vector<std::pair<std::string, std::string>>;

struct Wanted {
  std::string subject;
  const Party* issuer = nullptr;  // nullptr: itself
  Extensions extensions;
  Pkey key = ec_key();
  int from = -30, until = 300;  // days from kNow
  long version = X509_VERSION_3;
  const EVP_MD* hash = EVP_sha256();
  long serial = 0;
};

inline Party issue(const Wanted& wanted) {
  static long last_serial = 1000;
  Party made{wanted.key, {X509_new(), X509_free}};
  X509* certificate = made.certificate.get();
  X509_set_version(certificate, wanted.version);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate),
                   wanted.serial != 0 ? wanted.serial : ++last_serial);
  const auto at = [](int days) {
    return std::chrono::system_clock::to_time_t(kNow) + std::time_t{86'400} * days;
  };
  ASN1_TIME_set(X509_getm_notBefore(certificate), at(wanted.from));
  ASN1_TIME_set(X509_getm_notAfter(certificate), at(wanted.until));
  X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>(wanted.subject.c_str()), -1, -1,
                             0);
  const Party& issuer = wanted.issuer != nullptr ? *wanted.issuer : made;
  X509_set_issuer_name(certificate, X509_get_subject_name(issuer.certificate.get()));
  X509_set_pubkey(certificate, wanted.key.get());
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer.certificate.get(), certificate, nullptr, nullptr, 0);
  X509V3_set_ctx_nodb(&context);
  for (const auto& [name, value] : wanted.extensions) {
    X509_EXTENSION* extension = X509V3_EXT_conf(nullptr, &context, name.c_str(), value.c_str());
    if (extension == nullptr) throw std::runtime_error("no such extension: " + name + "=" + value);
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
  }
  X509_sign(certificate, issuer.key.get(), wanted.hash);
  return made;
}

inline const Extensions kAuthority{{"basicConstraints", "critical,CA:TRUE"},
                                   {"keyUsage", "critical,keyCertSign,cRLSign"},
                                   {"subjectKeyIdentifier", "hash"}};
inline const Extensions kServer{{"basicConstraints", "critical,CA:FALSE"},
                                {"keyUsage", "critical,digitalSignature"},
                                {"extendedKeyUsage", "serverAuth,clientAuth"},
                                {"subjectAltName", "DNS:www.example.org,IP:192.0.2.1"}};

// The extensions of `base`, those of `other` in place of the ones of the same name.
inline Extensions with(Extensions base, const Extensions& other) {
  for (const auto& each : other) {
    std::erase_if(base, [&](const auto& known) { return known.first == each.first; });
    base.push_back(each);
  }
  return base;
}
inline Extensions without(Extensions base, const std::string& name) {
  std::erase_if(base, [&](const auto& known) { return known.first == name; });
  return base;
}

// A file and what is asked of it.
struct Scene {
  std::vector<Party> file;
  std::vector<Party> anchors;
  std::string host;
  bool tls = true;
  Pkey key;

  Scene unanchored() const {
    Scene copy = *this;
    copy.anchors.clear();
    return copy;
  }
  Scene asked_for(const std::string& name) const {
    Scene copy = *this;
    copy.host = name;
    return copy;
  }
  pki::ChainRules rules() const {
    pki::ChainRules rules{spki_of(key), "web", tls, host, {}, kNow};
    for (const auto& each : anchors) rules.anchors.push_back(each.der());
    return rules;
  }
  std::vector<Bytes> certificates() const {
    std::vector<Bytes> out;
    for (const auto& each : file) out.push_back(each.der());
    return out;
  }
  pki::Chain make() const { return pki::make_chain(certificates(), rules()); }
};

// What most chains are made of: root → middle → leaf.
struct House {
  Party root = issue({"root", nullptr, kAuthority});
  Party middle = issue({"middle", &root, with(kAuthority, {{"authorityKeyIdentifier", "keyid"}})});
  Pkey key = ec_key();
  Party leaf(const Extensions& extensions = kServer, const Party* by = nullptr, int from = -30,
             int until = 300) const {
    return issue({"leaf", by != nullptr ? by : &middle, extensions, key, from, until});
  }
  Scene scene(std::vector<Party> file) const { return {std::move(file), {root}, {}, true, key}; }
  Party authority(const Extensions& changed, const Party* by = nullptr) const {
    return issue({"other", by != nullptr ? by : &root, with(kAuthority, changed)});
  }
  // Below one authority of that kind.
  Scene below(const Extensions& changed, const Extensions& leafs = kServer) const {
    const Party made = authority(changed);
    return scene({leaf(leafs, &made), made});
  }
};

}  // namespace keyagent::test
