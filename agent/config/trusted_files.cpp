// SPDX-License-Identifier: Apache-2.0
#include "agent/config/trusted_files.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "agent/base/disk.h"
#include "agent/base/error.h"
#include "agent/base/trusted_path.h"
#include "pkcs11/error.h"

namespace keyagent::config {
namespace {

using std::filesystem::path;

constexpr std::size_t kMaxProfile = 64 * 1024;  // as pkcs11/profile.h

std::string with_state(std::string value, const path& state_folder) {
  const std::string variable = "${state}";
  for (auto at = value.find(variable); at != std::string::npos; at = value.find(variable))
    value.replace(at, variable.size(), state_folder.string());
  return value;
}

// Devices and sockets have their own owners (/dev/tpmrm0 is tss's).
bool is_file_or_folder(const path& name) {
  struct stat status {};
  return ::stat(name.c_str(), &status) == 0 && (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode));
}

// A shared folder such as /tmp decides nothing.
bool is_shared_folder(const struct stat& status) {
  return S_ISDIR(status.st_mode) && (status.st_mode & S_ISVTX) != 0;
}

class FileCheck {
 public:
  explicit FileCheck(uid_t agent) : agent_(agent) {}

  void check(const DecidingFile& each) {
    try {
      const auto walked = walk_path(each.file, agent_);
      struct stat status {};
      if (!walked.file.valid() || ::fstat(walked.file.get(), &status) != 0) return missing(each);
      for (const auto& fault : walked.faults)
        add(fault, each.what + " could be replaced: " + fault.where.string());
      if (is_shared_folder(status)) return;
      for (const auto& fault : file_faults(walked.path, status, agent_)) add(fault, each.what);
    } catch (const Error&) {
      missing(each);
    }
  }
  std::vector<ConfigFinding> take() { return std::move(findings_); }

 private:
  void missing(const DecidingFile& each) {
    findings_.push_back(make_config_finding(finding_kind("file-missing"), each.file.string(),
                                            each.what + " does not exist"));
  }
  // A folder above several files is named once.
  void add(const PathFault& fault, const std::string& what) {
    const bool known = std::any_of(findings_.begin(), findings_.end(), [&](const auto& each) {
      return each.where == fault.where.string() && each.cure == fault.cure;
    });
    if (!known)
      findings_.push_back({"error", fault.where.string(), what + " " + fault.text, fault.cure,
                           std::string(fault.kind->id), fault.commands});
  }

  const uid_t agent_;
  std::vector<ConfigFinding> findings_;
};

}  // namespace

ConfigFinding make_config_finding(const FindingKind& kind, const std::string& where,
                                  const std::string& text, FixValues values) {
  auto cure = fix_of(kind, values);
  return {std::string(kind.severity), where, text, std::move(cure.text), std::string(kind.id),
          std::move(cure.commands)};
}

std::vector<ConfigFinding> check_environment(const pkcs11::Profile& profile,
                                             const path& state_folder) {
  const auto given = profile.environment.find("SOFTHSM2_CONF");
  if (given == profile.environment.end()) return {};
  const std::string file = with_state(given->second, state_folder);
  std::error_code error;
  if (std::filesystem::exists(file, error) || error) return {};
  // Before the first start there is no folder either.
  if (!std::filesystem::exists(path(file).parent_path(), error)) return {};
  return {
      make_config_finding(finding_kind("softhsm-conf-missing"), file,
                          "what SOFTHSM2_CONF of the profile names does not exist: SoftHSM2 has "
                          "no token without it",
                          {{"file", file}})};
}

std::vector<DecidingFile> files_of_profile(const path& profile_path, const pkcs11::Profile& profile,
                                           const path& state_folder) {
  std::vector<DecidingFile> files{{profile_path, "the profile"}};
  const auto module = std::find_if(profile.modules.begin(), profile.modules.end(),
                                   [](const path& file) { return std::filesystem::exists(file); });
  if (module != profile.modules.end()) files.push_back({*module, "the PKCS#11 module"});
  for (const auto& [name, pattern] : profile.environment) {
    const std::string value = with_state(pattern, state_folder);
    if (value.starts_with('/') && is_file_or_folder(value))
      files.push_back({value, "what " + name + " of the profile names"});
  }
  return files;
}

std::vector<DecidingFile> deciding_files(const AgentConfig& config) {
  std::vector<DecidingFile> files{{config.source, "the configuration"},
                                  {config.policy, "the policy"}};
  for (auto& each : files_of_profile(config.profile_path, config.profile, config.state_folder))
    files.push_back(std::move(each));
  if (!config.rekey.hook.empty()) files.push_back({config.rekey.hook, "the rekey hook"});
  if (config.ssh && !config.ssh->confirm.program.empty())
    files.push_back({config.ssh->confirm.program, "the program of ssh.confirm"});
  return files;
}

std::vector<ConfigFinding> check_files(const std::vector<DecidingFile>& files, uid_t agent) {
  FileCheck check(agent);
  for (const auto& each : files) check.check(each);
  return check.take();
}

void require_files(const std::vector<DecidingFile>& files) {
  const auto findings = check_files(files, ::geteuid());
  if (findings.empty()) return;
  const auto& first = findings.front();
  throw Error(Code::kConfiguration, first.where + ": " + first.text + "; " + first.cure);
}

pkcs11::Profile load_trusted_profile(const path& file) {
  const Bytes text = read_trusted_file(file, kMaxProfile);
  try {
    return pkcs11::parse_profile(as_text(text), file.stem().string());
  } catch (const pkcs11::Error& error) {
    throw Error(Code::kConfiguration, error.what());
  }
}

}  // namespace keyagent::config
