// SPDX-License-Identifier: Apache-2.0
#include "agent/link/instance_line.h"

#include "agent/base/error.h"

namespace keyagent::link {

InstanceApi& InstanceLine::api(const LinkState& asked) {
  const std::string kid = keys_.show(asked.auth_key).kid();
  // The key may have been switched since `asked` was read. Its certificate was stored before.
  const auto stored = asked.certificates.contains(kid) ? nullptr : store_.get();
  const bool newer = stored && stored->agent == asked.agent && stored->instance == asked.instance &&
                     stored->agents_url == asked.agents_url;
  const LinkState& state = newer ? *stored : asked;
  const std::string wanted = kid + " " + state.agents_url + " " + state.crl;
  if (!api_ || api_for_ != wanted) {
    api_.reset();
    api_ = std::make_unique<InstanceApi>(library_.get(), options_for(state, kid, context_.timing));
    api_kid_ = kid;
    api_for_ = wanted;
  }
  return *api_;
}

bool InstanceLine::key_changed(const LinkState& state) const {
  return !api_kid_.empty() && keys_.show(state.auth_key).kid() != api_kid_;
}

std::shared_ptr<const LinkState> require_trusted(const LinkStore& store,
                                                 const InstanceConnection& uplink) {
  auto state = store.get();
  if (!state)
    throw Error(Code::kKeyState,
                "this agent is not enrolled with an instance; run: keyagent enroll URL");
  if (state->stage == LinkState::Stage::kPending)
    throw Error(Code::kKeyState, "the instance has not approved this agent yet");
  const auto report = uplink.report();
  if (report.phase == Phase::kRefusedByPeer)
    throw Error(Code::kKeyState, "the instance refuses this agent: " + report.text);
  return state;
}

}  // namespace keyagent::link
