// SPDX-License-Identifier: Apache-2.0
#pragma once
// One agent a token: a small object in the token says who has it (RELIABILITY 85).

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
  // An owner that does not parse is no one.
  static std::optional<Owner> parse(const std::string& text);
  // Is that process still there? An owner on another machine counts as alive: no one here can tell.
  bool alive() const;
};

// Writes ourselves as the owner. Throws Error{kBusy} naming the agent that has the token, unless it
// is gone or `take_over` is set. On a token that keeps no data objects nothing is checked.
// False: the token can be read and not written; claim it again later.
bool claim_token(vault::TokenVault& vault, const Owner& self, bool take_over);
// Removes our own marker; quiet when the token does not answer.
void release_token(vault::TokenVault& vault);

}  // namespace keyagent::daemon
