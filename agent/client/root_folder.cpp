// SPDX-License-Identifier: Apache-2.0
#include "agent/client/root_folder.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <exception>
#include <system_error>
#include <thread>

#include "agent/base/error.h"

namespace keyagent::client {
namespace {

[[noreturn]] void fail(const std::string& why) {
  throw Error(Code::kPeer,
              "this program changed its root directory, and the agent's socket is not reachable "
              "from there (" +
                  why + "); make the socket's folder visible in it (mount --bind)");
}

// Signals of the program are for its own threads.
class NoSignals {
 public:
  NoSignals() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~NoSignals() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  NoSignals(const NoSignals&) = delete;

 private:
  sigset_t before_{};
};

void unshare_working_directory() {
  if (::unshare(CLONE_FS) != 0) fail(std::string("unshare: ") + std::strerror(errno));
}

}  // namespace

RootFolder::RootFolder() : fd_(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)) {
  struct stat status {};
  if (fd_.valid() && ::fstat(fd_.get(), &status) == 0) {
    device_ = status.st_dev;
    inode_ = status.st_ino;
  }
}

bool RootFolder::left() const {
  struct stat now {
  }, kept{};
  if (!fd_.valid() || ::stat("/", &now) != 0) return false;
  if (now.st_dev == device_ && now.st_ino == inode_) return false;
  // A program that closes all descriptors may have given the number to another file.
  return ::fstat(fd_.get(), &kept) == 0 && kept.st_dev == device_ && kept.st_ino == inode_;
}

// REQUIRES: the working directory is this thread's alone.
void RootFolder::enter() const {
  struct stat here {};
  if (::fchdir(fd_.get()) != 0 || ::stat(".", &here) != 0 || here.st_dev != device_ ||
      here.st_ino != inode_)
    fail("the descriptor of the previous root directory is closed");
}

void RootFolder::run(const std::filesystem::path& path, const Work& work) const {
  std::exception_ptr thrown;
  const auto inside = [&] {
    try {
      unshare_working_directory();
      enter();
      work(path.relative_path());
    } catch (...) {
      thrown = std::current_exception();
    }
  };
  const NoSignals quiet;
  try {
    std::thread(inside).join();
  } catch (const std::system_error&) {
    return run_here(path, work);
  }
  if (thrown) std::rethrow_exception(thrown);
}

// HAProxy's workers may start no thread (RLIMIT_NPROC is 0): the calling thread goes and comes
// back.
void RootFolder::run_here(const std::filesystem::path& path, const Work& work) const {
  const Fd before(::open(".", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!before.valid()) fail(std::string("its working directory: ") + std::strerror(errno));
  unshare_working_directory();
  std::exception_ptr thrown;
  try {
    enter();
    work(path.relative_path());
  } catch (...) {
    thrown = std::current_exception();
  }
  if (::fchdir(before.get()) != 0)
    fail(std::string("returning to the new root: ") + std::strerror(errno));
  if (thrown) std::rethrow_exception(thrown);
}

}  // namespace keyagent::client
