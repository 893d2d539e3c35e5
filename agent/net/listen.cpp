// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <grp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "agent/base/error.h"
#include "agent/net/unix_server.h"

namespace keyagent::net {
namespace {

namespace fs = std::filesystem;

constexpr int kBacklog = 4096;  // net.core.somaxconn caps it

[[noreturn]] void refuse(const fs::path& path, const std::string& why) {
  throw Error(Code::kConfiguration, "socket " + path.string() + ": " + why);
}

[[noreturn]] void refuse_errno(const fs::path& path, const std::string& doing) {
  refuse(path, doing + ": " + std::strerror(errno));
}

sockaddr_un address_of(const fs::path& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string text = path.string();
  if (!path.is_absolute()) refuse(path, "the path must be absolute");
  if (text.size() >= sizeof address.sun_path)
    refuse(path, "the path has " + std::to_string(text.size()) + " bytes, at most " +
                     std::to_string(sizeof address.sun_path - 1) +
                     " are possible; choose a shorter path");
  std::memcpy(address.sun_path, text.c_str(), text.size() + 1);
  return address;
}

bool ours(uid_t owner) {
  return owner == 0 || owner == ::geteuid();
}

// Who may write the folder may put another socket in our place (RELIABILITY 113); a sticky bit does
// not keep others from being there first.
void check_folder(const fs::path& path) {
  const fs::path folder = path.parent_path();
  struct stat found {};
  if (::stat(folder.c_str(), &found) != 0) refuse_errno(path, "folder " + folder.string());
  if (!S_ISDIR(found.st_mode)) refuse(path, folder.string() + " is not a folder");
  if (!ours(found.st_uid))
    refuse(path, "folder " + folder.string() + " belongs to uid " + std::to_string(found.st_uid) +
                     "; use a folder of root or of the agent's user");
  if ((found.st_mode & (S_IWGRP | S_IWOTH)) != 0)
    refuse(path, "other users may write the folder " + folder.string() +
                     "; use a private folder, or chmod go-w " + folder.string());
  for (fs::path above = folder.parent_path();; above = above.parent_path()) {
    if (::stat(above.c_str(), &found) != 0) refuse_errno(path, "folder " + above.string());
    if ((found.st_mode & S_IWOTH) != 0 && (found.st_mode & S_ISVTX) == 0)
      refuse(path,
             "every user may rename files in " + above.string() + ": chmod o-w " + above.string());
    if (above == above.root_path()) return;
  }
}

Fd unix_socket(const fs::path& path) {
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) refuse_errno(path, "socket");
  return fd;
}

// A socket that does not answer was left by a killed agent and is removed; one that answers belongs
// to another agent.
void remove_stale(const fs::path& path, const sockaddr_un& address) {
  struct stat found {};
  if (::lstat(path.c_str(), &found) != 0) {
    if (errno == ENOENT) return;
    refuse_errno(path, "lstat");
  }
  if (!S_ISSOCK(found.st_mode))
    refuse(path, "exists and is not a socket; remove it, or choose another path");
  if (!ours(found.st_uid))
    refuse(path, "belongs to uid " + std::to_string(found.st_uid) +
                     ", which is not this agent's user; find out who created it, then remove it");
  const Fd probe = unix_socket(path);
  const auto* name = reinterpret_cast<const sockaddr*>(&address);
  if (::connect(probe.get(), name, sizeof address) == 0) {
    ucred who{};
    socklen_t size = sizeof who;
    ::getsockopt(probe.get(), SOL_SOCKET, SO_PEERCRED, &who, &size);
    throw Error(Code::kBusy, "socket " + path.string() + ": an agent with pid " +
                                 std::to_string(who.pid) + " already listens on it");
  }
  if (errno == EAGAIN)
    throw Error(Code::kBusy, "socket " + path.string() + ": an agent already listens on it");
  if (errno != ECONNREFUSED) refuse_errno(path, "exists and cannot be tested");
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) refuse_errno(path, "removing the old socket");
}

gid_t group_id(const fs::path& path, const std::string& group) {
  errno = 0;
  const ::group* found = ::getgrnam(group.c_str());
  if (found == nullptr) refuse(path, "missing group " + group + ": groupadd --system " + group);
  return found->gr_gid;
}

// No one can connect before listen(2), and by then group and mode are those that were asked for.
void bind_private(int fd, const fs::path& path, const sockaddr_un& address) {
  const mode_t before = ::umask(0177);
  const int result = ::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  const int error = errno;
  ::umask(before);
  errno = error;
  if (result == 0) return;
  if (errno == EADDRINUSE)
    throw Error(Code::kBusy,
                "socket " + path.string() + ": another agent took it at the same time");
  refuse_errno(path, "bind");
}

}  // namespace

Fd listen_unix(const fs::path& path, unsigned mode, const std::string& group) {
  const sockaddr_un address = address_of(path);
  check_folder(path);
  const gid_t owner = group.empty() ? static_cast<gid_t>(-1) : group_id(path, group);
  remove_stale(path, address);
  Fd fd = unix_socket(path);
  bind_private(fd.get(), path, address);
  if (!group.empty() && ::lchown(path.c_str(), static_cast<uid_t>(-1), owner) != 0)
    refuse_errno(path,
                 "giving it to group " + group + " (the agent's user must be a member of it)");
  if (::chmod(path.c_str(), mode) != 0) refuse_errno(path, "chmod");
  if (::listen(fd.get(), kBacklog) != 0) refuse_errno(path, "listen");
  return fd;
}

}  // namespace keyagent::net
