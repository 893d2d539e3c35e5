// SPDX-License-Identifier: Apache-2.0
#pragma once
// Files that decide what a process does (configuration, policy, profiles, modules, programs,
// secrets): who else could replace one, on every folder and symbolic link that leads to it.

#include <sys/stat.h>
#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

#include "agent/base/disk.h"
#include "agent/base/finding_kinds.h"

namespace keyagent {

// Why a path is not trusted: which part of it, who could change it, and the command that fixes it.
struct PathFault {
  std::filesystem::path where;
  std::string text, cure;
  const FindingKind* kind = nullptr;
  std::vector<std::string> commands;  // those of the cure
  // "/srv/keys is writable by others (mode 0777): chmod go-w /srv/keys"
  std::string line() const;
};

// A path opened component by component. Each folder and link is checked through its own open
// descriptor, and the file is opened in the folder that was checked: nothing can be exchanged
// between the check and the use.
//
// A folder or link must belong to root or to `user`. A folder may be writable by its owner and by
// the group root only; a sticky one (/tmp) by everyone, because there each entry is its owner's
// alone.
struct TrustedPath {
  Fd file;                        // O_PATH; invalid when the file does not exist
  Fd folder;                      // O_PATH: the folder that holds it
  std::string name;               // in `folder`
  std::filesystem::path path;     // without links
  std::vector<PathFault> faults;  // of the folders and links, not of the file; in order from "/"
  bool through_link = false;      // the last component of the given path is a symbolic link
};

// Does not fail for an insecure mode: the caller decides what a fault means. Throws
// Error{kConfiguration} when a folder on the way is missing or cannot be searched, and for more
// than 40 links.
TrustedPath walk_path(const std::filesystem::path& path, uid_t user);

// Faults of the file (or folder) itself: its owner, and who may write it.
std::vector<PathFault> file_faults(const std::filesystem::path& path, const struct stat& status,
                                   uid_t user);

// All faults of a file and of the way to it, for this process's user. Throws Error{kConfiguration}
// with the first one. For what another function opens by name (dlopen, execve): call right before.
void require_trusted(const std::filesystem::path& path);

}  // namespace keyagent
