// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/options.h"

namespace keyagent::daemon {

net::Limits limits_of(const config::AgentConfig& config) {
  net::Limits limits;
  limits.connections = config.connections;
  limits.connections_per_uid = config.connections_per_uid;
  limits.inflight_per_uid = config.inflight_per_uid;
  limits.frame_timeout = config.frame_timeout;
  limits.idle_timeout = config.idle_timeout;
  limits.unfinished_per_uid = config.unfinished_bytes_per_uid;
  return limits;
}

audit::Options audit_options(const config::AgentConfig& config) {
  audit::Options options;
  options.folder = config.audit_folder;
  options.clock = &system_clock();
  options.commit_interval = config.audit_commit;
  options.checkpoint_records = config.checkpoint_records;
  options.checkpoint_interval = config.checkpoint_interval;
  return options;
}

gate::GateOptions gate_options(const config::AgentConfig& config) {
  gate::GateOptions options;
  options.token_operations = config.profile.serialize ? 1 : config.profile.sessions;
  options.queue = config.profile.queue;
  options.deadline = config.profile.deadline;
  options.failures_per_key_per_day = config.failures_per_key_per_day;
  options.refusals = {config.refusal_records, config.refusal_records_per_minute,
                      config.refusal_callers};
  options.proofs_per_minute = config.proofs_per_minute;
  const auto& census = config.census;
  options.census = {census.sources_per_uid, census.rows_per_uid, census.sources_per_key,
                    census.rows, census.source_bytes};
  return options;
}

}  // namespace keyagent::daemon
