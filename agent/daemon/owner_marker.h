// SPDX-License-Identifier: Apache-2.0
#pragma once
// One agent per token: an object in the token names the agent that uses it (RELIABILITY 85).

#include <filesystem>
#include <string>

#include "agent/vault/token_vault.h"

namespace keyagent::daemon {

// Who we are: machine, boot, pid and its start time, state folder, as one line.
struct Owner {
  std::string machine, boot;
  int pid = 0;
  unsigned long long started = 0;  // clock ticks after boot (proc(5), stat field 22)
  std::string state_folder;

  static Owner self(const std::filesystem::path& state_folder);
  std::string text() const;
  // nullopt: the text is not an owner marker.
  static std::optional<Owner> parse(const std::string& text);
  // Whether that process still runs. An owner on another machine counts as alive, because it cannot
  // be checked.
  bool alive() const;
};

// Writes this process as the owner. Throws Error{kBusy} naming the agent that uses the token,
// unless that has ended or `take_over` is set. On a token without data objects nothing is checked.
// False: the token is readable but not writable; try again later.
bool claim_token(vault::TokenVault& vault, const Owner& self, bool take_over);
// Removes this process's marker; does not throw when the token does not answer.
void release_token(vault::TokenVault& vault);

}  // namespace keyagent::daemon
