// SPDX-License-Identifier: Apache-2.0
#pragma once
// The steps of keyagent setup: each changes nothing that exists, so that all can be repeated.

#include <filesystem>
#include <string>
#include <vector>

#include "agent/process/supervisor.h"

namespace keyagent::cli {

// The label of the token that a configuration names; empty: there is no such file.
std::string label_of(const std::filesystem::path& config);

struct SetupPlan {
  std::string label, profile;
  std::vector<std::string> owners;  // names or uids of users of this host; at least one
  std::filesystem::path state;      // empty: the unit keyagentd@LABEL

  bool is_unit() const { return state.empty(); }
  std::filesystem::path config() const;
  std::filesystem::path policy() const;
  std::filesystem::path state_folder() const;
  std::filesystem::path socket() const;
};

// Throws Error{kUsage}: a unit needs root.
void require_right_user(const SetupPlan& plan);
// Refuses what cannot work before anything is created: Error{kConfiguration} for a missing module
// (with its package), or an agent of this name with another profile.
void require_possible(const SetupPlan& plan);

// Runs provision-token; returns what it created, empty: everything existed. Throws the Error of
// what it refused, and Error{kConfiguration} when `config check` finds an error in the result.
std::string provision(process::Supervisor& supervisor, const SetupPlan& plan);

// Adds the owners to the group that may connect. Returns those that were not in it.
std::vector<std::string> add_to_group(process::Supervisor& supervisor, const SetupPlan& plan);

bool systemd_runs();
// Enables socket and service, and starts them where systemd runs. Throws Error{kPeer} with the
// service's last messages.
void start_units(process::Supervisor& supervisor, const SetupPlan& plan);

// Signs and opens as the first owner; starts and ends an agent if there is no unit and none runs.
// Throws the Error of what failed.
void test_agent(process::Supervisor& supervisor, const SetupPlan& plan);

}  // namespace keyagent::cli
