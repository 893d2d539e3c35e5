// SPDX-License-Identifier: Apache-2.0
#pragma once
// One SIGN_REQUEST in progress: checks the key's purpose, asks for confirmation, signs.

#include <memory>
#include <optional>
#include <string>

#include "agent/sshagent/ssh_agent.h"
#include "agent/sshagent/ssh_key.h"

namespace keyagent::sshagent {

// Active, and made to sign what its user wants.
bool for_ssh(const wire::Key& key);

// Belongs to one thread at a time. Kept alive by who must answer next.
class Signing : public std::enable_shared_from_this<Signing> {
 public:
  struct Around {
    SshAgent::Ask ask;
    std::shared_ptr<Confirmation> confirmation;  // may be null: no confirmation
    std::shared_ptr<const AgentLock> locks;
    std::shared_ptr<FingerprintCache> known;
  };
  // `fields`: what follows the type. Throws Error{kUsage} when it is malformed.
  Signing(Around around, const policy::Principal& principal, ByteView fields,
          const SessionBindings& bindings, SshAgent::Answer answer);
  void begin();

 private:
  // Sends a request whose answer goes to `step`.
  void ask(wire::Request request, void (Signing::*step)(const wire::Response&));
  void shown(const wire::Response& response);
  void decided(const wire::Response& response);
  void sign();
  void signed_by(const wire::Response& response);
  void refuse() const { answer_(failure()); }

  const Around context_;
  const SshAgent::Answer answer_;
  Question question_;
  Bytes blob_, data_;
  std::uint32_t flags_ = 0;
  std::optional<SshSignature> how_;
};

}  // namespace keyagent::sshagent
