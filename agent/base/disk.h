// SPDX-License-Identifier: Apache-2.0
#pragma once
// The one seam to the file system for everything that must survive a crash: append, sync, rename +
// directory sync, lock.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>

#include "agent/base/bytes.h"

namespace keyagent {

// A file descriptor that closes itself. Move-only. Close-on-exec always.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(other.release()) {}
  Fd& operator=(Fd&& other) noexcept;
  ~Fd();
  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int release() noexcept;

 private:
  int fd_ = -1;
};

// Appends to one file. Not thread-safe. A failed append or sync leaves the file in an unknown state
// and the object unusable: every later call throws (fsync is never retried; RELIABILITY 80).
class AppendFile {
 public:
  // Creates with mode 0600. Throws Error{kConfiguration} naming the path.
  explicit AppendFile(const std::filesystem::path& path);
  void append(ByteView bytes);  // whole, or throws Error{kInternal}; short writes are completed
  void sync();                  // fdatasync
  // Blocks for all bytes of the file up to `end`, `from` which it has none for sure, so that
  // writing them does not fail for a full disk; does not change size(). False when the disk, a
  // quota or the process's limit has no room. Thread-safe.
  bool reserve(std::uint64_t from, std::uint64_t end) const;
  // After a failed append or sync: cuts what was written beyond `size`, and the file is good again.
  // Throws Error{kInternal} when it is shorter, or cannot be cut.
  void rewind(std::uint64_t size);
  int error() const { return error_; }  // errno of what failed; 0: nothing did
  std::uint64_t size() const { return size_; }

 private:
  Fd fd_;
  std::filesystem::path path_;
  std::uint64_t size_ = 0;
  bool failed_ = false;
  int error_ = 0;
};

// Until its rename the new file is `.NAME.tmp-XXXXXX`; a killed process leaves it (leftovers.h).
inline constexpr const char* kTemporary = ".tmp-";

// Replaces `path` as a whole: temporary file in the same folder, write, fsync, rename, fsync of the
// folder. After a crash the old or the new content is there, never a mixture. Throws
// Error{kConfiguration} with path and errno text. With `like`: mode, owner and group of that file,
// from the first moment on; throws when they cannot be kept.
void replace_file(const std::filesystem::path& path, ByteView content, unsigned mode = 0600);
struct FileOwner {
  unsigned mode, uid, gid;
};
FileOwner owner_of(const std::filesystem::path& path);
void replace_file(const std::filesystem::path& path, ByteView content, const FileOwner& like);

// Removes the file; after a crash it stays removed. False: it did not exist. Throws
// Error{kConfiguration}: it may be there still.
bool remove_file(const std::filesystem::path& path);

// The whole file, at most `limit` bytes. Throws Error{kConfiguration}: absent, too large, not a
// regular file.
Bytes read_file(const std::filesystem::path& path, std::size_t limit = 1 << 20);
// The same for a file that decides what may be done: refuses one that group or others may write, or
// that another user than this process's (or root) owns, and names the command that fixes it.
Bytes read_trusted_file(const std::filesystem::path& path, std::size_t limit = 1 << 20);
// The same for a secret: no copy is left outside the result. Refuses a file that group or others
// may read or write, or that another user than this process's (or root) owns, and names the chmod
// that fixes it. A symbolic link is refused. Group read is accepted on a root:root file: systemd
// presents the access list of a credential like that.
SecretBytes read_secret_file(const std::filesystem::path& path, std::size_t limit = 4096);

// Creates the folder (0700) and its parents where missing.
void make_private_folder(const std::filesystem::path& path);

// Why this process cannot write the file, or change the folder's entries: "Read-only file system".
// Empty: it can, or the path does not exist.
std::string why_unwritable(const std::filesystem::path& path);

// An open-file-description lock on a file that names the holder. Released with the object or the
// process.
class FileLock {
 public:
  // Creates `path` (0600) and writes "pid start-time". Where an existing one cannot be written, it
  // is shared with others that cannot either. Throws Error{kBusy} naming the holder's pid when it
  // is taken.
  explicit FileLock(const std::filesystem::path& path);
  bool shared() const { return shared_; }
  // Of a shared one, once its file can be written. Throws as the constructor; it is shared then as
  // before.
  void make_exclusive();

 private:
  std::filesystem::path path_;
  Fd fd_;
  bool shared_ = false;
};

}  // namespace keyagent
