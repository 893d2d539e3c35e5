// SPDX-License-Identifier: Apache-2.0
#include "agent/sshagent/ssh_agent.h"

#include <atomic>
#include <utility>

#include "agent/base/error.h"
#include "agent/base/log.h"
#include "agent/sshagent/continued.h"
#include "agent/sshagent/signing.h"
#include "agent/sshagent/ssh_key.h"
#include "agent/sshagent/ssh_wire.h"
#include "agent/wire/frame.h"
#include "agent/wire/keyagent.pb.h"

namespace keyagent::sshagent {
namespace {

// draft-ietf-sshm-ssh-agent section 6.1.
enum Message : std::uint8_t {
  kFailure = 5,
  kSuccess = 6,
  kRequestIdentities = 11,
  kIdentitiesAnswer = 12,
  kSignRequest = 13,
  kLock = 22,
  kUnlock = 23,
  kExtension = 27,
  kExtensionResponse = 29,
};

// What OpenSSH's clients take in a list.
constexpr std::uint32_t kMaxIdentities = 2048;
constexpr std::size_t kMaxPassphrase = 1024;

SecretBytes success() {
  return {kSuccess};
}

SecretBytes identities(const wire::KeyListReply& reply) {
  Writer keys;
  std::uint32_t count = 0;
  for (const auto& key : reply.keys()) {
    if (!for_ssh(key) || key.spki().empty()) continue;
    Writer one;
    one.string(key_blob(as_bytes(key.spki()))).string(key.name());
    if (count == kMaxIdentities || keys.size() + one.size() + 5 > wire::kMaxFrame) {
      static std::atomic_flag told;
      if (!told.test_and_set())
        log_warning("sshagent",
                    "more sign keys than an ssh key list can hold; the rest is omitted");
      break;
    }
    keys.raw(one.bytes());
    ++count;
  }
  return Writer().byte(kIdentitiesAnswer).uint32(count).raw(keys.bytes()).take();
}

ByteView passphrase_of(ByteView fields) {
  Reader reader(fields);
  const ByteView passphrase = reader.string();
  reader.finish();
  if (passphrase.size() > kMaxPassphrase) throw Error(Code::kUsage, "the passphrase is too long");
  return passphrase;
}

}  // namespace

SecretBytes failure() {
  return {kFailure};
}

SshAgent::SshAgent(Ask ask, bool forwarding, std::shared_ptr<Confirmation> confirmation)
    : ask_(std::move(ask)), forwarding_(forwarding), confirmation_(std::move(confirmation)) {}

void SshAgent::handle(const policy::Principal& principal, ByteView body, SessionBindings& bindings,
                      const Answer& answer) {
  try {
    dispatch(principal, body, bindings, answer);
  } catch (const std::exception& error) {
    log(LogLevel::kDebug, "sshagent", principal.text() + ": " + error.what());
    answer(failure());
  }
}

void SshAgent::dispatch(const policy::Principal& principal, ByteView body,
                        SessionBindings& bindings, const Answer& answer) {
  Reader reader(body);
  const std::uint8_t type = reader.byte();
  const ByteView fields = body.subspan(1);
  const bool locked = locks_->locked(principal.uid);
  // A host to which the agent is forwarded may look, and no more.
  const bool distrusted = bindings.forwarded() && !forwarding_;
  const auto done = [&](bool well) { answer(well ? success() : failure()); };
  switch (type) {
    case kRequestIdentities:
      reader.finish();
      return locked ? answer(identities({})) : list(principal, answer);
    case kSignRequest:
      if (locked || distrusted) return answer(failure());
      return std::make_shared<Signing>(Signing::Around{ask_, confirmation_, locks_, known_},
                                       principal, fields, bindings, answer)
          ->begin();
    case kLock:
      return done(!distrusted && locks_->lock(principal.uid, passphrase_of(fields)));
    case kUnlock:
      return done(!distrusted && locks_->unlock(principal.uid, passphrase_of(fields)));
    case kExtension:
      return answer(extension(fields, bindings));
    // Keys are created in the token only: add and remove requests are refused.
    default:
      return answer(failure());
  }
}

void SshAgent::list(const policy::Principal& principal, const Answer& answer) {
  wire::Request request;
  request.mutable_key_list();
  const auto then = [answer](const wire::Response& response) {
    answer(identities(response.key_list()));
  };
  // Who may see no key at all sees none.
  ask_(principal, std::move(request), std::make_shared<Continued>(then, answer, identities({})));
}

SecretBytes SshAgent::extension(ByteView fields, SessionBindings& bindings) {
  constexpr std::string_view kQuery = "query", kSessionBind = "session-bind@openssh.com";
  Reader reader(fields);
  const std::string_view name = reader.name();
  if (name == kQuery) {
    reader.finish();
    return Writer().byte(kExtensionResponse).string(kQuery).string(kSessionBind).take();
  }
  if (name != kSessionBind) return failure();
  bindings.bind(fields.subspan(4 + name.size()));
  return success();
}

}  // namespace keyagent::sshagent
