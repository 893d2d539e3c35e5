// SPDX-License-Identifier: Apache-2.0
// stop_at: runs a program and stops it or injects an error at its N-th call that changes a disk or
// sends data. strace's fault injection counts the calls of each thread separately, which does not
// enumerate the calls of a program with ten threads; this program has one count for all threads.
//
// usage: stop_at --root FOLDER --report FILE [--at N --do kill|power|torn|enospc|eio]
//                [--keep FOLDER] -- PROGRAM ARG...
//
// A point is a write, fsync, truncation, rename, link or unlink in FOLDER, or a send to a socket.
// Without --at every point is counted and named in FILE. With it, at point N, before the call:
//   kill    SIGKILL
//   power   the same, and what was not fsynced is gone: contents, new names, renames, removals.
//           Below --keep (the token's own store) everything is taken as written.
//   torn    the other way a disk may lose power: names, renames and removals are kept, and of
//           contents that were not fsynced half of what was written.
//   enospc  the call fails with ENOSPC; eio: with EIO (sends are not counted then). x86-64 only.
// FILE then says "reached CALL PATH". Ends as the program ends; 128 + signal when it was killed.

#include <elf.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace fs = std::filesystem;

namespace {

struct Call {
  long number;
  const char* name;
  // Which arguments name what it works on: a descriptor or one or two paths (-1: none).
  int fd, path, path2;
};

const Call kCalls[] = {
    {SYS_write, "write", 0, -1, -1},         {SYS_pwrite64, "pwrite64", 0, -1, -1},
    {SYS_writev, "writev", 0, -1, -1},       {SYS_pwritev, "pwritev", 0, -1, -1},
    {SYS_fsync, "fsync", 0, -1, -1},         {SYS_fdatasync, "fdatasync", 0, -1, -1},
    {SYS_ftruncate, "ftruncate", 0, -1, -1}, {SYS_fallocate, "fallocate", 0, -1, -1},
    {SYS_sendto, "sendto", 0, -1, -1},       {SYS_sendmsg, "sendmsg", 0, -1, -1},
    {SYS_openat, "openat", -1, 1, -1},       {SYS_renameat2, "renameat2", -1, 1, 3},
    {SYS_renameat, "renameat", -1, 1, 3},    {SYS_unlinkat, "unlinkat", -1, 1, -1},
    {SYS_linkat, "linkat", -1, 1, 3},
#ifdef SYS_open
    {SYS_open, "open", -1, 0, -1},           {SYS_rename, "rename", -1, 0, 1},
    {SYS_unlink, "unlink", -1, 0, -1},       {SYS_link, "link", -1, 0, 1},
#endif
};

const Call* call_of(long number) {
  for (const auto& call : kCalls)
    if (call.number == number) return &call;
  return nullptr;
}

[[noreturn]] void die(const std::string& what) {
  std::fprintf(stderr, "stop_at: %s: %s\n", what.c_str(), std::strerror(errno));
  std::_Exit(125);
}

std::string slurp(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void put(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

// --- what a disk would have kept
// -------------------------------------------------------------------------------------------------

// As ext4, xfs and btrfs keep it: fsync of a file keeps its contents and, if it is new, its name;
// renames and removals are kept by fsync of their directory.
class Disk {
 public:
  explicit Disk(fs::path durable) : durable_(std::move(durable)) {}

  void will_change(const fs::path& path) {
    if (is_durable(path) || before_.contains(path)) return;
    std::error_code error;
    if (!fs::is_regular_file(path, error)) return;
    before_[path] = slurp(path);
    half_.emplace(path, before_[path]);
  }
  void will_create(const fs::path& path) {
    if (is_durable(path) || before_.contains(path) || fs::exists(path)) return;
    before_[path] = std::nullopt;
    half_.emplace(path, std::nullopt);
  }
  void will_rename(const fs::path& from, const fs::path& to) {
    if (is_durable(to)) return;
    // Not kept: the old name with its contents, and whatever the new name was.
    pending_[to.parent_path()].push_back({to, contents(to)});
    pending_[from.parent_path()].push_back({from, contents(from)});
    const auto unsynced = half_.find(from);
    if (unsynced != half_.end()) half_[to] = unsynced->second;
    half_.erase(from);
    before_.erase(from);
  }
  void will_remove(const fs::path& path) {
    if (is_durable(path)) return;
    pending_[path.parent_path()].push_back({path, kept(path)});
    before_.erase(path);
    half_.erase(path);
  }
  void synced(const fs::path& path) {
    before_.erase(path);
    half_.erase(path);
    pending_.erase(path);
  }
  void lose_power() {
    for (const auto& [path, bytes] : before_) restore(path, bytes);
    for (auto& [folder, names] : pending_) {
      for (auto name = names.rbegin(); name != names.rend(); ++name)
        restore(name->path, name->bytes);
    }
  }
  void tear() {
    for (const auto& [path, old] : half_) {
      const auto now = contents(path);
      if (!now || now == old) continue;
      const std::string before = old.value_or("");
      const auto same = static_cast<std::size_t>(
          std::mismatch(now->begin(), now->end(), before.begin(), before.end()).first -
          now->begin());
      const std::size_t half = same + (now->size() - same) / 2;
      put(path, now->substr(0, half) + (before.size() > half ? before.substr(half) : ""));
    }
  }

 private:
  using Contents = std::optional<std::string>;  // nullopt: no such name
  struct Name {
    fs::path path;
    Contents bytes;
  };
  bool is_durable(const fs::path& path) const {
    return !durable_.empty() && path.string().rfind(durable_.string(), 0) == 0;
  }
  static Contents contents(const fs::path& path) {
    std::error_code error;
    return fs::is_regular_file(path, error) ? Contents(slurp(path)) : std::nullopt;
  }
  Contents kept(const fs::path& path) const {
    const auto known = before_.find(path);
    return known != before_.end() ? known->second : contents(path);
  }
  static void restore(const fs::path& path, const Contents& bytes) {
    std::error_code ignored;
    if (bytes) put(path, *bytes);
    if (!bytes) fs::remove(path, ignored);
  }
  const fs::path durable_;
  std::map<fs::path, Contents> before_;
  std::map<fs::path, Contents> half_;  // not fsynced, by the names of now: as it was kept
  std::map<fs::path, std::vector<Name>> pending_;  // by directory, in their order
};

// --- the traced program
// -------------------------------------------------------------------------------------------------

struct Options {
  fs::path root, report, keep;
  long at = 0;
  std::string action;
  char** program = nullptr;
};

class Tracer {
 public:
  explicit Tracer(const Options& options)
      : options_(options), disk_(options.keep), report_(options.report) {}

  int run() {
    start();
    int status = 0;
    for (;;) {
      const pid_t thread = ::waitpid(-1, &status, __WALL);
      if (thread < 0 && errno == EINTR) continue;
      if (thread < 0) return 0;
      if (WIFEXITED(status) || WIFSIGNALED(status)) {
        if (thread != main_) continue;
        if (power_lost_) options_.action == "torn" ? disk_.tear() : disk_.lose_power();
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      }
      handle(thread, status);
    }
  }
  pid_t program() const { return main_; }

 private:
  void start() {
    main_ = ::fork();
    if (main_ < 0) die("fork");
    if (main_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::ptrace(PTRACE_TRACEME, 0, 0, 0);
      ::raise(SIGSTOP);
      filter_calls();
      ::execv(options_.program[0], options_.program);
      die(options_.program[0]);
    }
    ::waitpid(main_, nullptr, 0);
    const long wanted = PTRACE_O_TRACESECCOMP | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK |
                        PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
    if (::ptrace(PTRACE_SETOPTIONS, main_, 0, wanted) != 0) die("ptrace");
    ::ptrace(PTRACE_CONT, main_, 0, 0);
  }

  static void filter_calls() {
    std::vector<sock_filter> program{
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
    for (const auto& call : kCalls) {
      program.push_back(
          BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(call.number), 0, 1));
      program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE));
    }
    program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
    ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) die("seccomp");
  }

  void handle(pid_t thread, int status) {
    const int event = status >> 16;
    int signal = WSTOPSIG(status);
    if (event == PTRACE_EVENT_SECCOMP) look_at(thread);
    // ptrace's own stops are not signals of the program; a new thread starts with SIGSTOP.
    if (event != 0 || signal == SIGTRAP || signal == SIGSTOP) signal = 0;
    ::ptrace(PTRACE_CONT, thread, 0, signal);
  }

  void look_at(pid_t thread) {
    if (power_lost_) return;
    __ptrace_syscall_info info{};
    if (::ptrace(PTRACE_GET_SYSCALL_INFO, thread, sizeof info, &info) <= 0) return;
    const Call* call = call_of(static_cast<long>(info.seccomp.nr));
    if (call == nullptr) return;
    const std::string name = call->name;
    const auto path = call->fd >= 0 ? path_of_fd(thread, info.seccomp.args[call->fd])
                                    : path_at(thread, info.seccomp.args[call->path]);
    const auto target =
        call->path2 < 0 ? fs::path() : path_at(thread, info.seccomp.args[call->path2]);
    const bool opens = name.rfind("open", 0) == 0;
    if (opens) return will_open(path, info.seccomp.args[call->path + 1]);
    if (!is_point(name, path)) return;
    if (++count_ == options_.at) {
      report_ << "reached " << name << " " << path.string() << std::endl;
      act(thread);
      if (stops()) return;
    } else if (options_.at == 0) {
      report_ << name << " " << path.string() << "\n" << std::flush;
    }
    follow(name, path, target);
  }

  bool stops() const {
    return options_.action == "kill" || options_.action == "power" || options_.action == "torn";
  }
  bool is_point(const std::string& name, const fs::path& path) const {
    const bool fails = options_.action == "enospc" || options_.action == "eio";
    if (name.rfind("send", 0) == 0) return !fails && path.string().rfind("socket:", 0) == 0;
    return path == options_.root || path.string().rfind(options_.root.string() + "/", 0) == 0;
  }

  void will_open(const fs::path& path, unsigned long flags) {
    if (path.string().rfind(options_.root.string() + "/", 0) != 0) return;
    if ((flags & O_CREAT) != 0) disk_.will_create(path);
    if ((flags & O_TRUNC) != 0) disk_.will_change(path);
  }

  void follow(const std::string& name, const fs::path& path, const fs::path& target) {
    if (name == "fsync" || name == "fdatasync") return disk_.synced(path);
    if (name.rfind("rename", 0) == 0) return disk_.will_rename(path, target);
    if (name.rfind("unlink", 0) == 0) return disk_.will_remove(path);
    if (name.rfind("link", 0) == 0) return disk_.will_create(target);
    disk_.will_change(path);
  }

  void act(pid_t thread) {
    if (stops()) {
      power_lost_ = options_.action != "kill";
      ::kill(main_, SIGKILL);
      return;
    }
#ifdef __x86_64__
    user_regs_struct registers{};
    ::ptrace(PTRACE_GETREGS, thread, 0, &registers);
    registers.orig_rax = static_cast<unsigned long long>(-1);
    registers.rax = static_cast<unsigned long long>(options_.action == "eio" ? -EIO : -ENOSPC);
    ::ptrace(PTRACE_SETREGS, thread, 0, &registers);
#else
    (void)thread;
    errno = ENOSYS;
    die("errors are injected on x86-64 only");
#endif
  }

  static fs::path path_of_fd(pid_t thread, unsigned long fd) {
    std::error_code error;
    return fs::read_symlink(
        "/proc/" + std::to_string(thread) + "/fd/" + std::to_string(static_cast<int>(fd)), error);
  }
  static fs::path path_at(pid_t thread, unsigned long address) {
    char text[4096] = {};
    iovec mine{text, sizeof text - 1}, theirs{reinterpret_cast<void*>(address), sizeof text - 1};
    // The text may end just before an unmapped page: then page by page.
    if (::process_vm_readv(thread, &mine, 1, &theirs, 1, 0) < 0) {
      theirs.iov_len = 4096 - address % 4096;
      ::process_vm_readv(thread, &mine, 1, &theirs, 1, 0);
    }
    return text;
  }

  const Options options_;
  Disk disk_;
  std::ofstream report_;
  pid_t main_ = 0;
  long count_ = 0;
  bool power_lost_ = false;
};

Tracer* running = nullptr;

}  // namespace

int main(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i], value = argv[i + 1];
    if (name == "--") {
      options.program = argv + i + 1;
      break;
    }
    if (name == "--root") options.root = value;
    if (name == "--report") options.report = value;
    if (name == "--keep") options.keep = value;
    if (name == "--at") options.at = std::stol(value);
    if (name == "--do") options.action = value;
  }
  if (options.program == nullptr || options.root.empty() || options.report.empty()) {
    std::fprintf(stderr,
                 "usage: stop_at --root FOLDER --report FILE [--at N --do ACTION] [--keep "
                 "FOLDER] -- PROGRAM ARG...\n");
    return 125;
  }
  Tracer tracer(options);
  running = &tracer;
  std::signal(SIGTERM, [](int) { ::kill(running->program(), SIGTERM); });
  return tracer.run();
}
