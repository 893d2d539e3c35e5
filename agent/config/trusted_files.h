// SPDX-License-Identifier: Apache-2.0
#pragma once
// Which files decide what the agent does, and whether another user could change one (RELIABILITY
// 162): who controls the profile or the module is given the PIN.

#include <filesystem>
#include <string>
#include <vector>

#include "agent/config/config.h"

namespace keyagent::config {

struct DecidingFile {
  std::filesystem::path file;
  std::string what;  // "the policy": begins the text of a finding
};

// The profile itself, the module that it would load, and every file and folder that its environment
// names ("${state}" is `state_folder`). What does not exist is left out.
std::vector<DecidingFile> files_of_profile(const std::filesystem::path& profile_path,
                                           const pkcs11::Profile& profile,
                                           const std::filesystem::path& state_folder);
// All that a configuration names: itself, the policy, the profile's files, the programs that the
// agent runs.
std::vector<DecidingFile> deciding_files(const AgentConfig& config);

// An error for each owner and mode that lets another user than root and `agent` change the file, a
// folder above it, or a symbolic link on the way; each folder once. A missing file is an error too.
std::vector<ConfigFinding> check_files(const std::vector<DecidingFile>& files, uid_t agent);
// A warning when the profile names a softhsm2.conf that is not there.
std::vector<ConfigFinding> check_environment(const pkcs11::Profile& profile,
                                             const std::filesystem::path& state_folder);
// Throws Error{kConfiguration} with the first one, for this process's user.
void require_files(const std::vector<DecidingFile>& files);

// Reads the profile through the descriptor that was checked (base/trusted_path.h). Throws
// Error{kConfiguration}.
pkcs11::Profile load_trusted_profile(const std::filesystem::path& path);

}  // namespace keyagent::config
