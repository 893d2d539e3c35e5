// SPDX-License-Identifier: Apache-2.0
#include "agent/cli/local/installed.h"

#include <vector>

#include "agent/base/error.h"
#include "agent/base/trusted_path.h"

namespace keyagent::cli {
namespace {

using std::filesystem::path;

// The first that exists; root runs these programs, so no other user may be able to replace it.
path first_of(const std::vector<path>& candidates) {
  std::error_code absent;
  for (const auto& each : candidates) {
    if (!std::filesystem::is_regular_file(each, absent)) continue;
    const path file = each.lexically_normal();
    require_trusted(file);
    return file;
  }
  return {};
}

path part(const std::string& name, const std::vector<path>& candidates) {
  auto found = first_of(candidates);
  if (found.empty())
    throw Error(Code::kConfiguration,
                name + " is missing (searched: " + candidates.front().lexically_normal().string() +
                    " and " + candidates.back().string() + "); install the package keyagent again");
  return found;
}

path own_folder() {
  return this_program().parent_path();
}

}  // namespace

path find_profile(const std::string& name) {
  if (name.find('/') != std::string::npos) return std::filesystem::absolute(name);
  for (const char* each : {KEYAGENT_PROFILES, KEYAGENT_SOURCE_PROFILES}) {
    const auto candidate = path(each) / (name + ".yml");
    if (std::filesystem::exists(candidate)) return candidate;
  }
  throw Error(Code::kUsage,
              "no profile '" + name + "'; give a file name, or one of those in " KEYAGENT_PROFILES);
}

path this_program() {
  return std::filesystem::read_symlink("/proc/self/exe");
}

// Beside it: /usr/bin has the installed ones, agent/cli those of a build.
path daemon_program() {
  return part("keyagentd",
              {own_folder() / "../sbin/keyagentd", own_folder() / "../daemon/keyagentd",
               own_folder() / "keyagentd", KEYAGENT_SBIN "/keyagentd"});
}

path provision_program() {
  return part("keyagent-provision-token",
              {own_folder() / "keyagent-provision-token", own_folder() / "provision-token",
               KEYAGENT_BIN "/keyagent-provision-token"});
}

path provider_module() {
  return first_of({own_folder() / "../provider/keyagent.so", KEYAGENT_OSSL_MODULES "/keyagent.so"});
}

}  // namespace keyagent::cli
