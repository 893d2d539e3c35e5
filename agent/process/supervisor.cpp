// SPDX-License-Identifier: Apache-2.0
#include "agent/process/supervisor.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "agent/base/error.h"
#include "agent/process/confined.h"

namespace keyagent::process {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr int kEnding[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM};
constexpr milliseconds kPatience{2000};
constexpr milliseconds kTick{50};

int status_of(int raw) {
  return WIFEXITED(raw) ? WEXITSTATUS(raw) : 128 + WTERMSIG(raw);
}

// What the child needs, made before the fork: in between nothing is allocated, because another
// thread may hold the allocator.
struct Exec {
  const char* program;
  std::vector<char*> arguments, environment;
  int output;
  bool detached;
  int report;
  pid_t parent;
  sigset_t signals;
};

[[noreturn]] void report_and_exit(const Exec& exec) {
  const int fault = errno;
  [[maybe_unused]] const auto written = ::write(exec.report, &fault, sizeof fault);
  ::_exit(127);
}

[[noreturn]] void run(const Exec& exec) {
  if (exec.detached) {
    ::setsid();
    const int null = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null < 0 || ::dup2(null, STDIN_FILENO) < 0) report_and_exit(exec);
  }
  if (exec.output >= 0 &&
      (::dup2(exec.output, STDOUT_FILENO) < 0 || ::dup2(exec.output, STDERR_FILENO) < 0))
    report_and_exit(exec);
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) report_and_exit(exec);
  if (::getppid() != exec.parent) ::_exit(127);
  ::sigprocmask(SIG_SETMASK, &exec.signals, nullptr);
  ::execve(exec.program, exec.arguments.data(), exec.environment.data());
  report_and_exit(exec);
}

std::vector<char*> pointers_to(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (auto& each : texts) pointers.push_back(each.data());
  pointers.push_back(nullptr);
  return pointers;
}

// Of this process, zombies included.
std::set<pid_t> children_of_this_process() {
  std::set<pid_t> children;
  std::error_code ended;
  for (std::filesystem::directory_iterator each("/proc/self/task", ended), end;
       !ended && each != end; each.increment(ended)) {
    std::ifstream list(each->path() / "children");
    for (pid_t pid = 0; list >> pid;) children.insert(pid);
  }
  return children;
}

}  // namespace

Supervisor::Supervisor() {
  ::sigemptyset(&watched_);
  ::sigaddset(&watched_, SIGCHLD);
  for (const int signal : kEnding) {
    struct sigaction action {};
    ::sigaction(signal, nullptr, &action);
    // nohup and the background jobs of a script ignore some, and so do their children.
    if (action.sa_handler != SIG_IGN) ::sigaddset(&watched_, signal);
  }
  // Ignored, as some parents leave it, it would hide how children ended.
  std::signal(SIGCHLD, SIG_DFL);
  ::sigprocmask(SIG_BLOCK, &watched_, &before_);
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
}

Supervisor::~Supervisor() {
  stop_others({});
}

pid_t Supervisor::start(const Child& child) {
  Pipe report = make_pipe();
  std::string program = child.program.string();
  std::vector<std::string> arguments = child.arguments, variables = child.environment;
  const Exec exec{program.c_str(),
                  pointers_to(arguments),
                  pointers_to(variables),
                  child.output,
                  child.detached,
                  report.write.get(),
                  ::getpid(),
                  before_};
  const pid_t pid = ::fork();
  if (pid == 0) run(exec);
  if (pid < 0) throw Error(Code::kPeer, program + " cannot be run: " + std::strerror(errno));
  report.write = Fd();
  int fault = 0;
  ssize_t count = 0;
  do {
    count = ::read(report.read.get(), &fault, sizeof fault);
  } while (count < 0 && errno == EINTR);
  if (count > 0) {
    while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) continue;
    throw Error(Code::kPeer, program + " cannot be run: " + std::strerror(fault));
  }
  children_[pid] = std::nullopt;
  return pid;
}

void Supervisor::reap() {
  int raw = 0;
  for (pid_t pid = 0; (pid = ::waitpid(-1, &raw, WNOHANG)) > 0;) {
    const auto known = children_.find(pid);
    if (known != children_.end()) known->second = status_of(raw);
  }
}

// Waits for a signal, at most for `time`, and acts on it.
void Supervisor::step(milliseconds time) {
  const timespec limit{time.count() / 1000, time.count() % 1000 * 1000000};
  siginfo_t about{};
  const int signal = ::sigtimedwait(&watched_, &about, &limit);
  reap();
  if (signal <= 0 || signal == SIGCHLD) return;
  if (interrupted_ == 0) interrupted_ = signal;
  const bool from_a_process = about.si_code <= 0;
  if (forward_to_ > 0 && from_a_process) ::kill(forward_to_, signal);
}

std::optional<int> Supervisor::wait_for(pid_t child, milliseconds time) {
  const auto end = steady_clock::now() + time;
  reap();
  while (!children_.at(child)) {
    const auto left = std::chrono::duration_cast<milliseconds>(end - steady_clock::now());
    if (left.count() <= 0) return std::nullopt;
    step(left);
  }
  return children_.at(child);
}

int Supervisor::wait_for(pid_t child) {
  forward_to_ = child;
  std::optional<int> status;
  while (!status) status = wait_for(child, milliseconds(60000));
  forward_to_ = 0;
  return *status;
}

void Supervisor::stop(pid_t child, milliseconds patience) {
  if (wait_for(child, milliseconds(0))) return;
  ::kill(child, SIGTERM);
  if (wait_for(child, patience)) return;
  ::kill(child, SIGKILL);
  wait_for(child, kPatience);
}

void Supervisor::stop_others(const std::set<pid_t>& spared) {
  const auto kill_at = steady_clock::now() + kPatience, give_up_at = kill_at + 2 * kPatience;
  std::set<pid_t> asked;
  for (;;) {
    reap();
    const auto children = children_of_this_process();
    const auto now = steady_clock::now();
    bool left = false;
    for (const pid_t pid : children) {
      if (spared.contains(pid)) continue;
      left = true;
      if (now >= kill_at) {
        ::kill(pid, SIGKILL);
      } else if (asked.insert(pid).second) {
        ::kill(pid, SIGTERM);
      }
    }
    // One in the kernel's hands (a file system that hangs) cannot be waited for.
    if (!left || now >= give_up_at) return;
    step(kTick);
  }
}

std::filesystem::path find_program(const std::string& name, const std::string& search_path,
                                   bool* found) {
  const auto runs = [found](const std::filesystem::path& file) {
    struct stat info {};
    if (::stat(file.c_str(), &info) != 0) return false;
    if (found != nullptr) *found = true;
    return S_ISREG(info.st_mode) && ::access(file.c_str(), X_OK) == 0;
  };
  if (name.find('/') != std::string::npos)
    return runs(name) ? std::filesystem::path(name) : std::filesystem::path();
  for (std::size_t at = 0; !name.empty() && at <= search_path.size();) {
    const auto end = std::min(search_path.find(':', at), search_path.size());
    const std::string folder = search_path.substr(at, end - at);
    const auto file = std::filesystem::path(folder.empty() ? "." : folder) / name;
    if (runs(file)) return file;
    at = end + 1;
  }
  return {};
}

}  // namespace keyagent::process
