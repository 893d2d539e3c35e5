// SPDX-License-Identifier: Apache-2.0
#include "agent/pki/chain.h"

#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <ctime>
#include <tuple>

#include "agent/base/encoding.h"
#include "agent/pki/x509.h"

namespace keyagent::pki {
namespace {

// 112 bits (SP 800-57): RSA from 2048, no SHA-1.
constexpr int kStrength = 2;
constexpr std::chrono::hours kSoon(24 * 30);

void free_stack(STACK_OF(X509) * stack) {
  sk_X509_free(stack);  // the certificates stay with their owners
}
void free_owning_stack(STACK_OF(X509) * stack) {
  sk_X509_pop_free(stack, X509_free);
}

using Pool = std::vector<Certificate>;
using View = Owned<STACK_OF(X509), free_stack>;

[[noreturn]] void refuse(ChainFault fault, const std::string& text) {
  throw ChainError(fault, text);
}

Pool parse_all(const std::vector<Bytes>& certificates) {
  Pool pool;
  for (const auto& der : certificates) {
    pool.push_back(parse_certificate(der));
    if (!pool.back()) refuse(ChainFault::kUnreadable, "a certificate is truncated or corrupt");
  }
  return pool;
}

View view_of(const std::vector<X509*>& certificates) {
  View view(sk_X509_new_null());
  for (X509* each : certificates) sk_X509_push(view.get(), each);
  return view;
}

std::vector<X509*> pointers(const Pool& pool) {
  std::vector<X509*> out;
  for (const auto& each : pool) out.push_back(each.get());
  return out;
}

std::string time_text(const ASN1_TIME* time) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return "an invalid time";
  char text[40] = {};
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M UTC", &parts);
  return text;
}

class Maker {
 public:
  Maker(const std::vector<Bytes>& certificates, const ChainRules& rules)
      : rules_(rules),
        now_(std::chrono::system_clock::to_time_t(rules.now)),
        pool_(parse_all(certificates)),
        anchors_(parse_all(rules.anchors)) {}

  Chain make() {
    X509* leaf = find_leaf();
    require_form(leaf);
    if (rules_.tls) require_use(leaf);
    require_valid(leaf);
    auto order = verify(leaf);
    if (!rules_.host.empty()) require_host(leaf);
    return finish(std::move(order));
  }

 private:
  // Who is taken first of several: the greatest.
  std::tuple<bool, WallTime, Bytes> rank(const X509* certificate) const {
    const Bytes der = der_of(certificate);
    return {valid_now(certificate), certificate_facts(der).not_after, der};
  }
  bool valid_now(const X509* certificate) const {
    std::time_t now = now_;
    return X509_cmp_time(X509_get0_notBefore(certificate), &now) < 0 &&
           X509_cmp_time(X509_get0_notAfter(certificate), &now) > 0;
  }
  X509* best(const std::vector<X509*>& several) const {
    if (several.size() < 2) return several.empty() ? nullptr : several.front();
    return *std::max_element(several.begin(), several.end(),
                             [&](auto a, auto b) { return rank(a) < rank(b); });
  }

  X509* find_leaf() const;
  [[noreturn]] void refuse_other_key() const;
  static void require_form(X509* leaf);
  static void require_use(X509* leaf);
  void require_valid(const X509* certificate) const;
  void require_host(X509* leaf) const;
  // Leaf first, each issued by the next one, as far as the file goes.
  std::vector<X509*> order(X509* leaf) const;
  X509* find_issuer(X509* of, const std::vector<X509*>& taken) const;
  std::vector<X509*> verify(X509* leaf) const;
  void verify_for(X509* leaf, const std::vector<X509*>& below, const std::vector<X509*>& trusted,
                  int purpose, std::vector<X509*>* found) const;
  [[noreturn]] void refuse_verification(X509_STORE_CTX* context) const;
  Chain finish(std::vector<X509*> order) const;

  const ChainRules& rules_;
  const std::time_t now_;
  const Pool pool_, anchors_;
};

X509* Maker::find_leaf() const {
  const unsigned char* at = rules_.spki.data();
  const Owned<EVP_PKEY, EVP_PKEY_free> key(
      d2i_PUBKEY(nullptr, &at, static_cast<long>(rules_.spki.size())));
  if (!key) throw Error(Code::kUsage, "key " + rules_.key + " has no public key to certify");
  std::vector<X509*> fitting;
  for (const auto& each : pool_) {
    const EVP_PKEY* its = X509_get0_pubkey(each.get());
    if (its != nullptr && EVP_PKEY_eq(its, key.get()) == 1) fitting.push_back(each.get());
  }
  X509* leaf = best(fitting);
  if (leaf == nullptr) refuse_other_key();
  return leaf;
}

// Names the certificate that the file is about: the first that issued none of the others.
void Maker::refuse_other_key() const {
  const auto issued_one = [&](const Certificate& candidate) {
    return std::any_of(pool_.begin(), pool_.end(), [&](const Certificate& other) {
      return other != candidate && X509_NAME_cmp(X509_get_issuer_name(other.get()),
                                                 X509_get_subject_name(candidate.get())) == 0;
    });
  };
  const auto found = std::find_if_not(pool_.begin(), pool_.end(), issued_one);
  const X509* about = found == pool_.end() ? pool_.front().get() : found->get();
  std::string kid;
  try {
    kid = "key " + jwk_thumbprint(certificate_facts(der_of(about)).spki);
  } catch (const Error&) {
    kid = "a key of an unsupported type";
  }
  refuse(ChainFault::kOtherKey, "the certificate " + subject_of(about) +
                                    " is for another key: " + kid + ", not " +
                                    jwk_thumbprint(rules_.spki) + "; nothing was changed");
}

void Maker::require_form(X509* leaf) {
  if (X509_get_version(leaf) != X509_VERSION_3 || X509_get_ext_count(leaf) == 0) {
    refuse(ChainFault::kForm,
           "the certificate " + subject_of(leaf) + " is X.509 v" +
               std::to_string(X509_get_version(leaf) + 1) +
               " without extensions; openssl x509 -req creates such a certificate if -extensions "
               "is given without -extfile; sign the request again with -extfile FILE -extensions "
               "SECTION (or -copy_extensions copy)");
  }
  if ((X509_get_extension_flags(leaf) & EXFLAG_INVALID) != 0)
    refuse(ChainFault::kForm,
           "an extension of the certificate " + subject_of(leaf) + " is malformed");
}

void Maker::require_use(X509* leaf) {
  const auto uses = X509_get_extended_key_usage(leaf);
  const bool stated = (X509_get_extension_flags(leaf) & EXFLAG_XKUSAGE) != 0;
  if (!stated || (uses & (XKU_SSL_SERVER | XKU_SSL_CLIENT)) == 0) {
    refuse(ChainFault::kUse,
           "the certificate " + subject_of(leaf) + " is not for TLS: " +
               (stated ? "its extended key usage has neither" : "it has no extended key usage:") +
               " serverAuth nor clientAuth; sign the request again with -extfile FILE and "
               "extendedKeyUsage=serverAuth (or clientAuth) in it");
  }
  if ((X509_get_key_usage(leaf) & KU_DIGITAL_SIGNATURE) == 0)
    refuse(ChainFault::kUse, "the key usage of the certificate " + subject_of(leaf) +
                                 " lacks digitalSignature, which an auth key requires");
  if ((X509_get_extension_flags(leaf) & EXFLAG_CA) != 0)
    refuse(ChainFault::kUse, "the certificate " + subject_of(leaf) +
                                 " is a CA certificate (CA:TRUE), which an auth key cannot use");
}

void Maker::require_valid(const X509* certificate) const {
  std::time_t now = now_;
  const std::string which = "the certificate " + subject_of(certificate);
  if (X509_cmp_time(X509_get0_notBefore(certificate), &now) >= 0)
    refuse(ChainFault::kValidity,
           which + " is not valid before " + time_text(X509_get0_notBefore(certificate)));
  if (X509_cmp_time(X509_get0_notAfter(certificate), &now) <= 0)
    refuse(ChainFault::kValidity,
           which + " has expired: " + time_text(X509_get0_notAfter(certificate)));
}

void Maker::require_host(X509* leaf) const {
  const Owned<ASN1_OCTET_STRING, ASN1_OCTET_STRING_free> address(
      a2i_IPADDRESS(rules_.host.c_str()));
  const bool fits = address ? X509_check_ip_asc(leaf, rules_.host.c_str(), 0) == 1
                            : X509_check_host(leaf, rules_.host.data(), rules_.host.size(),
                                              X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, nullptr) == 1;
  if (fits) return;
  std::string names;
  for (const auto& name : certificate_facts(der_of(leaf)).names)
    names += (names.empty() ? "" : ", ") + name;
  refuse(ChainFault::kName,
         "the certificate " + subject_of(leaf) + " is not for " + escape_controls(rules_.host) +
             " but for " +
             (names.empty() ? "no host: it has no alternative name" : names.substr(0, 300)));
}

X509* Maker::find_issuer(X509* of, const std::vector<X509*>& taken) const {
  std::vector<X509*> fitting;
  const X509* namesake = nullptr;
  for (const auto& each : pool_) {
    if (std::find(taken.begin(), taken.end(), each.get()) != taken.end()) continue;
    if (X509_NAME_cmp(X509_get_subject_name(each.get()), X509_get_issuer_name(of)) != 0) continue;
    namesake = each.get();
    if (X509_check_issued(each.get(), of) == X509_V_OK &&
        X509_verify(of, X509_get0_pubkey(each.get())) == 1)
      fitting.push_back(each.get());
  }
  if (fitting.empty() && namesake != nullptr)
    refuse(ChainFault::kTrust, "the certificate " + subject_of(of) + " was not issued by " +
                                   subject_of(namesake) +
                                   " of the file, although the name matches");
  return best(fitting);
}

std::vector<X509*> Maker::order(X509* leaf) const {
  std::vector<X509*> chain{leaf};
  while (X509_self_signed(chain.back(), 0) != 1) {
    X509* issuer = find_issuer(chain.back(), chain);
    if (issuer == nullptr) break;
    chain.push_back(issuer);
  }
  return chain;
}

// With anchors, OpenSSL builds the path, also through cross-signed authorities. Without, this class
// orders the chain and OpenSSL only verifies it.
std::vector<X509*> Maker::verify(X509* leaf) const {
  std::vector<X509*> below, trusted;
  if (anchors_.empty()) {
    below = order(leaf);
    trusted = {below.back()};
  } else {
    below = pointers(pool_);
    // A certificate is not its own anchor, unless it is self-signed.
    for (X509* anchor : pointers(anchors_)) {
      if (X509_cmp(anchor, leaf) != 0 || X509_self_signed(leaf, 1) == 1) trusted.push_back(anchor);
    }
  }
  std::vector<X509*> found;
  if (!rules_.tls) {
    verify_for(leaf, below, trusted, X509_PURPOSE_ANY, &found);
    return found;
  }
  const auto uses = X509_get_extended_key_usage(leaf);
  if ((uses & XKU_SSL_SERVER) != 0)
    verify_for(leaf, below, trusted, X509_PURPOSE_SSL_SERVER, &found);
  if ((uses & XKU_SSL_CLIENT) != 0)
    verify_for(leaf, below, trusted, X509_PURPOSE_SSL_CLIENT, &found);
  return found;
}

// `found`: the way that was gone, of what is in the file.
void Maker::verify_for(X509* leaf, const std::vector<X509*>& below,
                       const std::vector<X509*>& trusted, int purpose,
                       std::vector<X509*>* found) const {
  const Owned<X509_STORE, X509_STORE_free> store(X509_STORE_new());
  for (X509* each : trusted) X509_STORE_add_cert(store.get(), each);
  const View others = view_of(below);
  const Owned<X509_STORE_CTX, X509_STORE_CTX_free> context(X509_STORE_CTX_new());
  if (X509_STORE_CTX_init(context.get(), store.get(), leaf, others.get()) != 1 ||
      X509_STORE_CTX_set_purpose(context.get(), purpose) != 1)
    throw Error(Code::kInternal, "a chain of certificates cannot be verified");
  X509_VERIFY_PARAM* param = X509_STORE_CTX_get0_param(context.get());
  X509_VERIFY_PARAM_set_time(param, now_);
  X509_VERIFY_PARAM_set_auth_level(param, kStrength);
  X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_PARTIAL_CHAIN);
  if (X509_verify_cert(context.get()) != 1) refuse_verification(context.get());
  const Owned<STACK_OF(X509), free_owning_stack> way(X509_STORE_CTX_get1_chain(context.get()));
  found->clear();
  for (int i = 0; i < sk_X509_num(way.get()); ++i) {
    for (const auto& each : pool_) {
      if (X509_cmp(each.get(), sk_X509_value(way.get(), i)) == 0) {
        found->push_back(each.get());
        break;
      }
    }
  }
}

void Maker::refuse_verification(X509_STORE_CTX* context) const {
  const int error = X509_STORE_CTX_get_error(context);
  const X509* at = X509_STORE_CTX_get_current_cert(context);
  const std::string which = at == nullptr ? "the certificate" : "the certificate " + subject_of(at);
  switch (error) {
    case X509_V_ERR_CERT_NOT_YET_VALID:
    case X509_V_ERR_CERT_HAS_EXPIRED:
      if (at != nullptr) require_valid(at);
      break;
    case X509_V_ERR_INVALID_PURPOSE:
      refuse(ChainFault::kUse, which +
                                   " of the chain does not allow the use as TLS server or "
                                   "client that the key's certificate claims");
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_UNTRUSTED:
      refuse(ChainFault::kTrust,
             "the chain does not lead to any of the given authorities: it ends at " + which +
                 ", issued by '" + (at == nullptr ? "" : name_text(X509_get_issuer_name(at))) +
                 "'; add the missing intermediate certificates to the file, or give the right "
                 "authority");
    default:
      break;
  }
  refuse(ChainFault::kTrust, which + " does not verify: " + X509_verify_cert_error_string(error));
}

Chain Maker::finish(std::vector<X509*> order) const {
  Chain chain;
  for (const X509* each : order) chain.certificates.push_back(der_of(each));
  if (order.size() < pool_.size())
    chain.notes.push_back(std::to_string(pool_.size() - order.size()) +
                          " of the file's certificates do not belong to the chain and are ignored");
  const auto facts = certificate_facts(chain.certificates.front());
  if (rules_.anchors.empty() && X509_self_signed(order.back(), 0) != 1)
    chain.notes.push_back("verified up to " + subject_of(order.back()) + " only, issued by '" +
                          name_text(X509_get_issuer_name(order.back())) +
                          "'; --ca verifies it up to an authority");
  const bool server =
      std::find(facts.uses.begin(), facts.uses.end(), "serverAuth") != facts.uses.end();
  if (rules_.tls && server && facts.names.empty())
    chain.notes.push_back("it has no subjectAltName: clients that check the server name refuse it");
  if (facts.not_after - rules_.now < kSoon)
    chain.notes.push_back("it expires on " + facts.valid_until.substr(0, 10));
  return chain;
}

}  // namespace

Chain make_chain(const std::vector<Bytes>& certificates, const ChainRules& rules) {
  const QuietErrors quiet;
  return Maker(certificates, rules).make();
}

}  // namespace keyagent::pki
