// SPDX-License-Identifier: Apache-2.0
#pragma once
// Asks a person at the terminal for a secret.

#include <string>

#include "agent/base/bytes.h"

namespace keyagent::process {

// Writes `question` to the controlling terminal and reads one line with echo off. The rule of
// secret_text() applies. Throws Error{kConfiguration}: there is no terminal (with `otherwise`, what
// to do then), or the line is refused.
SecretBytes ask_secret(const std::string& question, const std::string& what,
                       const std::string& otherwise);

}  // namespace keyagent::process
