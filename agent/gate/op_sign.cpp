// SPDX-License-Identifier: Apache-2.0
// Sign data with a sign key, and with no other.

#include <botan/hash.h>

#include <optional>

#include "agent/base/encoding.h"
#include "agent/gate/operation.h"
#include "agent/pki/to_be_signed.h"

namespace keyagent::gate {
namespace {

constexpr std::size_t kMaxMessage = 128 * 1024;

// A digest that a caller chooses may be that of a TLS handshake, a CSR or an audit checkpoint
// (RELIABILITY 98): an auth key is shown the whole message and signs what it recognizes, an audit
// key signs only what the agent itself has made.
// What it recognizes; nullopt for a sign key.
std::optional<pki::ToBeSigned> require_sign_key(Call& call, const keys::KeyRecord& key) {
  if (key.purpose == Purpose::kSign) return std::nullopt;
  if (key.purpose == Purpose::kAuth) {
    const auto kind = pki::recognize(as_bytes(call.request.sign().message()), key.spki);
    if (kind) {
      call.detail = std::string(pki::name_of(*kind));
      return kind;
    }
    throw Error(Code::kDenied,
                "key " + key.name.text() +
                    " is for auth: it signs only TLS handshakes and its own certification "
                    "requests, passed as complete messages; create another key with --purpose sign",
                key.kid.text());
  }
  const std::string purpose(name_of(key.purpose));
  if (vouches(key.purpose)) {
    throw Error(Code::kDenied,
                "key " + key.name.text() + " is for " + purpose +
                    ": it signs only statements that the agent builds or checks, not data chosen "
                    "by a caller; create another key with --purpose sign",
                key.kid.text());
  }
  throw Error(signs(key.purpose) ? Code::kDenied : Code::kUsage,
              "key " + key.name.text() + " is for " + purpose +
                  " and does not sign data chosen by a caller; create one with --purpose sign",
              key.kid.text());
}

SignatureAlgorithm algorithm_for(const keys::KeyRecord& key, const std::string& name) {
  const auto algorithm =
      name.empty() ? default_signature(key.algorithm) : signature_algorithm_of(name);
  if (!algorithm || !can_sign(key.algorithm, *algorithm)) {
    throw Error(Code::kUsage,
                "key " + key.name.text() + " (" + std::string(name_of(key.algorithm)) +
                    ") does not sign with '" + escape_controls(name) + "'",
                key.kid.text());
  }
  return *algorithm;
}

void check_input(SignatureAlgorithm algorithm, std::size_t size) {
  const auto digest = digest_of(algorithm);
  if (digest == DigestAlgorithm::kNone) {
    if (size <= kMaxMessage) return;
    throw Error(Code::kUsage, "EdDSA messages may have at most 128 KiB");
  }
  if (size == digest_size(digest)) return;
  throw Error(Code::kUsage, std::string(name_of(algorithm)) + " needs a digest of " +
                                std::to_string(digest_size(digest)) + " bytes, not " +
                                std::to_string(size));
}

// What KeyOps::sign() takes: the digest, or for EdDSA the message.
Bytes input_of(const wire::SignRequest& request, SignatureAlgorithm algorithm) {
  const auto given = as_bytes(request.message().empty() ? request.input() : request.message());
  if (given.size() > kMaxMessage)
    throw Error(Code::kUsage, "a message that is passed whole may have at most 128 KiB");
  if (request.message().empty()) return {given.begin(), given.end()};
  return signing_input(algorithm, given);
}

// After a rekey, the old key completes handshakes for a moment, and signs nothing else (MISSION
// T8). The link's key past its period still identifies the agent to the instance that confirms its
// successor (RELIABILITY 165).
KeyOps& ops_for(const Call& call, const keys::KeyRecord& key,
                const std::optional<pki::ToBeSigned>& kind) {
  auto& keys = call.state.services.keys;
  if (!kind || !pki::is_handshake(*kind)) return keys.ops();
  const bool link = call.principal.voucher == policy::Principal::Voucher::kInternal;
  return link ? keys.ops_while_rekeying(key.kid) : keys.handshake_ops();
}

}  // namespace

Bytes signing_input(SignatureAlgorithm algorithm, ByteView message) {
  const auto digest = digest_of(algorithm);
  if (digest == DigestAlgorithm::kNone) return {message.begin(), message.end()};
  const auto hash =
      Botan::HashFunction::create_or_throw("SHA-" + std::to_string(digest_size(digest) * 8));
  hash->update(message.data(), message.size());
  const auto value = hash->final();
  return {value.begin(), value.end()};
}

void sign_message(KeyOps& ops, const keys::KeyRecord& key, const wire::SignRequest& request,
                  wire::SignReply& reply) {
  const auto algorithm = algorithm_for(key, request.algorithm());
  const Bytes input = input_of(request, algorithm);
  check_input(algorithm, input.size());
  const Bytes signature = ops.sign(key.kid, algorithm, input);
  reply.set_signature(signature.data(), signature.size());
  reply.set_kid(key.kid.text());
  reply.set_algorithm(std::string(name_of(algorithm)));
}

void run_sign(Call& call) {
  with_generation_in_force(call, [&](const keys::KeyRecord& key) {
    const auto kind = require_sign_key(call, key);
    sign_message(ops_for(call, key, kind), key, call.request.sign(), *call.response.mutable_sign());
  });
}

}  // namespace keyagent::gate
