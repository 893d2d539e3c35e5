// SPDX-License-Identifier: Apache-2.0
#pragma once
// The options of `keyagent instance`, which its commands share.

#include <memory>
#include <string>
#include <vector>

#include "agent/cli/cli.h"
#include "agent/cli/instance/instance_client.h"

namespace keyagent::cli {

struct InstanceOptions {
  std::string profile, url, user, fingerprint, password_file, role;
  std::string agent, reason, output = "-", key = "transport", batch, name, type = "password", from;
  std::vector<std::string> agents, groups;
  bool all = false, wait = false, cancel = false, disable = false, enable = false, blind = false,
       accept = false, inherit = false;
  long hours = 24, canary = 10, parallel = 4, timeout = 0, after = -1, count = 100;
};

InstanceClient client_of(const InstanceOptions& options);
// The member as text, "-" without it.
std::string text_at(const Json& object, const char* name);
// Returns true, after a message, when the change waits for approval by a second user.
bool tell_pending(Session& session, const Json& answer);
void add_instance_decision_commands(CLI::App& instance, Session& session,
                                    const std::shared_ptr<InstanceOptions>& options);
void add_instance_checkpoint_command(CLI::App& instance, Session& session,
                                     const std::shared_ptr<InstanceOptions>& options);
void add_instance_certificate_commands(CLI::App& instance, Session& session,
                                       const std::shared_ptr<InstanceOptions>& options);
void add_instance_credential_commands(CLI::App& instance, Session& session,
                                      const std::shared_ptr<InstanceOptions>& options);

void add_instance_specification_commands(CLI::App& instance, Session& session,
                                         const std::shared_ptr<InstanceOptions>& options);
void add_instance_record_commands(CLI::App& instance, Session& session,
                                  const std::shared_ptr<InstanceOptions>& options);

void add_instance_exchange_commands(CLI::App& instance, Session& session,
                                    const std::shared_ptr<InstanceOptions>& options);
void add_instance_task_commands(CLI::App& instance, Session& session,
                                const std::shared_ptr<InstanceOptions>& options);

}  // namespace keyagent::cli
