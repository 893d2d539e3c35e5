// SPDX-License-Identifier: Apache-2.0
#pragma once
// The end of an audit log as a start finds it.

#include <cstdint>
#include <filesystem>
#include <string>

#include "agent/audit/record.h"

namespace keyagent::audit {

struct Tail {
  std::uint64_t records = 0;
  std::string hash{kGenesis};
  std::string torn;  // what follows the last newline
};

// Reads the whole file; a missing file counts as empty. Throws Error{kIntegrity} when the last
// 1,000 records do not chain or do not match the checkpoint beside the file, Error{kConfiguration}
// when it cannot be read.
Tail read_tail(const std::filesystem::path& path);

}  // namespace keyagent::audit
