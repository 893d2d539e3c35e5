// SPDX-License-Identifier: Apache-2.0
#include "agent/sshagent/session_binding.h"

#include <algorithm>

#include "agent/base/error.h"
#include "agent/sshagent/ssh_key.h"
#include "agent/sshagent/ssh_wire.h"

namespace keyagent::sshagent {
namespace {

constexpr std::size_t kMaxSessions = 16;    // hops, as OpenSSH has it
constexpr std::size_t kMaxSessionId = 128;  // a digest: at most 64 bytes today

[[noreturn]] void refuse(const char* why) {
  throw Error(Code::kUsage, std::string("session-bind: ") + why);
}

}  // namespace

void SessionBindings::bind(ByteView message) {
  // Treat a truncated message as forwarding: the sender is not trusted.
  struct Believe {
    bool& forwarded;
    bool forwarding = true;
    ~Believe() { forwarded = forwarded || forwarding; }
  } believe{forwarded_};
  Reader reader(message);
  const ByteView host_key = reader.string(), id = reader.string(), signature = reader.string();
  const bool forwarding = reader.boolean();
  reader.finish();
  believe.forwarding = forwarding;

  if (id.empty() || id.size() > kMaxSessionId) refuse("no session identifier");
  if (!verify_blob(host_key, signature, id)) refuse("the host key did not sign the session");
  for (const auto& known : sessions_) {
    if (!known.forwarding) refuse("this connection is already bound to an authentication");
    if (!std::equal(id.begin(), id.end(), known.id.begin(), known.id.end())) continue;
    if (!std::equal(host_key.begin(), host_key.end(), known.host_key.begin(), known.host_key.end()))
      refuse("the session is bound to another host key");
    return;
  }
  if (sessions_.size() >= kMaxSessions) refuse("too many sessions");
  sessions_.push_back({{id.begin(), id.end()}, {host_key.begin(), host_key.end()}, forwarding});
}

const Bytes* SessionBindings::host_of(ByteView data) const {
  if (sessions_.empty() || sessions_.back().forwarding) return nullptr;
  const auto& last = sessions_.back();
  const SecretBytes named = Writer().string(last.id).take();
  const bool named_first =
      data.size() > named.size() && std::equal(named.begin(), named.end(), data.begin());
  return named_first ? &last.host_key : nullptr;
}

}  // namespace keyagent::sshagent
