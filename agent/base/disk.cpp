// SPDX-License-Identifier: Apache-2.0
#include "agent/base/disk.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <functional>
#include <sstream>
#include <system_error>
#include <utility>

#include "agent/base/error.h"
#include "agent/base/trusted_path.h"

namespace keyagent {

namespace fs = std::filesystem;

namespace {

std::string errno_text(int code) {
  return std::generic_category().message(code);
}

[[noreturn]] void fail(const char* verb, const fs::path& path, int code) {
  throw Error(Code::kConfiguration,
              fmt::format("cannot {} {}: {}", verb, path.string(), errno_text(code)));
}

Fd open_fd(const fs::path& path, int flags, mode_t mode = 0) {
  int fd = -1;
  do {
    fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  } while (fd < 0 && errno == EINTR);
  return Fd(fd);
}

// Writes all of `bytes`; 0 or the errno of the first failure.
int write_all(int fd, ByteView bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return n < 0 ? errno : EIO;
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
  return 0;
}

void sync_folder(const fs::path& folder) {
  const Fd fd = open_fd(folder, O_RDONLY | O_DIRECTORY);
  if (!fd.valid() || ::fsync(fd.get()) != 0) fail("sync", folder, errno);
}

fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

struct OpenFile {
  Fd fd;
  struct stat status {};
};

void require_regular(OpenFile& file, const fs::path& path) {
  if (!file.fd.valid() || ::fstat(file.fd.get(), &file.status) != 0) fail("read", path, errno);
  if (!S_ISREG(file.status.st_mode)) {
    throw Error(Code::kConfiguration, fmt::format("{} is not a regular file", path.string()));
  }
}

// O_NONBLOCK: a FIFO at this path must be refused, not waited for.
constexpr int kReadFlags = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;

OpenFile open_regular(const fs::path& path) {
  OpenFile file{open_fd(path, kReadFlags), {}};
  require_regular(file, path);
  return file;
}

// Opens the file relative to the folder that was checked (trusted_path.h): it cannot be replaced
// between check and open.
OpenFile open_trusted(const fs::path& path, bool follow) {
  const auto walked = walk_path(path, ::geteuid());
  if (walked.through_link && !follow) {
    throw Error(Code::kConfiguration,
                fmt::format("{} is a symbolic link: name the file itself", path.string()));
  }
  if (!walked.file.valid()) fail("read", path, ENOENT);
  OpenFile file;
  if (!walked.name.empty())
    file.fd = Fd(::openat(walked.folder.get(), walked.name.c_str(), kReadFlags | O_NOFOLLOW));
  require_regular(file, path);
  if (!walked.faults.empty()) {
    throw Error(Code::kConfiguration, fmt::format("{} is not protected: {}", path.string(),
                                                  walked.faults.front().line()));
  }
  return file;
}

template <typename Buffer>
Buffer read_open_file(const OpenFile& file, const fs::path& path, std::size_t limit) {
  Buffer content;
  if (std::cmp_greater(file.status.st_size, limit)) {
    throw Error(Code::kConfiguration, fmt::format("{} is larger than the {} bytes that it may have",
                                                  path.string(), limit));
  }
  content.resize(static_cast<std::size_t>(file.status.st_size));
  std::size_t got = 0;
  while (got < content.size()) {
    const ssize_t n = ::read(file.fd.get(), content.data() + got, content.size() - got);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("read", path, errno);
    if (n == 0) break;  // it shrank meanwhile
    got += static_cast<std::size_t>(n);
  }
  content.resize(got);
  return content;
}

// The start time of a process from /proc/PID/stat, in clock ticks; "0": no such process.
std::string start_time_of(long pid) {
  std::ifstream stat(fmt::format("/proc/{}/stat", pid));
  std::string line;
  std::getline(stat, line);
  const std::size_t name_end = line.rfind(')');  // the name may hold spaces
  std::size_t at = name_end == std::string::npos ? line.size() : name_end;
  for (int field = 2; field < 22 && at < line.size(); ++field) at = line.find(' ', at + 1);
  if (at >= line.size()) return "0";
  return line.substr(at + 1, line.find(' ', at + 1) - at - 1);
}

}  // namespace

Fd& Fd::operator=(Fd&& other) noexcept {
  if (this != &other) Fd(std::exchange(fd_, other.release()));
  return *this;
}

Fd::~Fd() {
  if (fd_ >= 0) ::close(fd_);
}

int Fd::release() noexcept {
  return std::exchange(fd_, -1);
}

AppendFile::AppendFile(const fs::path& path) : path_(path) {
  constexpr int kFlags = O_WRONLY | O_APPEND | O_NOFOLLOW;
  fd_ = open_fd(path, kFlags | O_CREAT | O_EXCL, 0600);
  if (fd_.valid()) {
    sync_folder(folder_of(path));  // the name must survive as surely as the content
  } else if (errno == EEXIST) {
    fd_ = open_fd(path, kFlags);
  }
  struct stat status {};
  if (!fd_.valid() || ::fstat(fd_.get(), &status) != 0) fail("open", path, errno);
  size_ = static_cast<std::uint64_t>(status.st_size);
}

void AppendFile::append(ByteView bytes) {
  if (failed_) {
    throw Error(
        Code::kInternal,
        fmt::format("{} failed before and is no longer written; see the first error, then restart",
                    path_.string()));
  }
  if (const int code = write_all(fd_.get(), bytes); code != 0) {
    failed_ = true;
    error_ = code;
    throw Error(Code::kInternal,
                fmt::format("cannot append to {}: {}", path_.string(), errno_text(code)));
  }
  size_ += bytes.size();
}

void AppendFile::sync() {
  append({});  // refuses after a failure
  // Never repeated: after a failed sync the kernel may have dropped the pages and would answer the
  // second with success.
  if (::fdatasync(fd_.get()) != 0) {
    failed_ = true;
    error_ = errno;
    throw Error(Code::kInternal,
                fmt::format("cannot sync {}: {}; what was written last may be lost", path_.string(),
                            errno_text(errno)));
  }
}

bool AppendFile::reserve(std::uint64_t from, std::uint64_t end) const {
  rlimit limit{};
  if (::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
      end > limit.rlim_cur)
    return false;
  if (::fallocate(fd_.get(), FALLOC_FL_KEEP_SIZE, static_cast<off_t>(from),
                  static_cast<off_t>(end - from)) == 0)
    return true;
  if (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL) return false;
  // A file system without preallocation: what is free is all that can be known.
  struct statvfs disk {};
  return ::fstatvfs(fd_.get(), &disk) == 0 &&
         static_cast<std::uint64_t>(disk.f_bavail) * disk.f_frsize > 2 * (end - from);
}

void AppendFile::rewind(std::uint64_t size) {
  struct stat status {};
  const bool whole =
      ::fstat(fd_.get(), &status) == 0 && static_cast<std::uint64_t>(status.st_size) >= size;
  if (!whole || ::ftruncate(fd_.get(), static_cast<off_t>(size)) != 0 ||
      ::fdatasync(fd_.get()) != 0) {
    throw Error(Code::kInternal,
                fmt::format("{} cannot be truncated to its {} valid bytes", path_.string(), size));
  }
  size_ = size;
  failed_ = false;
  error_ = 0;
}

namespace {

void replace_with(const fs::path& path, ByteView content, const std::function<bool(int)>& prepare) {
  std::string temporary =
      (folder_of(path) / ("." + path.filename().string() + kTemporary + "XXXXXX")).string();
  const Fd fd(::mkostemp(temporary.data(), O_CLOEXEC));
  if (!fd.valid()) fail("create a file beside", path, errno);
  int code = prepare(fd.get()) ? write_all(fd.get(), content) : errno;
  if (code == 0 && ::fsync(fd.get()) != 0) code = errno;
  if (code == 0 && ::rename(temporary.c_str(), path.c_str()) != 0) code = errno;
  if (code != 0) {
    ::unlink(temporary.c_str());
    fail("replace", path, code);
  }
  sync_folder(folder_of(path));
}

}  // namespace

void replace_file(const fs::path& path, ByteView content, unsigned mode) {
  replace_with(path, content, [&](int fd) { return ::fchmod(fd, mode) == 0; });
}

FileOwner owner_of(const fs::path& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) fail("inspect", path, errno);
  return {status.st_mode & 07777U, status.st_uid, status.st_gid};
}

// The owner first: a mode that is set before may be widened for the wrong one.
void replace_file(const fs::path& path, ByteView content, const FileOwner& like) {
  replace_with(path, content, [&](int fd) {
    return ::fchown(fd, like.uid, like.gid) == 0 && ::fchmod(fd, like.mode) == 0;
  });
}

bool remove_file(const fs::path& path) {
  // Check whether the file exists first: a read-only file system refuses to remove a missing file
  // too.
  std::error_code none;
  const bool removed = fs::remove(path, none);
  if (none && fs::exists(fs::symlink_status(path))) fail("remove", path, none.value());
  if (fs::is_directory(folder_of(path))) sync_folder(folder_of(path));
  return removed;
}

Bytes read_file(const fs::path& path, std::size_t limit) {
  return read_open_file<Bytes>(open_regular(path), path, limit);
}

namespace {

void require_none(const std::vector<PathFault>& faults) {
  if (!faults.empty()) throw Error(Code::kConfiguration, faults.front().line());
}

}  // namespace

Bytes read_trusted_file(const fs::path& path, std::size_t limit) {
  const OpenFile file = open_trusted(path, true);
  require_none(file_faults(path, file.status, ::geteuid()));
  return read_open_file<Bytes>(file, path, limit);
}

SecretBytes read_secret_file(const fs::path& path, std::size_t limit) {
  const OpenFile file = open_trusted(path, false);
  mode_t loose = file.status.st_mode & (S_IRWXG | S_IRWXO);
  const bool root_group = file.status.st_uid == 0 && file.status.st_gid == 0;
  if (root_group) loose &= ~static_cast<mode_t>(S_IRGRP);
  if (loose != 0) {
    throw Error(
        Code::kConfiguration,
        fmt::format("{0} holds a secret and is open to others (mode {1:04o}): chmod 0400 {0}",
                    path.string(), file.status.st_mode & 07777U));
  }
  require_none(file_faults(path, file.status, ::geteuid()));
  return read_open_file<SecretBytes>(file, path, limit);
}

void make_private_folder(const fs::path& path) {
  if (path.empty() || fs::is_directory(path)) return;
  make_private_folder(path.parent_path());
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) fail("create the folder", path, errno);
  if (!fs::is_directory(path)) fail("create the folder", path, ENOTDIR);
}

std::string why_unwritable(const fs::path& path) {
  const int mode = fs::is_directory(path) ? W_OK | X_OK : W_OK;
  if (::faccessat(AT_FDCWD, path.c_str(), mode, AT_EACCESS) == 0 || errno == ENOENT) return {};
  return errno_text(errno);
}

namespace {

// An open-file-description lock: unlike POSIX locks it is not dropped when another part of the
// process closes the file.
bool set_lock(int fd, short type) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  return ::fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

void take_lock(int fd, short type, const fs::path& path) {
  if (set_lock(fd, type)) return;
  if (errno != EAGAIN && errno != EACCES) fail("lock", path, errno);
  char text[64] = {};
  const ssize_t n = ::pread(fd, text, sizeof text - 1, 0);
  // A holder that shares the lock could not write itself into the file: it may name an older one.
  std::istringstream holder(std::string(text, static_cast<std::size_t>(n > 0 ? n : 0)));
  long pid = 0;
  std::string started;
  holder >> pid >> started;
  if (pid > 0 && started != "0" && started == start_time_of(pid))
    throw Error(Code::kBusy, fmt::format("{} is held by process {}: stop that process first",
                                         path.string(), pid));
  throw Error(Code::kBusy,
              fmt::format("{0} is held by another process: find it with: fuser {0}; stop it first",
                          path.string()));
}

void write_holder(int fd, const fs::path& path) {
  const std::string holder = fmt::format("{} {}\n", ::getpid(), start_time_of(::getpid()));
  if (::ftruncate(fd, 0) != 0) fail("write", path, errno);
  if (const int code = write_all(fd, as_bytes(holder)); code != 0) fail("write", path, code);
}

}  // namespace

FileLock::FileLock(const fs::path& path)
    : path_(path), fd_(open_fd(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600)) {
  if (!fd_.valid() && (errno == EROFS || errno == EACCES)) {
    const int why = errno;
    fd_ = open_fd(path, O_RDONLY | O_NOFOLLOW);
    shared_ = fd_.valid();
    errno = why;
  }
  if (!fd_.valid()) fail("open the lock", path, errno);
  take_lock(fd_.get(), shared_ ? F_RDLCK : F_WRLCK, path);
  if (!shared_) write_holder(fd_.get(), path);
}

// The lock is never released meanwhile, so that no other process can take it: the new descriptor
// takes a shared lock before the old one, which cannot become exclusive, is closed.
void FileLock::make_exclusive() {
  if (!shared_) return;
  Fd fresh = open_fd(path_, O_RDWR | O_NOFOLLOW);
  if (!fresh.valid()) fail("open the lock", path_, errno);
  struct stat here {
  }, there{};
  if (::fstat(fd_.get(), &here) != 0 || ::fstat(fresh.get(), &there) != 0)
    fail("open the lock", path_, errno);
  if (here.st_dev != there.st_dev || here.st_ino != there.st_ino)
    throw Error(Code::kIntegrity,
                "the lock " + path_.string() + " was replaced by another file; restart the agent");
  take_lock(fresh.get(), F_RDLCK, path_);
  fd_ = std::move(fresh);
  take_lock(fd_.get(), F_WRLCK, path_);
  try {
    write_holder(fd_.get(), path_);
  } catch (...) {
    set_lock(fd_.get(), F_RDLCK);
    throw;
  }
  shared_ = false;
}

}  // namespace keyagent
