// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "agent/base/disk.h"
#include "agent/base/error.h"
#include "agent/base/secret_text.h"
#include "agent/base/trusted_path.h"
#include "agent/config/config.h"
#include "agent/config/trusted_files.h"
#include "agent/policy/policy.h"

namespace keyagent::config {
namespace {

using std::filesystem::path;

class Check {
 public:
  void add(const FindingKind& kind, const path& where, const std::string& text,
           FixValues values = {}) {
    findings_.push_back(make_config_finding(kind, where.string(), text, values));
  }

  // The user that the agent runs as: the caller, or for root the owner of the state folder. Before
  // the agent's first start, root cannot determine it.
  void set_agent(const path& state_folder) {
    struct stat info {};
    if (::geteuid() != 0) return;
    known_ = ::stat(state_folder.c_str(), &info) == 0;
    if (known_) agent_ = info.st_uid;
  }

  void owner(const path& file, const struct stat& info, const std::string& what) {
    if (info.st_uid == 0 || info.st_uid == agent_) return;
    if (!known_) return add_unknown(file, what + " belongs to uid " + std::to_string(info.st_uid));
    add(finding_kind("file-owner"), file,
        what + " belongs to uid " + std::to_string(info.st_uid) + ", who could change it",
        {{"link", ""}, {"uid", std::to_string(agent_)}, {"path", file.string()}});
  }

  void trusted_files(const std::vector<DecidingFile>& files) {
    for (auto& each : check_files(files, agent_)) add_fault(std::move(each));
  }

  void secret_file(const path& file, const std::string& what) {
    struct stat info {};
    if (::lstat(file.c_str(), &info) != 0)
      return add(finding_kind("pin-file-missing"), file, what + " does not exist",
                 {{"path", file.string()}});
    if (!S_ISREG(info.st_mode))
      return add(finding_kind("pin-file-kind"), file, what + " is not a regular file");
    // Its mode is checked below.
    for (auto& each : check_files({{file, what}}, agent_)) {
      if (each.where != file.string() || each.cure.starts_with("chown")) add_fault(std::move(each));
    }
    if ((info.st_mode & (S_IRWXG | S_IRWXO)) != 0)
      add(finding_kind("pin-file-mode"), file, what + " is readable by others",
          {{"path", file.string()}});
    secret_form(file, what);
  }

  // The same reader as the agent's, where this user may read the file: no try of the token is spent
  // on a line end of Windows.
  void secret_form(const path& file, const std::string& what) {
    const Fd fd(::open(file.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (!fd.valid()) return;
    SecretBytes text(4096);
    const ssize_t size = ::read(fd.get(), text.data(), text.size());
    text.resize(static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
    try {
      secret_text(std::move(text), what);
    } catch (const Error& error) {
      const std::string text = error.what();
      const auto end = text.find("; ");
      add(finding_kind("pin-file-form"), file, text.substr(0, end), {{"path", file.string()}});
    }
  }

  // A folder that does not exist yet is made by the agent.
  void private_folder(const path& folder, const std::string& what, mode_t forbidden,
                      const FindingKind& kind) {
    struct stat info {};
    if (::lstat(folder.c_str(), &info) != 0) return;
    if (!S_ISDIR(info.st_mode))
      return add(finding_kind("folder-kind"), folder, what + " is not a folder");
    if ((info.st_mode & S_ISVTX) != 0 && (info.st_mode & S_IWOTH) != 0)
      return add(finding_kind("folder-shared"), folder, what + " is shared by all users");
    owner(folder, info, what);
    if ((info.st_mode & forbidden) != 0)
      add(kind, folder, what + " is open to others", {{"path", folder.string()}});
  }

  void module_file(const AgentConfig& config) {
    const auto& modules = config.profile.modules;
    const bool there = std::any_of(modules.begin(), modules.end(),
                                   [](const path& file) { return std::filesystem::exists(file); });
    if (there) return;  // checked among the profile's files
    add(finding_kind("module-missing"), modules.front(),
        "the PKCS#11 module of profile '" + config.profile.name + "' is not installed");
  }

  // Who can exchange the folder can exchange the ledger in it.
  void folders_above(const path& folder, const std::string& what) {
    try {
      for (const auto& fault : walk_path(folder, agent_).faults)
        add_fault({"error", fault.where.string(),
                   what + " could be replaced: " + fault.where.string() + " " + fault.text,
                   fault.cure, std::string(fault.kind->id), fault.commands});
    } catch (const Error&) {
      // Not there yet: the agent makes it.
    }
  }

  void environment(const AgentConfig& config) {
    for (auto& each : check_environment(config.profile, config.state_folder))
      add_once(std::move(each));
  }

  std::vector<ConfigFinding> take() { return std::move(findings_); }

 private:
  // Right when the agent runs as that user, wrong for anybody else.
  void add_unknown(const path& where, const std::string& text) {
    add_once(make_config_finding(
        finding_kind("file-owner-unknown"), where.string(),
        text + "; whether the agent runs as that user is not known before its first start",
        {{"path", where.string()}}));
  }
  void add_fault(ConfigFinding finding) {
    if (known_ || !finding.cure.starts_with("chown")) return add_once(std::move(finding));
    add_unknown(finding.where, finding.text);
  }
  void add_once(ConfigFinding finding) {
    const bool known = std::any_of(findings_.begin(), findings_.end(), [&](const auto& each) {
      return each.where == finding.where && each.cure == finding.cure;
    });
    if (!known) findings_.push_back(std::move(finding));
  }

  uid_t agent_ = ::geteuid();
  bool known_ = true;  // agent_ is the agent's user, not only a guess
  std::vector<ConfigFinding> findings_;
};

void check_pin(Check& check, const AgentConfig& config) {
  if (config.pin.kind == PinFrom::Kind::kFile) check.secret_file(config.pin.value, "the PIN file");
  if (config.pin.kind == PinFrom::Kind::kPrompt) {
    check.add(finding_kind("pin-prompted"), config.source,
              "the PIN is prompted for at each start: the agent cannot restart unattended");
  }
}

void check_rules(Check& check, const path& file, const policy::Policy& policy) {
  if (policy.rules.empty())
    check.add(finding_kind("policy-empty"), file, "the policy has no rules: everything is denied");
  for (const auto& rule : policy.rules) {
    const bool uses = rule.actions.contains(policy::Action::kOpen) ||
                      rule.actions.contains(policy::Action::kSign);
    if (rule.allow && rule.anyone && uses) {
      check.add(finding_kind("policy-anyone"), rule.where,
                "rule '" + rule.name + "' lets every user of the host use keys");
    }
    if (rule.allow && rule.actions.contains(policy::Action::kWork) && !rule.names_credentials) {
      check.add(finding_kind("policy-no-credentials"), rule.where,
                "rule '" + rule.name +
                    "' allows work and names no credentials: a task of its handlers that names a "
                    "credential fails");
    }
  }
}

void check_policy(Check& check, const AgentConfig& config) {
  if (!std::filesystem::exists(config.policy)) return;  // reported with the other files
  try {
    const Bytes text = read_file(config.policy);
    check_rules(check, config.policy, *policy::parse_policy(as_text(text), config.policy.string()));
  } catch (const Error& error) {
    check.add(finding_kind("policy-invalid"), config.policy, error.what());
  }
}

void check_group(Check& check, const AgentConfig& config, const std::string& name) {
  if (name.empty()) return;
  std::vector<char> buffer(16384);
  group entry{};
  group* found = nullptr;
  ::getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
  if (found == nullptr)
    check.add(finding_kind("group-missing"), config.source, "this host has no group '" + name + "'",
              {{"group", name}});
}

// One that the agent runs; its owner and mode are checked with the other files.
void check_program(Check& check, const path& program, const std::string& what) {
  if (program.empty() || !std::filesystem::exists(program)) return;
  if (::access(program.c_str(), X_OK) != 0)
    check.add(finding_kind("program-mode"), program, what + " cannot be executed",
              {{"path", program.string()}});
}

void check_confirm(Check& check, const AgentConfig& config) {
  const SshConfirm& confirm = config.ssh->confirm;
  check_program(check, confirm.program, "the program of ssh.confirm");
  if (!confirm.keys.empty() && confirm.program.empty()) {
    check.add(finding_kind("confirm-without-program"), config.source,
              "ssh.confirm lists keys but no program: these keys sign nothing on the ssh socket");
  }
}

void check_ssh(Check& check, const AgentConfig& config) {
  if (!config.ssh) return;
  check.private_folder(config.ssh->path.parent_path(), "the ssh socket's folder", S_IWGRP | S_IWOTH,
                       finding_kind("file-mode"));
  check_group(check, config, config.ssh->group);
  check_confirm(check, config);
  if ((config.ssh->mode & 0002) != 0) {
    check.add(finding_kind("ssh-socket-open"), config.source,
              "the ssh socket is open to every user; only the policy protects the keys");
  }
}

// A key that waits for a person must not stop without warning.
void check_grace(Check& check, const AgentConfig& config) {
  const auto warn = [&](const std::string& where) {
    check.add(finding_kind("no-grace"), config.source,
              where +
                  " is 0s: a key whose rekey fails or waits for an operator neither signs nor "
                  "seals after the end of its cryptoperiod");
  };
  if (config.rekey.grace.count() == 0) warn("rekey.grace");
  for (const auto& [purpose, period] : config.rekey.purposes) {
    if (period.grace && period.grace->count() == 0)
      warn("rekey.purposes." + std::string(name_of(purpose)) + ".grace");
  }
  for (const auto& [name, period] : config.rekey.keys) {
    if (period.grace && period.grace->count() == 0) warn("rekey.keys." + name + ".grace");
  }
}

void check_settings(Check& check, const AgentConfig& config) {
  if (!config.profile.tested) {
    check.add(finding_kind("profile-untested"), config.profile_path,
              "profile '" + config.profile.name + "' comes from documentation and is not tested",
              {{"profile", config.profile.name}});
  }
  if ((config.socket_mode & 0002) != 0) {
    check.add(finding_kind("socket-open"), config.source,
              "the socket is open to every user; only the policy protects the keys");
  }
  if (config.connections_per_uid > config.connections) {
    check.add(finding_kind("connections-per-uid"), config.source,
              "limits.connections-per-uid is greater than limits.connections: one user could use "
              "all connections",
              {{"connections", std::to_string(config.connections)}});
  }
  if (config.stuck_exit < config.profile.deadline) {
    check.add(
        finding_kind("stuck-exit"), config.source,
        "token.stuck-exit is shorter than one operation may take: the agent would exit during "
        "a working operation",
        {{"deadline", std::to_string(config.profile.deadline.count())}});
  }
}

}  // namespace

std::vector<ConfigFinding> check_config(const path& source) {
  Check check;
  try {
    // Read without the loader's checks, so that one insecure mode does not hide the other findings.
    const Bytes text = read_file(source);
    const AgentConfig config =
        parse_config(as_text(text), std::filesystem::absolute(source).string());
    check.set_agent(config.state_folder);
    check.trusted_files(deciding_files(config));
    check.folders_above(config.state_folder, "the state folder");
    check_pin(check, config);
    check_policy(check, config);
    check.private_folder(config.state_folder, "the state folder", S_IRWXG | S_IRWXO,
                         finding_kind("folder-private"));
    check.private_folder(config.audit_folder, "the audit folder", S_IWGRP | S_IRWXO,
                         finding_kind("folder-private"));
    check.private_folder(config.socket.parent_path(), "the socket's folder", S_IWGRP | S_IWOTH,
                         finding_kind("file-mode"));
    check_group(check, config, config.socket_group);
    check_ssh(check, config);
    check.module_file(config);
    check.environment(config);
    check_settings(check, config);
    check_grace(check, config);
    check_program(check, config.rekey.hook, "the rekey hook");
  } catch (const Error& error) {
    check.add(finding_kind("config-invalid"), source, error.what());
  }
  return check.take();
}

}  // namespace keyagent::config
