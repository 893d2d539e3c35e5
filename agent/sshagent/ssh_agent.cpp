#include "agent/sshagent/ssh_agent.h"

#include <atomic>
#include <utility>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/base/log.h"
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
  kSignResponse = 14,
  kLock = 22,
  kUnlock = 23,
  kExtension = 27,
  kExtensionResponse = 29,
};

// What OpenSSH's clients take in a list.
constexpr std::uint32_t kMostIdentities = 2048;
constexpr std::size_t kMostPassphrase = 1024;

using Then = std::function<void(const wire::Response&)>;

// Goes on with the gate's answer. One that the gate forgets is a failure; `denied` is given to who
// is refused.
class Continued final : public gate::Reply {
 public:
  Continued(Then then, SshAgent::Answer give, SecretBytes denied = failure())
      : then_(std::move(then)), give_(std::move(give)), denied_(std::move(denied)) {}
  ~Continued() override {
    if (!answered_) give_(failure());
  }
  bool answer(const wire::Response& response) override {
    if (answered_.exchange(true)) return false;
    try {
      if (!response.has_failure()) {
        then_(response);
        return true;
      }
    } catch (const std::exception& error) {
      log_warning("sshagent", error.what());
    }
    give_(response.failure().code() == wire::DENIED ? denied_ : failure());
    return true;
  }
  // Opening envelopes alone is answered on a beat, and is not asked for here.
  void answer_at(SteadyTime, const wire::Response& response) override { answer(response); }

 private:
  const Then then_;
  const SshAgent::Answer give_;
  const SecretBytes denied_;
  std::atomic<bool> answered_{false};
};

SecretBytes success() {
  return {kSuccess};
}

bool for_ssh(const wire::Key& key) {
  return key.purpose() == name_of(Purpose::kSign) && key.state() == name_of(KeyState::kActive);
}

SecretBytes identities(const wire::KeyListReply& reply) {
  Writer keys;
  std::uint32_t count = 0;
  for (const auto& key : reply.keys()) {
    if (!for_ssh(key) || key.spki().empty()) continue;
    Writer one;
    one.string(key_blob(as_bytes(key.spki()))).string(key.name());
    if (count == kMostIdentities || keys.size() + one.size() + 5 > wire::kMaxFrame) {
      static std::atomic_flag told;
      if (!told.test_and_set())
        log_warning("sshagent", "more sign keys than ssh takes in a list: the rest is left out");
      break;
    }
    keys.raw(one.bytes());
    ++count;
  }
  return Writer().byte(kIdentitiesAnswer).uint32(count).raw(keys.bytes()).take();
}

wire::Request sign_request(const std::string& kid, const SshSignature& how, ByteView data) {
  wire::Request request;
  auto& sign = *request.mutable_sign();
  sign.set_key(kid);
  sign.set_algorithm(std::string(name_of(how.algorithm)));
  const Bytes input = signature_input(how.algorithm, data);
  sign.set_input(input.data(), input.size());
  return request;
}

ByteView passphrase_of(ByteView fields) {
  Reader reader(fields);
  const ByteView passphrase = reader.string();
  reader.finish();
  if (passphrase.size() > kMostPassphrase) throw Error(Code::kUsage, "the passphrase is too long");
  return passphrase;
}

}  // namespace

SecretBytes failure() {
  return {kFailure};
}

SshAgent::SshAgent(Ask ask, bool forwarding) : ask_(std::move(ask)), forwarding_(forwarding) {}

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
  const bool locked = locks_.locked(principal.uid);
  // A host to which the agent is forwarded may look, and no more.
  const bool distrusted = bindings.forwarded() && !forwarding_;
  const auto done = [&](bool well) { answer(well ? success() : failure()); };
  switch (type) {
    case kRequestIdentities:
      reader.finish();
      return locked ? answer(identities({})) : list(principal, answer);
    case kSignRequest:
      return locked || distrusted ? answer(failure()) : sign(principal, fields, answer);
    case kLock:
      return done(!distrusted && locks_.lock(principal.uid, passphrase_of(fields)));
    case kUnlock:
      return done(!distrusted && locks_.unlock(principal.uid, passphrase_of(fields)));
    case kExtension:
      return answer(extension(fields, bindings));
    // Keys are born in the token: none is added, and none is removed from here.
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

// The key's kid follows from its blob. The first question tells its purpose and state to whom may
// know them; the second is judged and recorded as every other signature is.
void SshAgent::sign(const policy::Principal& principal, ByteView fields, const Answer& answer) {
  Reader reader(fields);
  const ByteView blob = reader.string(), data = reader.string();
  const std::uint32_t flags = reader.uint32();
  reader.finish();
  const std::string kid = jwk_thumbprint(spki_of_blob(blob));
  wire::Request show;
  show.mutable_key_show()->set_key(kid);
  auto then = [ask = ask_, principal, kid, flags, answer,
               data = Bytes(data.begin(), data.end())](const wire::Response& response) {
    const auto& key = response.key_show().key();
    const auto algorithm = key_algorithm_of(key.algorithm());
    const auto how = algorithm ? signature_for(*algorithm, flags) : std::nullopt;
    if (!for_ssh(key) || !how) return answer(failure());
    const auto give = [answer, how = *how](const wire::Response& signed_by) {
      const Bytes signature = signature_blob(how, as_bytes(signed_by.sign().signature()));
      answer(Writer().byte(kSignResponse).string(signature).take());
    };
    ask(principal, sign_request(kid, *how, data), std::make_shared<Continued>(give, answer));
  };
  ask_(principal, std::move(show), std::make_shared<Continued>(std::move(then), answer));
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
