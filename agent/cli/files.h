// SPDX-License-Identifier: Apache-2.0
#pragma once
// Data in and out of the program: files and pipes.

#include <filesystem>
#include <string>

#include "agent/base/bytes.h"

namespace keyagent::cli {

// A file, or standard input for "-". Throws Error{kUsage} beyond `limit` bytes and for what cannot
// be read.
SecretBytes read_input(const std::string& name, std::size_t limit);
// The same as digest of everything, without a limit: 32, 48 or 64 bytes for "SHA256" …
Bytes digest_input(const std::string& name, const std::string& algorithm);
// A file (0600, whole or not at all), or standard output for "-". Throws Error{kUsage} when it
// cannot be written.
void write_output(const std::string& name, ByteView bytes);
// A PIN from "file:/path" (which only this user may read), "prompt", or "fd:N", by the rule of
// base/secret_text.h. Never from an argument or the environment. `question` names it: "new PIN".
SecretBytes read_pin(const std::string& source, const std::string& question);
std::string to_base64(ByteView bytes, std::size_t wrap = 0);

}  // namespace keyagent::cli
