#include "agent/instance/host_keys.h"

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/base/ids.h"
#include "agent/envelope/envelope.h"
#include "agent/instance/json.h"
#include "agent/openssl/signature_encoding.h"
#include "agent/wire/messages.h"

namespace keyagent::instance {
namespace {

// RS256 where the key is RSA: PSS in certificates is still refused by some.
SignatureAlgorithm certificate_algorithm(KeyAlgorithm algorithm) {
  return is_rsa(algorithm) ? SignatureAlgorithm::kRs256 : *default_signature(algorithm);
}

}  // namespace

HostKeys::HostKeys(const InstanceConfig& config)
    : client_({config.agent_socket, std::chrono::seconds(30)}), keys_(client_), config_(config) {}

void HostKeys::create_missing() {
  const std::pair<std::string, Purpose> wanted[] = {{config_.ca_key, Purpose::kSign},
                                                    {config_.tls_key, Purpose::kAuth},
                                                    {config_.confirmation_key, Purpose::kSign}};
  for (const auto& [name, purpose] : wanted) {
    if (config_.outside && name == config_.ca_key) continue;
    wire::Request request;
    request.mutable_key_create()->set_name(name);
    request.mutable_key_create()->set_purpose(std::string(name_of(purpose)));
    client_.call(std::move(request));  // the same name and purpose again: nothing happens
  }
}

pki::RequestSigner HostKeys::ca_signer() {
  return signer_of(keys_.find(config_.ca_key));
}

Bytes HostKeys::tls_request(const std::vector<std::string>& names) {
  const auto info = keys_.find(config_.tls_key);
  return pki::make_request(info.spki, {"/O=keyagent/CN=" + config_.hosts.front(), names},
                           signer_of(info));
}

pki::RequestSigner HostKeys::signer_of(const PublicKeyInfo& info) {
  const auto algorithm = certificate_algorithm(info.algorithm);
  return {openssl::algorithm_identifier(algorithm), [this, info, algorithm](ByteView message) {
            const Bytes signature = keys_.sign_message(info.kid, algorithm, message);
            return ec_field_size(info.algorithm) > 0 ? openssl::ecdsa_der(signature) : signature;
          }};
}

std::string HostKeys::sign_confirmation(const std::string& payload) {
  const auto info = keys_.find(config_.confirmation_key);
  return envelope::sign_jws(keys_, info, *default_signature(info.algorithm), as_bytes(payload));
}

std::optional<std::string> HostKeys::verify_confirmation(const std::string& jws) {
  const auto header = from_base64url(jws.substr(0, jws.find('.')));
  if (!header) return std::nullopt;
  const Json named = Json::parse(as_text(*header), nullptr, false);
  const auto kid = named.is_object() ? Kid::parse(text_of(named, "kid", "")) : std::nullopt;
  if (!kid) return std::nullopt;
  try {
    std::unique_lock lock(mutex_);
    auto found = confirmation_keys_.find(kid->text());
    if (found == confirmation_keys_.end()) {
      lock.unlock();
      auto info = keys_.find(kid->text());
      if (info.name != config_.confirmation_key) return std::nullopt;
      lock.lock();
      found = confirmation_keys_.emplace(kid->text(), std::move(info)).first;
    }
    const auto info = found->second;
    lock.unlock();
    const Bytes payload = envelope::verify_jws(info, jws);
    return std::string(as_text(payload));
  } catch (const Error& error) {
    if (retryable(error.code())) throw;
    return std::nullopt;
  }
}

}  // namespace keyagent::instance
