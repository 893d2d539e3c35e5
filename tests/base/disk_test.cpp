// SPDX-License-Identifier: Apache-2.0
#include "agent/base/disk.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <functional>
#include <optional>

#include "agent/base/error.h"
#include "tests/support/code_of.h"
#include "tests/support/small_disk.h"
#include "tests/support/temp_folder.h"

namespace {
std::atomic<int> g_fdatasync_errno{0};
std::atomic<int> g_fdatasync_calls{0};
}  // namespace

// Stands before the C library's: the disk fails on command.
extern "C" int fdatasync(int fd) {
  ++g_fdatasync_calls;
  if (g_fdatasync_errno == 0) return static_cast<int>(::syscall(SYS_fdatasync, fd));
  errno = g_fdatasync_errno;
  return -1;
}

namespace {
std::function<void()> g_around_lock;  // runs before and after each lock call but its own
}  // namespace

// Likewise: another process tries to get the lock at each moment.
extern "C" int fcntl(int fd, int command, ...) {
  va_list rest;
  va_start(rest, command);
  void* argument = va_arg(rest, void*);
  va_end(rest);
  const bool locks = command == F_OFD_SETLK && g_around_lock;
  std::function<void()> around;
  if (locks) {
    around.swap(g_around_lock);
    around();
  }
  const int result = static_cast<int>(::syscall(SYS_fcntl, fd, command, argument));
  if (locks) {
    const int code = errno;
    around();
    errno = code;
    around.swap(g_around_lock);
  }
  return result;
}

namespace keyagent {
namespace {

using test::TempFolder;
using ::testing::HasSubstr;

template <typename Action>
std::string message_of(Code code, Action action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

unsigned mode_of(const std::filesystem::path& path) {
  struct stat info {};
  return ::lstat(path.c_str(), &info) == 0 ? info.st_mode & 07777U : 0;
}

TEST(AppendFile, AppendsToAnExistingFile) {
  const TempFolder folder;
  const auto path = folder.path() / "log";
  {
    AppendFile file(path);
    file.append(as_bytes("one\n"));
    file.sync();
  }
  AppendFile file(path);
  EXPECT_EQ(file.size(), 4U);
  file.append(as_bytes("two\n"));
  EXPECT_EQ(as_text(read_file(path)), "one\ntwo\n");
  EXPECT_EQ(mode_of(path), 0600U);
}

TEST(AppendFile, Fault080_FailedSyncIsNotRetriedAndEndsTheFile) {
  const TempFolder folder;
  AppendFile file(folder.path() / "log");
  file.append(as_bytes("one\n"));
  g_fdatasync_errno = EIO;
  EXPECT_THAT(message_of(Code::kInternal, [&] { file.sync(); }), HasSubstr("log"));
  g_fdatasync_errno = 0;
  const int calls = g_fdatasync_calls;
  message_of(Code::kInternal, [&] { file.sync(); });
  message_of(Code::kInternal, [&] { file.append(as_bytes("two\n")); });
  EXPECT_EQ(g_fdatasync_calls, calls) << "the second sync reached the kernel";
  EXPECT_EQ(as_text(read_file(folder.path() / "log")), "one\n");
}

TEST(AppendFile, FullDiskEndsTheFile) {
  // /dev/full refuses every write with ENOSPC.
  AppendFile file("/dev/full");
  EXPECT_THAT(message_of(Code::kInternal, [&] { file.append(as_bytes("x")); }),
              HasSubstr("No space left"));
  message_of(Code::kInternal, [&] { file.append(as_bytes("x")); });
}

TEST(AppendFile, SymbolicLinkIsNotFollowed) {
  const TempFolder folder;
  std::filesystem::create_symlink("/dev/null", folder.path() / "log");
  message_of(Code::kConfiguration, [&] { AppendFile file(folder.path() / "log"); });
}

TEST(ReplaceFile, LeavesNewContentModeAndNoTemporary) {
  const TempFolder folder;
  const auto path = folder.path() / "checkpoint.json";
  replace_file(path, as_bytes("old"), 0644);
  replace_file(path, as_bytes("new"), 0644);
  EXPECT_EQ(as_text(read_file(path)), "new");
  EXPECT_EQ(mode_of(path), 0644U);
  const auto entries = std::filesystem::directory_iterator(folder.path());
  EXPECT_EQ(std::distance(begin(entries), end(entries)), 1);
}

TEST(ReplaceFile, FailureKeepsTheOldContentAndNamesThePath) {
  const TempFolder folder;
  std::filesystem::create_directories(folder.path() / "taken" / "x");
  EXPECT_THAT(message_of(Code::kConfiguration,
                         [&] { replace_file(folder.path() / "taken", as_bytes("new")); }),
              HasSubstr("taken"));
  const auto entries = std::filesystem::directory_iterator(folder.path());
  EXPECT_EQ(std::distance(begin(entries), end(entries)), 1) << "the temporary file stayed";
}

TEST(ReadFile, RefusesWhatIsNotARegularFileOfTheSizeAsked) {
  const TempFolder folder;
  const auto fifo = folder.path() / "fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  message_of(Code::kConfiguration, [&] { read_file(fifo); });  // and does not wait for a writer
  message_of(Code::kConfiguration, [&] { read_file(folder.path()); });
  message_of(Code::kConfiguration, [&] { read_file(folder.path() / "absent"); });
  replace_file(folder.path() / "large", Bytes(11, 'x'));
  message_of(Code::kConfiguration, [&] { read_file(folder.path() / "large", 10); });
  EXPECT_EQ(read_file(folder.path() / "large", 11).size(), 11U);
}

TEST(ReadSecretFile, Fault120_OpenToOthersIsRefusedWithTheFix) {
  const TempFolder folder;
  const auto path = folder.path() / "pin";
  for (const unsigned mode : {0604U, 0602U, 0620U, 0666U}) {
    replace_file(path, as_bytes("1234"), mode);
    const auto text = message_of(Code::kConfiguration, [&] { read_secret_file(path); });
    EXPECT_THAT(text, HasSubstr("chmod 0400 " + path.string()));
    EXPECT_EQ(text.find("1234"), std::string::npos);
  }
  replace_file(path, as_bytes("1234"), 0400);
  EXPECT_EQ(as_text(read_secret_file(path)), "1234");
  std::filesystem::create_symlink(path, folder.path() / "link");
  EXPECT_THAT(message_of(Code::kConfiguration, [&] { read_secret_file(folder.path() / "link"); }),
              HasSubstr("symbolic link"));
}

TEST(ReadSecretFile, Fault120_GroupReadIsForRootsOwnGroupOnly) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a file to another group";
  const TempFolder folder;
  const auto path = folder.path() / "pin";
  replace_file(path, as_bytes("1234"), 0440);
  EXPECT_NO_THROW(read_secret_file(path));  // a systemd credential with its access list
  ASSERT_EQ(::chown(path.c_str(), 0, 65534), 0);
  message_of(Code::kConfiguration, [&] { read_secret_file(path); });
}

TEST(ReadTrustedFile, Fault122_WritableOrForeignFilesAreRefusedWithTheFix) {
  const TempFolder folder;
  const auto path = folder.path() / "policy.yml";
  replace_file(path, as_bytes("rules: []"), 0644);
  EXPECT_NO_THROW(read_trusted_file(path));
  for (const unsigned mode : {0664U, 0646U, 0666U}) {
    ASSERT_EQ(::chmod(path.c_str(), mode), 0);
    EXPECT_THAT(message_of(Code::kConfiguration, [&] { read_trusted_file(path); }),
                HasSubstr("chmod go-w " + path.string()));
  }
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a file away";
  ASSERT_EQ(::chmod(path.c_str(), 0644), 0);
  ASSERT_EQ(::chown(path.c_str(), 65534, 65534), 0);
  EXPECT_THAT(message_of(Code::kConfiguration, [&] { read_trusted_file(path); }),
              HasSubstr("chown "));
}

// Who may rename in the folder decides what the file says, whatever the file's own mode is.
TEST(ReadTrustedFile, Fault162_AFileInAFolderThatOthersMayWriteIsRefused) {
  const TempFolder folder;
  const auto open = folder.path() / "open";
  make_private_folder(open);
  replace_file(open / "pin", as_bytes("1234"), 0400);
  EXPECT_NO_THROW(read_secret_file(open / "pin"));
  ASSERT_EQ(::chmod(open.c_str(), 0777), 0);
  for (const auto& read : {std::function<void()>([&] { read_secret_file(open / "pin"); }),
                           std::function<void()>([&] { read_trusted_file(open / "pin"); })})
    EXPECT_THAT(message_of(Code::kConfiguration, read), HasSubstr("is not protected"));
}

TEST(MakePrivateFolder, EveryNewFolderIsPrivate) {
  const TempFolder folder;
  make_private_folder(folder.path() / "a" / "b");
  EXPECT_EQ(mode_of(folder.path() / "a"), 0700U);
  EXPECT_EQ(mode_of(folder.path() / "a" / "b"), 0700U);
  EXPECT_NO_THROW(make_private_folder(folder.path() / "a" / "b"));
  replace_file(folder.path() / "file", as_bytes("x"));
  message_of(Code::kConfiguration, [&] { make_private_folder(folder.path() / "file"); });
}

TEST(FileLock, Fault085_SecondHolderIsRefusedAndToldTheFirstsPid) {
  const TempFolder folder;
  const auto path = folder.path() / "lock";
  {
    const FileLock first(path);
    EXPECT_THAT(message_of(Code::kBusy, [&] { FileLock second(path); }),
                HasSubstr("process " + std::to_string(::getpid())));
    // Closing another descriptor of the file must not drop the lock, as it would with a POSIX lock.
    ::close(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    message_of(Code::kBusy, [&] { FileLock third(path); });
  }
  EXPECT_NO_THROW(FileLock{path});
}

TEST(FileLock, Fault085_LockOfAKilledProcessIsFree) {
  const TempFolder folder;
  const auto path = folder.path() / "lock";
  int ready[2] = {};
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const FileLock lock(path);
    if (::write(ready[1], "x", 1) != 1) ::_exit(1);
    ::pause();
    ::_exit(0);
  }
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  EXPECT_THAT(message_of(Code::kBusy, [&] { FileLock second(path); }),
              HasSubstr("process " + std::to_string(child)));
  ::kill(child, SIGKILL);
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  EXPECT_NO_THROW(FileLock{path});
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST(FileLock, Fault081_ALockThatCannotBeWrittenIsSharedUntilItCan) {
  const test::TempFolder folder;
  const test::SmallDisk disk(folder.path() / "disk");
  if (!disk.mounted()) GTEST_SKIP() << "only root may mount a file system";
  const auto path = folder.path() / "disk/lock";
  const auto remount = [&](unsigned long flags) {
    return ::mount(nullptr, (folder.path() / "disk").c_str(), nullptr, MS_REMOUNT | flags, nullptr);
  };
  { const FileLock lock(path); }
  EXPECT_TRUE(why_unwritable(path).empty());
  ASSERT_EQ(remount(MS_RDONLY), 0);
  EXPECT_EQ(why_unwritable(path), "Read-only file system");
  EXPECT_EQ(why_unwritable(folder.path() / "disk"), "Read-only file system");
  EXPECT_TRUE(why_unwritable(folder.path() / "disk/absent").empty());
  FileLock first(path);
  EXPECT_TRUE(first.shared());
  {
    const FileLock second(path);
    EXPECT_TRUE(second.shared());
    ASSERT_EQ(remount(0), 0);
    // The file names the last one that could write it, which holds nothing now.
    replace_file(folder.path() / "holder", as_bytes("1 1\n"));
    std::filesystem::copy_file(folder.path() / "holder", path,
                               std::filesystem::copy_options::overwrite_existing);
    EXPECT_THAT(message_of(Code::kBusy, [&] { first.make_exclusive(); }),
                HasSubstr("is held by another process: find it with: fuser"));
    EXPECT_EQ(code_of([&] { const FileLock third(path); }), Code::kBusy);
  }
  {
    // Room for no holder's name: shared as before, and no other process gets it.
    const rlimit small{0, RLIM_INFINITY};
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
    std::signal(SIGXFSZ, SIG_IGN);
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
    EXPECT_EQ(code_of([&] { first.make_exclusive(); }), Code::kConfiguration);
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
    EXPECT_TRUE(first.shared());
    EXPECT_EQ(code_of([&] { const FileLock third(path); }), Code::kBusy);
  }
  first.make_exclusive();
  EXPECT_FALSE(first.shared());
  EXPECT_EQ(code_of([&] { const FileLock third(path); }), Code::kBusy);
}

TEST(FileLock, Fault081_ALockIsNotLostWhileItBecomesExclusive) {
  const test::TempFolder folder;
  const test::SmallDisk disk(folder.path() / "disk");
  if (!disk.mounted()) GTEST_SKIP() << "only root may mount a file system";
  const auto path = folder.path() / "disk/lock";
  const auto remount = [&](unsigned long flags) {
    return ::mount(nullptr, (folder.path() / "disk").c_str(), nullptr, MS_REMOUNT | flags, nullptr);
  };
  { const FileLock lock(path); }
  ASSERT_EQ(remount(MS_RDONLY), 0);
  FileLock first(path);
  std::optional<FileLock> second(std::in_place, path);
  ASSERT_EQ(remount(0), 0);
  int tries = 0;
  std::optional<FileLock> other;
  g_around_lock = [&] {
    ++tries;
    try {
      if (!other) other.emplace(path);
    } catch (const Error&) {
    }
  };
  EXPECT_EQ(code_of([&] { first.make_exclusive(); }), Code::kBusy);
  second.reset();
  EXPECT_TRUE(first.shared());
  EXPECT_EQ(code_of([&] { first.make_exclusive(); }), Code::kOk);
  g_around_lock = nullptr;
  EXPECT_GE(tries, 8);
  EXPECT_FALSE(other.has_value()) << "another process got the lock in between";
  EXPECT_FALSE(first.shared());
}

}  // namespace
}  // namespace keyagent
