// SPDX-License-Identifier: Apache-2.0
#include "agent/tls/context.h"

#include <openssl/err.h>

#include "agent/tls/session.h"

namespace keyagent::tls {
namespace {

// Chains of an instance have two or three certificates; longer ones are refused.
constexpr int kDeepestChain = 6;
constexpr long kLargestChain = 64 * 1024;  // bytes

constexpr const char* kCiphers = "ECDHE+AESGCM:ECDHE+CHACHA20";
// Where libssl has it (3.5), the hybrid of X25519 and ML-KEM-768 goes first
// (draft-ietf-tls-ecdhe-mlkem): recorded traffic stays closed to a quantum computer. "*": a key
// share for each, so that a peer that lacks the hybrid needs no second flight.
constexpr const char* kHybridGroups = "*X25519MLKEM768:*X25519:P-256:P-384";
constexpr const char* kGroups = "X25519:P-256:P-384";
constexpr const char* kAlgorithms =
    "ECDSA+SHA256:ECDSA+SHA384:ed25519:RSA-PSS+SHA256:RSA-PSS+SHA384:RSA-PSS+SHA512:RSA+SHA256:"
    "RSA+SHA384:RSA+SHA512";

// A key on a curve signs with the digest of that curve only, which TLS 1.2 leaves open.
const char* algorithms_of(EVP_PKEY* key) {
  if (EVP_PKEY_is_a(key, "RSA") == 1)
    return "RSA-PSS+SHA256:RSA-PSS+SHA384:RSA-PSS+SHA512:RSA+SHA256:RSA+SHA384:RSA+SHA512";
  if (EVP_PKEY_is_a(key, "EC") == 1)
    return EVP_PKEY_get_bits(key) > 256 ? "ECDSA+SHA384" : "ECDSA+SHA256";
  return "ed25519";
}

bool set_groups(SSL_CTX* context) {
  if (SSL_CTX_set1_groups_list(context, kHybridGroups) == 1) return true;
  ERR_clear_error();  // this libssl does not support the hybrid
  return SSL_CTX_set1_groups_list(context, kGroups) == 1;
}

void must(bool good, const char* what) {
  if (!good) throw queued_error(Code::kInternal, std::string("TLS refuses ") + what);
}

int judge_session(X509_STORE_CTX* store, void*) {
  auto* ssl =
      static_cast<SSL*>(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
  return Session::of(ssl).judged(store) ? 1 : 0;
}

}  // namespace

Context::Context(std::shared_ptr<Library> library, Side side,
                 const std::optional<Identity>& identity, const Trust& trust,
                 PeerCertificate peer_certificate)
    : library_(std::move(library)), side_(side), anchor_spki_(trust.anchor_spki_sha256) {
  ERR_clear_error();
  context_.reset(SSL_CTX_new_ex(library_->impl()->context, nullptr,
                                side == Side::kServer ? TLS_server_method() : TLS_client_method()));
  must(context_ != nullptr, "a context");
  harden();
  int mode = SSL_VERIFY_PEER;
  if (side == Side::kServer && peer_certificate == PeerCertificate::kRequired)
    mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
  SSL_CTX_set_verify(get(), mode, nullptr);
  SSL_CTX_set_cert_verify_callback(get(), judge_session, nullptr);
  set_trust(trust);
  if (identity) set_identity(*identity);
}

// No tickets and no cache: a session that is taken up again would outlive a revocation.
void Context::harden() {
  must(SSL_CTX_set_min_proto_version(get(), TLS1_2_VERSION) == 1, "TLS 1.2");
  must(SSL_CTX_set_cipher_list(get(), kCiphers) == 1, "the ciphers");
  must(set_groups(get()), "the groups");
  must(SSL_CTX_set1_sigalgs_list(get(), kAlgorithms) == 1, "the signature algorithms");
  SSL_CTX_set_security_level(get(), 2);
  SSL_CTX_set_options(get(), SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_CLEANSE_PLAINTEXT);
  SSL_CTX_set_num_tickets(get(), 0);
  SSL_CTX_set_session_cache_mode(get(), SSL_SESS_CACHE_OFF);
  SSL_CTX_set_mode(get(), SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_verify_depth(get(), kDeepestChain);
  SSL_CTX_set_max_cert_list(get(), kLargestChain);
}

void Context::set_identity(const Identity& identity) {
  const auto& library = *library_->impl();
  if (identity.chain.empty())
    throw Error(Code::kConfiguration, "key " + identity.key + " has no certificate");
  const std::string what = "the certificate of key " + identity.key;
  const auto leaf = library.certificate(identity.chain.front(), what);
  if (SSL_CTX_use_certificate(get(), leaf.get()) != 1)
    throw queued_error(Code::kConfiguration, what);
  for (std::size_t i = 1; i < identity.chain.size(); ++i) {
    const auto next = library.certificate(identity.chain[i], "a certificate above it");
    must(SSL_CTX_add1_chain_cert(get(), next.get()) == 1, "the chain");
  }
  const auto key = library.key(identity.key);
  if (SSL_CTX_use_PrivateKey(get(), key.get()) != 1)
    throw queued_error(Code::kConfiguration, what + " is for another key");
  const char* algorithms = algorithms_of(key.get());
  must((side_ == Side::kServer ? SSL_CTX_set1_client_sigalgs_list(get(), kAlgorithms) == 1 &&
                                     SSL_CTX_set1_sigalgs_list(get(), algorithms) == 1
                               : SSL_CTX_set1_client_sigalgs_list(get(), algorithms) == 1),
       "the key's signature algorithms");
}

void Context::set_trust(const Trust& trust) {
  const auto& library = *library_->impl();
  if (!trust.anchor_spki_sha256.empty() && !trust.anchors.empty())
    throw Error(Code::kConfiguration,
                "a pinned root replaces trust anchors and cannot be combined with them");
  X509_STORE* store = SSL_CTX_get_cert_store(get());
  for (const auto& der : trust.anchors) {
    const auto anchor = library.certificate(der, "an anchor");
    must(X509_STORE_add_cert(store, anchor.get()) == 1, "an anchor");
    if (side_ == Side::kServer) SSL_CTX_add_client_CA(get(), anchor.get());
  }
  for (const auto& der : trust.crls) {
    const auto list = library.revocation_list(der);
    must(X509_STORE_add_crl(store, list.get()) == 1, "a revocation list");
  }
  if (!trust.crls.empty()) X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK);
}

std::optional<Error> Context::judge_again(SSL* session, const Expected& expected) const {
  X509* certificate = SSL_get0_peer_certificate(session);
  const bool required = (SSL_CTX_get_verify_mode(get()) & SSL_VERIFY_FAIL_IF_NO_PEER_CERT) != 0;
  if (certificate == nullptr) {
    if (!required) return std::nullopt;
    return Error(Code::kPeerNoCertificate, "the client sent no certificate");
  }
  const Owned<X509_STORE_CTX> store(X509_STORE_CTX_new_ex(library_->impl()->context, nullptr));
  must(store && X509_STORE_CTX_init(store.get(), SSL_CTX_get_cert_store(get()), certificate,
                                    SSL_get_peer_cert_chain(session)) == 1,
       "a second look");
  X509_STORE_CTX_set_default(store.get(), side_ == Side::kServer ? "ssl_client" : "ssl_server");
  X509_VERIFY_PARAM_set_depth(X509_STORE_CTX_get0_param(store.get()), kDeepestChain);
  set_parameters(X509_STORE_CTX_get0_param(store.get()), expected);
  return judge(store.get(), expected);
}

}  // namespace keyagent::tls
