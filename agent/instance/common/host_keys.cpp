// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/common/host_keys.h"

#include <algorithm>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/base/ids.h"
#include "agent/base/log.h"
#include "agent/envelope/envelope.h"
#include "agent/instance/common/json.h"
#include "agent/openssl/signature_encoding.h"
#include "agent/wire/messages.h"

namespace keyagent::instance {
namespace {

// Of at most 52 bytes each: well within a request of 256 KiB.
constexpr std::size_t kRevokedAtOnce = 4000;

// RS256 where the key is RSA: PSS in certificates is still refused by some.
SignatureAlgorithm certificate_algorithm(KeyAlgorithm algorithm) {
  return is_rsa(algorithm) ? SignatureAlgorithm::kRs256 : *default_signature(algorithm);
}

std::int64_t seconds(WallTime time) {
  return std::chrono::duration_cast<std::chrono::seconds>(time.time_since_epoch()).count();
}

void add_revoked(const pki::Revoked& each, wire::RevocationList& list) {
  auto& entry = *list.add_revoked();
  const auto serial = from_hex(each.serial.size() % 2 == 0 ? each.serial : "0" + each.serial);
  if (!serial)
    throw Error(Code::kIntegrity, "the store has a serial number that is not hexadecimal");
  entry.set_serial(serial->data(), serial->size());
  entry.set_at(seconds(each.when));
  if (each.reason != "unspecified") entry.set_reason(each.reason);
}

}  // namespace

std::string sign_text(client::Client& client, const Kid& key, envelope::Statement statement,
                      const std::string& payload) {
  wire::Request request;
  request.mutable_sign_statement()->set_key(key.text());
  auto& text = *request.mutable_sign_statement()->mutable_text();
  text.set_type(std::string(envelope::type_of(statement)));
  text.set_payload(payload);
  return client.call(std::move(request)).sign_statement().jws();
}

HostKeys::HostKeys(const InstanceConfig& config)
    : client_({config.agent_socket, std::chrono::seconds(30)}), keys_(client_), config_(config) {}

void HostKeys::create_missing() {
  const std::pair<std::string, Purpose> wanted[] = {{config_.ca_key, Purpose::kCa},
                                                    {config_.tls_key, Purpose::kAuth},
                                                    {config_.confirmation_key, Purpose::kConfirm}};
  for (const auto& [name, purpose] : wanted) {
    if (config_.outside && name == config_.ca_key) continue;
    wire::Request request;
    request.mutable_key_create()->set_name(name);
    request.mutable_key_create()->set_purpose(std::string(name_of(purpose)));
    try {
      client_.call(std::move(request));  // the same name and purpose again: nothing happens
    } catch (const Error& error) {
      // Created before attestation purposes existed, under a name that the operator chose.
      if (error.code() != Code::kExists || !vouches(purpose) ||
          keys_.find(name).purpose != Purpose::kSign)
        throw;
      log_warning("instance",
                  "key " + name +
                      " is a sign key and may sign anything; run: keyagent key retype " + name +
                      " --purpose " + std::string(name_of(purpose)));
    }
  }
}

Bytes HostKeys::sign_statement(wire::Request request) {
  request.mutable_sign_statement()->set_key(keys_.find(config_.ca_key).kid.text());
  const auto response = client_.call(std::move(request));
  const auto& der = response.sign_statement().der();
  return {der.begin(), der.end()};
}

Bytes HostKeys::make_authority(const std::string& subject, const pki::Validity& validity) {
  wire::Request request;
  auto& wanted = *request.mutable_sign_statement()->mutable_ca_certificate();
  wanted.set_subject(subject);
  wanted.set_not_before(seconds(validity.not_before));
  wanted.set_not_after(seconds(validity.not_after));
  return sign_statement(std::move(request));
}

Bytes HostKeys::issue(ByteView authority, const Certified& certified) {
  wire::Request request;
  auto& wanted = *request.mutable_sign_statement()->mutable_certificate();
  wanted.set_authority(authority.data(), authority.size());
  wanted.set_spki(certified.spki.data(), certified.spki.size());
  wanted.set_use(certified.use == pki::Use::kClient ? "client" : "server");
  for (const auto& name : certified.names) wanted.add_names(name);
  wanted.set_not_before(seconds(certified.validity.not_before));
  wanted.set_not_after(seconds(certified.validity.not_after));
  return sign_statement(std::move(request));
}

// Sends long lists in several requests; the agent signs only when all parts have arrived.
Bytes HostKeys::make_crl(ByteView authority, const std::vector<pki::Revoked>& revoked,
                         std::uint64_t number, const pki::Validity& validity) {
  const bool in_parts = revoked.size() > kRevokedAtOnce;
  for (std::size_t at = 0;; at += kRevokedAtOnce) {
    wire::Request request;
    auto& wanted = *request.mutable_sign_statement()->mutable_revocation_list();
    wanted.set_authority(authority.data(), authority.size());
    wanted.set_number(number);
    wanted.set_this_update(seconds(validity.not_before));
    wanted.set_next_update(seconds(validity.not_after));
    const auto end = std::min(revoked.size(), at + kRevokedAtOnce);
    for (std::size_t each = at; each < end; ++each) add_revoked(revoked[each], wanted);
    wanted.set_more(end < revoked.size());
    if (in_parts && !wanted.more()) wanted.set_total(revoked.size());
    auto answer = sign_statement(std::move(request));
    if (end == revoked.size()) return answer;
  }
}

Bytes HostKeys::tls_request(const std::vector<std::string>& names) {
  const auto info = keys_.find(config_.tls_key);
  const auto algorithm = certificate_algorithm(info.algorithm);
  const pki::RequestSigner signer{
      openssl::algorithm_identifier(algorithm), [&](ByteView message) {
        const Bytes signature = keys_.sign_message(info.kid, algorithm, message);
        return ec_field_size(info.algorithm) > 0 ? openssl::ecdsa_der(signature) : signature;
      }};
  return pki::make_request(info.spki, {"/O=keyagent/CN=" + config_.hosts.front(), names}, signer);
}

std::string HostKeys::sign_confirmation(envelope::Statement statement, const std::string& payload) {
  return sign_text(client_, keys_.find(config_.confirmation_key).kid, statement, payload);
}

std::optional<PublicKeyInfo> HostKeys::confirmation_key(const Kid& kid) {
  {
    const MutexLock lock(mutex_);
    const auto found = confirmation_keys_.find(kid.text());
    if (found != confirmation_keys_.end()) return found->second;
  }
  auto info = keys_.find(kid.text());
  if (info.name != config_.confirmation_key) return std::nullopt;
  const MutexLock lock(mutex_);
  return confirmation_keys_.emplace(kid.text(), std::move(info)).first->second;
}

std::optional<std::string> HostKeys::verify_confirmation(envelope::Statement statement,
                                                         const std::string& jws) {
  const auto header = from_base64url(jws.substr(0, jws.find('.')));
  if (!header) return std::nullopt;
  const Json named = Json::parse(as_text(*header), nullptr, false);
  const auto kid = named.is_object() ? Kid::parse(text_of(named, "kid", "")) : std::nullopt;
  if (!kid) return std::nullopt;
  try {
    const auto info = confirmation_key(*kid);
    if (!info) return std::nullopt;
    const Bytes payload = envelope::verify_statement(*info, jws, statement);
    return std::string(as_text(payload));
  } catch (const Error& error) {
    if (retryable(error.code())) throw;
    return std::nullopt;
  }
}

}  // namespace keyagent::instance
