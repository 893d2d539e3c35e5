// SPDX-License-Identifier: Apache-2.0
#include "pkcs11/token_folder.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <string>

#include "pkcs11/error.h"
#include "pkcs11/module.h"

namespace keyagent::pkcs11 {
namespace {

constexpr fsfilcnt_t kMinInodes = 8;

std::string trimmed(const std::string& text) {
  const auto first = text.find_first_not_of(" \t");
  return first == std::string::npos ? std::string()
                                    : text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

// softhsm2.conf(5): "directories.tokendir = /path"; the last one counts.
std::filesystem::path folder_of_softhsm(const std::filesystem::path& file) {
  std::ifstream in(file);
  std::string folder;
  for (std::string line; std::getline(in, line);) {
    const auto equals = line.find('=');
    if (equals != std::string::npos && trimmed(line.substr(0, equals)) == "directories.tokendir")
      folder = trimmed(line.substr(equals + 1));
  }
  return folder;
}

}  // namespace

std::filesystem::path token_folder(const Profile& profile,
                                   const std::filesystem::path& state_folder) {
  if (!profile.token_folder.empty()) return with_state(profile.token_folder, state_folder);
  const auto conf = profile.environment.find("SOFTHSM2_CONF");
  if (conf == profile.environment.end()) return {};
  return folder_of_softhsm(with_state(conf->second, state_folder));
}

void require_token_room(const Profile& profile, const std::filesystem::path& state_folder,
                        const char* what) {
  const auto folder = token_folder(profile, state_folder);
  struct statvfs disk {};
  if (folder.empty() || ::statvfs(folder.c_str(), &disk) != 0) return;
  const auto left = static_cast<std::uintmax_t>(disk.f_bavail) * disk.f_frsize;
  const bool inodes = disk.f_files == 0 || disk.f_favail >= kMinInodes;
  if (left >= kMinTokenRoom && inodes) return;
  throw Error(
      Error::Kind::kFull,
      std::string(what) + " was not called: the disk of the token's folder " + folder.string() +
          " is full (" +
          (inodes ? std::to_string(left / 1024) + " KiB left, " +
                        std::to_string(kMinTokenRoom / 1024) + " KiB needed"
                  : std::to_string(disk.f_favail) + " inodes left") +
          "), and a file-based token could be lost; free disk space, the agent resumes then",
      CKR_DEVICE_MEMORY);
}

void require_token_writable(const Profile& profile, const std::filesystem::path& state_folder) {
  const auto folder = token_folder(profile, state_folder);
  if (folder.empty() || ::faccessat(AT_FDCWD, folder.c_str(), W_OK, AT_EACCESS) == 0) return;
  // The mode is not sufficient: the token's own folder in it may be writable.
  if (errno != EROFS) return;
  throw Error(
      Error::Kind::kFull,
      "a write was not called: the token's folder " + folder.string() +
          " is on a read-only file system; make it writable, the agent resumes without a restart",
      CKR_DEVICE_MEMORY);
}

}  // namespace keyagent::pkcs11
