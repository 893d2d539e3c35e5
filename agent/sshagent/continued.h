// SPDX-License-Identifier: Apache-2.0
#pragma once
// An answer of the gate, and what is done with it.

#include <atomic>
#include <functional>

#include "agent/gate/gate.h"
#include "agent/sshagent/ssh_agent.h"

namespace keyagent::sshagent {

// Continues with the gate's response. A request that the gate drops is answered with a failure, a
// denied one with `denied`.
class Continued final : public gate::Reply {
 public:
  using Then = std::function<void(const wire::Response&)>;

  Continued(Then then, SshAgent::Answer give, SecretBytes denied = failure());
  ~Continued() override;
  bool answer(const wire::Response& response) override { return take(response, std::nullopt); }
  void answer_at(SteadyTime when, const wire::Response& response) override { take(response, when); }

 private:
  bool take(const wire::Response& response, std::optional<SteadyTime> when);

  const Then then_;
  const SshAgent::Answer give_;
  const SecretBytes denied_;
  std::atomic<bool> answered_{false};
};

}  // namespace keyagent::sshagent
