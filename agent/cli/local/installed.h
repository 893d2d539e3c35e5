// SPDX-License-Identifier: Apache-2.0
#pragma once
// Where the other parts of this installation, or of this build, are.

#include <filesystem>
#include <string>

namespace keyagent::cli {

// The file of a profile, by its name or by a path with a slash. Throws Error{kUsage}: there is
// none.
std::filesystem::path find_profile(const std::string& name);

// Parts that belong to this program's file: those beside it first, so that a build does not use
// what is installed. All throw Error{kConfiguration} for a file that another user could replace,
// the programs also where they are missing.
std::filesystem::path this_program();
std::filesystem::path daemon_program();
std::filesystem::path provision_program();
std::filesystem::path provider_module();  // empty: not installed

}  // namespace keyagent::cli
