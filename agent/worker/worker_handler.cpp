// SPDX-License-Identifier: Apache-2.0
#include "agent/worker/worker_handler.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "agent/base/error.h"
#include "agent/base/log.h"

namespace keyagent::worker {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kMaxResult = 64 << 10, kMaxLine = 1024, kMaxLines = 200;

Fd without_waiting(Fd fd) {
  ::fcntl(fd.get(), F_SETFL, O_NONBLOCK);
  return fd;
}

// Writes bytes into a pipe; closes it after the last one, or when the reader has closed it.
class Feed {
 public:
  Feed(Fd fd, ByteView bytes) : fd_(without_waiting(std::move(fd))), left_(bytes) { flow(); }
  int fd() const { return fd_.get(); }
  void flow() {
    while (!left_.empty()) {
      const ssize_t count = ::write(fd_.get(), left_.data(), left_.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0 && errno == EAGAIN) return;
      if (count <= 0) break;
      left_ = left_.subspan(static_cast<std::size_t>(count));
    }
    fd_ = Fd();
  }

 private:
  Fd fd_;
  ByteView left_;
};

// Reads what is there, but not forever from one that writes forever; closed at its end.
template <class Sink>
void drain(Fd& fd, Sink sink) {
  char buffer[16384];
  for (int reads = 0; reads < 64 && fd.valid(); ++reads) {
    const ssize_t count = ::read(fd.get(), buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) return;
    if (count <= 0) {
      fd = Fd();
      return;
    }
    sink(std::string_view(buffer, static_cast<std::size_t>(count)));
  }
}

// The handler's standard error, a line of the log each.
class StderrTail {
 public:
  explicit StderrTail(std::string who) : who_(std::move(who)) {}
  void take(std::string_view text) {
    for (const char c : text) {
      if (c == '\n') {
        tell();
      } else if (line_.size() < kMaxLine) {
        line_ += c;
      }
    }
  }
  void finish() {
    if (!line_.empty()) tell();
    if (lines_ > kMaxLines)
      log_warning("worker",
                  who_ + ": " + std::to_string(lines_ - kMaxLines) + " more lines were withheld");
  }

 private:
  void tell() {
    if (++lines_ <= kMaxLines) log_info("worker", who_ + ": " + line_);
    line_.clear();
  }
  const std::string who_;
  std::string line_;
  std::size_t lines_ = 0;
};

// As text that every JSON holds: bytes that are no UTF-8 are replaced. May be cut in a character.
std::string as_result(std::string bytes) {
  using Json = nlohmann::json;
  const auto clean = [](const std::string& text) {
    return Json::parse(Json(text).dump(-1, ' ', false, Json::error_handler_t::replace))
        .get<std::string>();
  };
  std::string text = clean(bytes);
  // What replaces is longer than what it replaces.
  for (std::size_t most = kMaxResult; text.size() > kMaxResult; most -= most / 8)
    text = clean(text.substr(0, most));
  return text;
}

class Run {
 public:
  Run(const HandlerConfig& handler, const HandlerWork& work, const LeaseGuard& leash,
      const Flag& killed)
      : handler_(handler), work_(work), leash_(leash), killed_(killed) {}

  HandlerEnd to_the_end() {
    start();
    while (!ended()) {
      if (text_.empty()) judge();
    }
    // Before it is waited for, while its number is still its group's.
    ::kill(-pid_, SIGKILL);
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) continue;
    listen();
    complaints_.finish();
    return end_of(status);
  }

 private:
  void start() {
    auto in = process::make_pipe(), out = process::make_pipe(), err = process::make_pipe();
    process::Pipe secret;
    if (work_.credential) secret = process::make_pipe();
    process::Confined what;
    what.program = handler_.program;
    what.environment = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                        "LC_ALL=C.UTF-8", "KEYAGENT_TASK_ID=" + work_.id,
                        "KEYAGENT_TASK_HANDLER=" + handler_.name,
                        "KEYAGENT_TASK_ATTEMPT=" + std::to_string(work_.attempt)};
    what.input = in.read.get();
    what.output = out.write.get();
    what.error = err.write.get();
    what.extra = secret.read.get();
    what.user = handler_.user;
    what.memory = handler_.memory;
    pid_ = process::spawn_confined(what);
    began_ = boot_now();
    process_ = Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
    if (!process_.valid()) give_up();
    for (Fd* each : {&in.read, &secret.read, &out.write, &err.write}) *each = Fd();
    output_ = without_waiting(std::move(out.read));
    error_ = without_waiting(std::move(err.read));
    input_.emplace(std::move(in.write), as_bytes(work_.input));
    if (work_.credential) secret_.emplace(std::move(secret.write), ByteView(*work_.credential));
  }

  [[noreturn]] void give_up() const {
    const std::string why = std::strerror(errno);
    ::kill(-pid_, SIGKILL);
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) continue;
    throw Error(Code::kInternal, "waiting for a handler failed; it was killed: " + why);
  }

  // Waits for something, at most a second: the host may have slept.
  bool ended() {
    const auto left = std::min(leash_.until(), began_ + work_.limit) - boot_now();
    auto wait = std::clamp<std::chrono::milliseconds>(
        std::chrono::duration_cast<std::chrono::milliseconds>(left) + 1ms, 0ms, 1s);
    if (!text_.empty()) wait = 1s;
    const int cut = text_.empty() ? leash_.is_cut().fd() : -1;
    const int killed = text_.empty() ? killed_.fd() : -1;
    pollfd watched[] = {{process_.get(), POLLIN, 0},
                        {output_.get(), POLLIN, 0},
                        {error_.get(), POLLIN, 0},
                        {input_->fd(), POLLOUT, 0},
                        {secret_ ? secret_->fd() : -1, POLLOUT, 0},
                        {cut, POLLIN, 0},
                        {killed, POLLIN, 0}};
    ::poll(watched, std::size(watched), static_cast<int>(wait.count()));
    listen();
    if (watched[3].revents != 0) input_->flow();
    if (watched[4].revents != 0) secret_->flow();
    return watched[0].revents != 0;
  }

  void listen() {
    drain(output_, [this](std::string_view text) {
      const auto room = kMaxResult - result_.size();
      more_ = more_ || text.size() > room;
      result_.append(text.substr(0, room));
    });
    drain(error_, [this](std::string_view text) { complaints_.take(text); });
  }

  // Is its time over?
  void judge() {
    const auto now = boot_now();
    std::string why;
    if (killed_.raised()) {
      why = ": the worker was stopped";
    } else if (leash_.is_cut().raised() || now >= leash_.until()) {
      why = ": its lease expired";
    } else if (now < began_ + work_.limit) {
      return;
    }
    text_ = "killed after " + seconds_since_start() + " s" + why;
    ::kill(-pid_, SIGKILL);
  }

  std::string seconds_since_start() const {
    const auto passed = std::chrono::round<std::chrono::milliseconds>(boot_now() - began_);
    return std::to_string(passed.count() / 1000);
  }

  HandlerEnd end_of(int status) {
    HandlerEnd end{"failed", text_, as_result(std::move(result_))};
    if (WIFSIGNALED(status)) {
      if (text_.empty()) end.text = "ended by signal " + std::to_string(WTERMSIG(status));
      return end;
    }
    // It exited normally, even if a kill was pending.
    const int code = WEXITSTATUS(status);
    if (code == 0) end.outcome = "done";
    if (code == EX_TEMPFAIL) end.outcome = "retry";
    end.text = "ended with " + std::to_string(code) + " after " + seconds_since_start() + " s" +
               (more_ ? "; its result was truncated at 64 KiB" : "");
    return end;
  }

  const HandlerConfig& handler_;
  const HandlerWork& work_;
  const LeaseGuard& leash_;
  const Flag& killed_;
  pid_t pid_ = -1;
  BootTime began_{};
  Fd process_, output_, error_;
  std::optional<Feed> input_, secret_;
  std::string result_, text_;
  bool more_ = false;
  StderrTail complaints_{handler_.name + " " + work_.id};
};

}  // namespace

BootTime boot_now() {
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

Flag::Flag() : fd_(::eventfd(0, EFD_CLOEXEC)) {
  if (!fd_.valid()) throw Error(Code::kInternal, "cannot create an event descriptor");
}

void Flag::raise() {
  raised_ = true;
  ::eventfd_write(fd_.get(), 1);
}

bool Flag::wait(std::chrono::milliseconds time) const {
  pollfd watched{fd_.get(), POLLIN, 0};
  return ::poll(&watched, 1, static_cast<int>(time.count())) > 0;
}

HandlerEnd run_handler(const HandlerConfig& handler, const HandlerWork& work,
                       const LeaseGuard& leash, const Flag& killed) {
  return Run(handler, work, leash, killed).to_the_end();
}

}  // namespace keyagent::worker
