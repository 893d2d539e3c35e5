// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/owner_marker.h"

#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <sstream>

#include "agent/base/error.h"
#include "agent/base/log.h"

namespace keyagent::daemon {
namespace {

constexpr const char* kOwnerFact = "owner";

std::string first_line(const std::filesystem::path& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

// proc(5): the second field may hold blanks, so count from the last ')'.
unsigned long long start_time(int pid) {
  const std::string stat = first_line("/proc/" + std::to_string(pid) + "/stat");
  const auto at = stat.rfind(')');
  if (at == std::string::npos) return 0;
  std::istringstream fields(stat.substr(at + 1));
  std::string field;
  for (int i = 0; i < 20 && fields >> field; ++i) {
  }
  return field.empty() ? 0 : std::stoull(field);
}

}  // namespace

Owner Owner::self(const std::filesystem::path& state_folder) {
  Owner owner;
  owner.machine = first_line("/etc/machine-id");
  if (owner.machine.empty()) owner.machine = "unknown";
  owner.boot = first_line("/proc/sys/kernel/random/boot_id");
  if (owner.boot.empty()) owner.boot = "unknown";  // ProcSubset=pid hides it
  owner.pid = ::getpid();
  owner.started = start_time(owner.pid);
  owner.state_folder = state_folder.string();
  return owner;
}

std::string Owner::text() const {
  return "keyagent-owner-v1 " + machine + " " + boot + " " + std::to_string(pid) + " " +
         std::to_string(started) + " " + state_folder;
}

std::optional<Owner> Owner::parse(const std::string& text) {
  std::istringstream in(text);
  std::string version;
  Owner owner;
  in >> version >> owner.machine >> owner.boot >> owner.pid >> owner.started;
  if (!in || version != "keyagent-owner-v1") return std::nullopt;
  in.get();
  std::getline(in, owner.state_folder);
  return owner;
}

bool Owner::alive() const {
  const Owner here = self({});
  if (machine != here.machine) return true;
  if (boot != here.boot || pid <= 0) return false;
  const auto running_since = start_time(pid);
  // ProtectProc=invisible hides an agent that is there: then it counts as the one that we look for.
  if (running_since == 0) return ::kill(pid, 0) == 0 || errno == EPERM;
  return running_since == started;
}

bool claim_token(vault::TokenVault& vault, const Owner& self, bool take_over) {
  const auto marked = vault.read_fact(kOwnerFact);
  const auto owner = marked ? Owner::parse(*marked) : std::nullopt;
  const bool ours = owner && owner->text() == self.text();
  if (owner && !ours && owner->alive() && !take_over) {
    const bool here = owner->machine == Owner::self({}).machine;
    throw Error(Code::kBusy,
                "another agent uses this token: pid " + std::to_string(owner->pid) +
                    (here ? "" : " on machine " + owner->machine) + ", state folder " +
                    owner->state_folder +
                    (here ? "; stop it first"
                          : "; stop it, or set token.take-over if that machine no longer exists"));
  }
  if (ours) return true;
  try {
    vault.write_fact(kOwnerFact, self.text());
  } catch (const Error& error) {
    // A token whose files cannot be written still signs and opens; no agent that is alive has it.
    if (error.code() != Code::kTokenFull) throw;
    log_warning("daemon", std::string("the token takes no owner marker now: ") + error.what());
    return false;
  }
  // Of two that start at once the later writer has it.
  if (vault.keeps_facts() && vault.read_fact(kOwnerFact) != self.text())
    throw Error(Code::kBusy, "another agent took this token at the same moment; start again");
  return true;
}

void release_token(vault::TokenVault& vault) {
  try {
    vault.erase_fact(kOwnerFact);
  } catch (const Error& error) {
    log_info("daemon", std::string("the owner marker stays in the token: ") + error.what());
  }
}

}  // namespace keyagent::daemon
