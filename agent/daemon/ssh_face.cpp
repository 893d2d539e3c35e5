// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/ssh_face.h"

#include <memory>
#include <utility>

namespace keyagent::daemon {
namespace {

// Answers carry no number, and a session must be bound before it is used.
net::Limits in_order(net::Limits limits) {
  limits.inflight_per_connection = 1;
  return limits;
}

net::FrameHandler handler(sshagent::SshAgent& agent) {
  return [&agent](const policy::Principal& peer, ByteView frame, net::Responder responder) {
    auto& kept = responder.kept();
    if (!kept) kept = std::make_shared<sshagent::SessionBindings>();
    agent.handle(
        peer, frame, *std::static_pointer_cast<sshagent::SessionBindings>(kept),
        sshagent::SshAgent::Answer([responder](SecretBytes body, std::optional<SteadyTime> when) {
          if (when)
            responder.answer_at(*when, std::move(body));
          else
            responder.answer(std::move(body));
        }));
  };
}

}  // namespace

SshFace::SshFace(const config::SshConfig& config, unsigned threads, net::Limits limits,
                 sshagent::SshAgent::Ask ask, SshConfirmation::Record record)
    : confirmation_(std::make_shared<SshConfirmation>(config.confirm, std::move(record))),
      agent_(std::move(ask), config.forwarding, confirmation_),
      server_(net::listen_unix(config.path, config.mode, config.group), threads, in_order(limits),
              handler(agent_), [](const Error&) { return sshagent::failure(); }) {}

void SshFace::set_limits(net::Limits limits) {
  server_.set_limits(in_order(limits));
}

}  // namespace keyagent::daemon
