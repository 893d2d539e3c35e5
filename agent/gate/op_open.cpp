// SPDX-License-Identifier: Apache-2.0
// Open and seal: the caller names an envelope, never a ciphertext under a key (RELIABILITY 101).

#include "agent/base/encoding.h"
#include "agent/envelope/envelope.h"
#include "agent/gate/answers.h"
#include "agent/gate/operation.h"

namespace keyagent::gate {
namespace {

// The kid of the recipient key if this agent has it; otherwise a name for the error message.
std::string recipient_of(Call& call, const envelope::Header& header, const std::string& given) {
  for (const auto& id : header.recipient_ids) {
    if (const auto kid = call.state.recipients.find(call.state.services.keys, id))
      return kid->text();
  }
  if (!given.empty()) return given;
  if (!header.recipient_ids.empty()) return to_hex(header.recipient_ids.front());
  throw Error(Code::kUsage, "the envelope does not name its key; name it (--key NAME)");
}

envelope::ContentEncryption content_encryption_of(const std::string& name) {
  if (name.empty() || name == "A256GCM") return envelope::ContentEncryption::kA256Gcm;
  if (name == "A128GCM") return envelope::ContentEncryption::kA128Gcm;
  throw Error(Code::kUsage, "content encryption '" + escape_controls(name) +
                                "' is not supported: use A256GCM or A128GCM");
}

void seal_with(Call& call, const keys::KeyRecord& key) {
  if (key.purpose != Purpose::kStorage) {
    throw Error(Code::kUsage,
                "key " + key.name.text() + " has a public key: seal with it, without the agent",
                key.kid.text());
  }
  const auto& request = call.request.seal();
  const auto content = content_encryption_of(request.content_encryption());
  if (request.plaintext().size() > envelope::kMaxPlaintext)
    throw Error(Code::kUsage, "the plaintext exceeds 128 KiB; seal a key instead");
  const auto bytes = as_bytes(request.plaintext());
  const SecretBytes plaintext(bytes.begin(), bytes.end());
  const Bytes sealed =
      envelope::seal_jwe(call.state.services.keys.ops(), info_of(key), content, plaintext);
  auto& reply = *call.response.mutable_seal();
  reply.set_envelope(sealed.data(), sealed.size());
  reply.set_kid(key.kid.text());
}

}  // namespace

// The envelope's public part is read before anyone is authorized, because it names the key; so only
// for those who may do this with something at all.
void resolve_envelope(Call& call, const std::string& envelope, const std::string& given) {
  if (!policy::allows_some(*call.policy, call.principal, call.query.action)) {
    call.which = call.query.key = "-";
    return;
  }
  const auto header = envelope::inspect(as_bytes(envelope));
  if (header.kid.empty()) return resolve_key(call, recipient_of(call, header, given));
  resolve_key(call, header.kid);
  if (!call.key && !given.empty()) resolve_key(call, given);
}

void resolve_open(Call& call) {
  resolve_envelope(call, call.request.open().envelope(), call.request.open().key());
}

void require_budget(const Call& call) {
  const auto& key = *call.key;
  const auto& services = call.state.services;
  const std::string caller = caller_of(call.principal);
  const auto until = call.state.budget.paused_until(caller, key.kid.text());
  if (!until) return;
  const auto left = *until - services.clock.now_steady();
  throw Error(
      Code::kKeyState,
      caller + " may not open with key " + key.name.text() + " until " +
          rfc3339(services.clock.now() + std::chrono::duration_cast<WallTime::duration>(left)) +
          ": too many of its envelopes failed; stop sending damaged envelopes, then run: keyagent "
          "reload",
      key.kid.text());
}

void run_open(Call& call) {
  const auto& key = *call.key;
  require_budget(call);
  const bool named = !call.request.open().key().empty();
  const SecretBytes plaintext = envelope::open(call.state.services.keys.ops(), info_of(key),
                                               as_bytes(call.request.open().envelope()), named);
  auto& reply = *call.response.mutable_open();
  reply.set_plaintext(plaintext.data(), plaintext.size());
  reply.set_kid(key.kid.text());
  reply.set_name(key.name.text());
}

void run_seal(Call& call) {
  with_generation_in_force(call, [&](const keys::KeyRecord& key) { seal_with(call, key); });
}

}  // namespace keyagent::gate
