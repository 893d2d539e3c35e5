// SPDX-License-Identifier: Apache-2.0
#include "agent/cli/local/setup.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "agent/base/disk.h"
#include "agent/base/error.h"
#include "agent/cli/cli.h"
#include "agent/cli/local/installed.h"
#include "agent/cli/local/private_agent.h"
#include "agent/cli/local/self_test.h"
#include "agent/config/config.h"
#include "agent/config/trusted_files.h"
#include "agent/process/confined.h"

namespace keyagent::cli {
namespace {

using std::chrono::milliseconds;
using std::filesystem::path;

constexpr const char *kGroup = "keyagent-users", *kConfigFolder = "/etc/keyagent";
constexpr const char* kAdminPath = "/usr/sbin:/usr/bin:/sbin:/bin";

struct Ended {
  int status = 0;
  std::string output;  // standard output and error
};

// Runs a program of the host to its end.
Ended run_to_end(process::Supervisor& supervisor, const std::vector<std::string>& command) {
  process::Child child;
  child.program = process::find_program(command.front(), kAdminPath, nullptr);
  if (child.program.empty()) return {127, command.front() + " is not installed\n"};
  child.arguments = command;
  child.environment = own_environment();
  const Fd output(::memfd_create("output", MFD_CLOEXEC));
  child.output = output.get();
  Ended ended;
  ended.status = supervisor.wait_for(supervisor.start(child));
  require_uninterrupted(supervisor);
  char buffer[4096];
  ssize_t count = 0;
  for (off_t at = 0; (count = ::pread(output.get(), buffer, sizeof buffer, at)) > 0; at += count)
    ended.output.append(buffer, static_cast<std::size_t>(count));
  return ended;
}

// Its last line without the end.
std::string last_line(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text.substr(text.rfind('\n') + 1);
}

void require_module_of(const SetupPlan& plan) {
  const auto file = find_profile(plan.profile);
  const auto profile = config::load_trusted_profile(file);
  const bool found = std::any_of(profile.modules.begin(), profile.modules.end(),
                                 [](const path& each) { return std::filesystem::exists(each); });
  if (found) return;
  const std::string package =
      profile.name == "softhsm2" ? "install it: apt-get install softhsm2"
      : profile.name == "tpm2"
          ? "install it: apt-get install libtpm2-pkcs11-1 libtpm2-pkcs11-tools"
          : "install the module of the token's vendor, or correct 'modules' in a copy of " +
                file.string();
  throw Error(Code::kConfiguration, "the PKCS#11 module of profile '" + profile.name +
                                        "' is not installed (searched: " +
                                        profile.modules.front().string() + "); " + package);
}

void require_same_profile(const SetupPlan& plan) {
  if (!std::filesystem::exists(plan.config())) return;
  const Bytes text = read_file(plan.config());
  const auto config = config::parse_config(as_text(text), plan.config().string());
  if (config.profile.name == path(plan.profile).stem()) return;
  throw Error(Code::kConfiguration, "agent '" + plan.label + "' exists with profile '" +
                                        config.profile.name + "' (" + plan.config().string() +
                                        "), which is not changed; choose another --label");
}

bool is_number(const std::string& text) {
  unsigned value = 0;
  const auto end = text.data() + text.size();
  return std::from_chars(text.data(), end, value).ptr == end && !text.empty();
}

// Its own lines, without their prefix; the first may be of a program that it ran.
[[noreturn]] void fail_provisioning(const Ended& ended) {
  const std::string prefix = "provision-token: ";
  std::string text = ended.output;
  for (auto at = text.find(prefix); at != text.npos; at = text.find(prefix, at))
    text.erase(at, prefix.size());
  while (!text.empty() && text.back() == '\n') text.pop_back();
  throw Error(ended.status == 2 ? Code::kConfiguration : Code::kTokenFault, text);
}

void require_valid(const SetupPlan& plan) {
  for (const auto& finding : config::check_config(plan.config())) {
    if (finding.severity == "error")
      throw Error(Code::kConfiguration, finding.where + ": " + finding.text + "; " + finding.cure);
  }
}

}  // namespace

path SetupPlan::config() const {
  return is_unit() ? path(kConfigFolder) / (label + ".yml") : state / "keyagentd.yml";
}
path SetupPlan::policy() const {
  return is_unit() ? path(kConfigFolder) / (label + "-policy.yml") : state / "policy.yml";
}
path SetupPlan::state_folder() const {
  return is_unit() ? path("/var/lib/keyagent") / label : state;
}
path SetupPlan::socket() const {
  return is_unit() ? path("/run/keyagent") / (label + ".sock") : state / "run/agent.sock";
}

std::string label_of(const path& config) {
  if (!std::filesystem::exists(config)) return {};
  const Bytes text = read_file(config);
  return config::parse_config(as_text(text), config.string()).token_label;
}

void require_right_user(const SetupPlan& plan) {
  if (plan.is_unit() && ::geteuid() != 0)
    throw Error(Code::kUsage,
                "the agent of a host is set up by root: sudo keyagent setup; for a private agent: "
                "keyagent setup --state FOLDER");
}

void require_possible(const SetupPlan& plan) {
  require_module_of(plan);
  require_same_profile(plan);
}

std::string provision(process::Supervisor& supervisor, const SetupPlan& plan) {
  std::vector<std::string> command{provision_program().string(), "--label", plan.label};
  const auto add = [&](const std::string& option, const std::string& value) {
    command.insert(command.end(), {option, value});
  };
  if (plan.is_unit()) command.emplace_back("--unit");
  if (!plan.is_unit()) add("--state", plan.state.string());
  add("--profile", plan.profile);
  add("--keyagent", this_program().string());
  for (const auto& owner : plan.owners) add("--owner", owner);
  const Ended ended = run_to_end(supervisor, command);
  if (ended.status != 0) fail_provisioning(ended);
  require_valid(plan);
  const std::string mark = "created: ";
  const auto at = ended.output.find(mark);
  if (at == std::string::npos) return {};
  const auto from = at + mark.size();
  return ended.output.substr(from, ended.output.find('\n', from) - from);
}

std::vector<std::string> add_to_group(process::Supervisor& supervisor, const SetupPlan& plan) {
  std::vector<std::string> added;
  for (const auto& owner : plan.owners) {
    if (is_number(owner) || owner == "root") continue;
    const auto groups = " " + last_line(run_to_end(supervisor, {"id", "-nG", owner}).output) + " ";
    if (groups.find(std::string(" ") + kGroup + " ") != std::string::npos) continue;
    const Ended ended = run_to_end(supervisor, {"usermod", "--append", "--groups", kGroup, owner});
    if (ended.status != 0)
      throw Error(Code::kConfiguration, owner + " cannot be added to the group " + kGroup + ": " +
                                            last_line(ended.output));
    added.push_back(owner);
  }
  return added;
}

bool systemd_runs() {
  return std::filesystem::exists("/run/systemd/system");
}

namespace {

// The unit's sandbox has no devices.
void let_unit_use_tpm(process::Supervisor& supervisor, const SetupPlan& plan) {
  const path folder = path("/etc/systemd/system") / ("keyagentd@" + plan.label + ".service.d"),
             file = folder / "tpm.conf";
  if (path(plan.profile).stem() != "tpm2" || std::filesystem::exists(file)) return;
  std::filesystem::create_directories(folder);
  replace_file(file,
               as_bytes("# Made by keyagent setup: the agent's token is the TPM.\n[Service]\n"
                        "PrivateDevices=no\nDeviceAllow=/dev/tpmrm0 rw\nSupplementaryGroups=tss\n"),
               0644);
  if (systemd_runs()) run_to_end(supervisor, {"systemctl", "daemon-reload"});
}

}  // namespace

void start_units(process::Supervisor& supervisor, const SetupPlan& plan) {
  let_unit_use_tpm(supervisor, plan);
  const std::string unit = "keyagentd@" + plan.label;
  std::vector<std::string> command{"systemctl", "enable", "--quiet"};
  if (systemd_runs()) command.emplace_back("--now");
  command.insert(command.end(), {unit + ".socket", unit + ".service"});
  const Ended ended = run_to_end(supervisor, command);
  // Without systemd (a container) there may be nothing that enables them.
  if (ended.status == 0 || !systemd_runs()) return;
  const Ended log = run_to_end(supervisor, {"journalctl", "--no-pager", "--lines=10",
                                            "--output=cat", "--unit", unit + ".service"});
  throw Error(Code::kPeer, unit + ".service does not start: " + last_line(ended.output) +
                               "; its last messages:\n" + log.output);
}

void test_agent(process::Supervisor& supervisor, const SetupPlan& plan) {
  pid_t agent = 0;
  Session session;
  session.globals.socket = plan.socket().string();
  if (!plan.is_unit()) {
    wire::Request request;
    request.mutable_status();
    try {
      client::Client({plan.socket(), milliseconds(2000)}).call(request);
    } catch (const Error&) {
      agent = start_agent(supervisor, {plan.config(), plan.socket(), plan.state / "setup.log"});
    }
    self_test(session);
    if (agent > 0) supervisor.stop(agent, kAgentEnd);
    if (agent > 0) remove_file(plan.state / "setup.log");
    return;
  }
  // As the user that the policy names, with the groups that it has now.
  std::vector<std::string> command;
  const std::string& owner = plan.owners.front();
  if (is_number(owner)) {
    command = {"setpriv", "--reuid", owner, "--regid", owner, "--clear-groups"};
  } else {
    command = {
        "setpriv",      "--reuid", owner, "--regid", std::to_string(process::user_of(owner).gid),
        "--init-groups"};
  }
  command.insert(command.end(), {"--", this_program().string(), "--socket", plan.socket().string(),
                                 "setup", "--only-self-test"});
  const Ended ended = run_to_end(supervisor, command);
  if (ended.status == 0) return;
  std::string text = last_line(ended.output);
  if (text.starts_with("keyagent: ")) text = text.substr(10);
  throw Error(ended.status == 3 ? Code::kDenied : Code::kTokenFault,
              "the self-test as " + owner + " failed: " + text);
}

}  // namespace keyagent::cli
