// SPDX-License-Identifier: Apache-2.0
#pragma once
// The configuration as the daemon's parts take it.

#include "agent/audit/audit_log.h"
#include "agent/config/config.h"
#include "agent/gate/gate.h"
#include "agent/net/unix_server.h"

namespace keyagent::daemon {

net::Limits limits_of(const config::AgentConfig& config);
audit::Options audit_options(const config::AgentConfig& config);
gate::GateOptions gate_options(const config::AgentConfig& config);

}  // namespace keyagent::daemon
