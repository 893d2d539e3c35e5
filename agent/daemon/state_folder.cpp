// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/state_folder.h"

#include "agent/base/error.h"
#include "agent/base/log.h"

namespace keyagent::daemon {
namespace {

std::filesystem::path made(const std::filesystem::path& folder) {
  make_private_folder(folder);
  return folder;
}

}  // namespace

StateFolder::StateFolder(std::filesystem::path folder)
    : folder_(made(folder)), lock_(folder_ / "agent.lock") {
  poll();
}

void StateFolder::poll() {
  std::string why = why_unwritable(folder_);
  if (why.empty()) why = why_unwritable(folder_ / "ledger.db");
  const MutexLock guard(mutex_);
  bool held = false;
  if (why.empty()) {
    try {
      lock_.make_exclusive();
    } catch (const Error& error) {
      why = error.what();
      held = true;
    }
  }
  if (why == why_) return;
  if (why.empty()) {
    log_info("daemon", "the state folder can be written: changes are carried out");
  } else {
    log_error("daemon", "the state folder " + folder_.string() + " cannot be " +
                            (held ? "locked: " : "written: ") + why +
                            "; keys are used, nothing is changed");
  }
  why_ = std::move(why);
  held_ = held;
}

std::string StateFolder::use_only() const {
  const MutexLock guard(mutex_);
  if (why_.empty()) return {};
  if (held_)
    return "nothing is changed: the state folder " + folder_.string() +
           " cannot be locked: " + why_ + "; the agent resumes without a restart";
  return "nothing is changed: the state folder " + folder_.string() +
         " cannot be written: " + why_ +
         "; make it writable for the agent's user (a read-only mount: mount -o remount,rw), the "
         "agent resumes without a restart";
}

}  // namespace keyagent::daemon
