// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a process that was killed while it replaced a file (disk.h) left beside it.

#include <chrono>
#include <filesystem>
#include <string_view>

namespace keyagent {

// Removes `.NAME.tmp-XXXXXX` (replace_file(); six letters or digits) of `folder`, where it is a
// regular file of this user and at least `older_than` old. An empty name: of all files. At start;
// never throws: what cannot be removed stays. REQUIRES: no other process replaces these files, or
// `older_than` is more than that takes.
void remove_leftovers(const std::filesystem::path& folder, std::string_view name,
                      std::chrono::seconds older_than = std::chrono::seconds(0));

}  // namespace keyagent
