// SPDX-License-Identifier: Apache-2.0
#include "agent/base/leftovers.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <system_error>
#include <vector>

#include "agent/base/disk.h"

namespace keyagent {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kRandom = 6;  // characters that mkstemp() chooses

bool is_random(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// `name` empty: of any file.
bool is_temporary_of(std::string_view file, std::string_view name) {
  const auto at = file.rfind(kTemporary);
  if (at == file.npos || at < 2 || file.front() != '.') return false;
  const auto random = file.substr(at + std::string_view(kTemporary).size());
  return (name.empty() || file.substr(1, at - 1) == name) && random.size() == kRandom &&
         std::all_of(random.begin(), random.end(), is_random);
}

bool is_own(const fs::path& path, std::chrono::seconds older_than) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) return false;
  return S_ISREG(status.st_mode) && status.st_uid == ::geteuid() && status.st_nlink == 1 &&
         status.st_mtime <= std::time(nullptr) - older_than.count();
}

}  // namespace

void remove_leftovers(const fs::path& folder, std::string_view name,
                      std::chrono::seconds older_than) {
  std::error_code fault;
  std::vector<fs::path> found;
  for (fs::directory_iterator file(folder, fault), end; !fault && file != end;
       file.increment(fault)) {
    if (is_temporary_of(file->path().filename().string(), name) && is_own(file->path(), older_than))
      found.push_back(file->path());
  }
  for (const auto& path : found) fs::remove(path, fault);
}

}  // namespace keyagent
