// SPDX-License-Identifier: Apache-2.0
#pragma once
// The agent as ssh sees it: one request of the ssh-agent protocol in, one answer out
// (draft-ietf-sshm-ssh-agent; OpenSSH PROTOCOL.agent).

#include <concepts>
#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "agent/base/bytes.h"
#include "agent/gate/gate.h"
#include "agent/policy/policy.h"
#include "agent/sshagent/agent_lock.h"
#include "agent/sshagent/confirmation.h"
#include "agent/sshagent/fingerprint_cache.h"
#include "agent/sshagent/session_binding.h"

namespace keyagent::sshagent {

// Thread-safe, except for a connection's bindings: one request of a connection at a time. Every key
// is accessed through `ask`, which is Gate::handle: there it is authorized, queued and recorded.
// Malformed, unknown, denied or locked requests get the same FAILURE. Answers may come on another
// thread, and after this object has been destroyed.
class SshAgent {
 public:
  using Ask =
      std::function<void(const policy::Principal&, wire::Request, std::shared_ptr<gate::Reply>)>;
  // Gives one answer, now or not before `when`: what the gate holds back is held back here too.
  class Answer {
   public:
    using Give = std::function<void(SecretBytes body, std::optional<SteadyTime> when)>;
    explicit Answer(Give give) : give_(std::move(give)) {}
    // For who has no clock: everything is given at once.
    template <class Now>
    requires(std::invocable<const Now&, SecretBytes> && !std::same_as<Now, Answer>) Answer(Now now)
        : give_([now](SecretBytes body, auto) { now(std::move(body)); }) {}
    void operator()(SecretBytes body) const { give_(std::move(body), std::nullopt); }
    void at(SteadyTime when, SecretBytes body) const { give_(std::move(body), when); }

   private:
    Give give_;
  };

  // `forwarding`: connections that ssh forwards from another host may sign. `confirmation`: asked
  // before keys sign that it wants to be asked for; null: none.
  SshAgent(Ask ask, bool forwarding, std::shared_ptr<Confirmation> confirmation = nullptr);

  // `body`: one frame. `answer` must not throw; its first call counts.
  void handle(const policy::Principal& principal, ByteView body, SessionBindings& bindings,
              const Answer& answer);

 private:
  void dispatch(const policy::Principal& principal, ByteView body, SessionBindings& bindings,
                const Answer& answer);
  void list(const policy::Principal& principal, const Answer& answer);
  SecretBytes extension(ByteView fields, SessionBindings& bindings);

  const Ask ask_;
  const bool forwarding_;
  const std::shared_ptr<Confirmation> confirmation_;
  const std::shared_ptr<AgentLock> locks_ = std::make_shared<AgentLock>();
  const std::shared_ptr<FingerprintCache> known_ = std::make_shared<FingerprintCache>();
};

// SSH_AGENT_FAILURE, without details.
SecretBytes failure();

}  // namespace keyagent::sshagent
