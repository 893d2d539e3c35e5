// SPDX-License-Identifier: Apache-2.0
#pragma once
// Reads PINs, SO PINs, passwords and enrollment tokens from a file, a systemd credential, a pipe or
// a terminal. All secrets are read through this interface.

#include <filesystem>
#include <string>

#include "agent/base/bytes.h"

namespace keyagent {

// `text` without the one line end (LF or CRLF) that an editor puts behind it. Throws
// Error{kConfiguration} that names `what` and never repeats it, before the secret is used: empty;
// a byte order mark; UTF-16; a NUL or another control character; a second line; white space at its
// beginning or end. These are never part of a secret on purpose, and a token counts each try.
SecretBytes secret_text(SecretBytes text, const std::string& what);

// read_secret_file() (disk.h: owner, mode and folders) and secret_text(). `what`: "the PIN".
SecretBytes read_secret_text(const std::filesystem::path& path, const std::string& what,
                             std::size_t limit = 4096);

// The first line of a pipe or a terminal, by the same rule; nothing behind it is taken. Throws for
// a line of more than 4096 bytes too.
SecretBytes read_secret_line(int fd, const std::string& what);

}  // namespace keyagent
