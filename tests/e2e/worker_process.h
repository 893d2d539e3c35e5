// SPDX-License-Identifier: Apache-2.0
#pragma once
// The real keyagent worker of a host, with shell scripts as its handlers.

#include "tests/e2e/host.h"

namespace keyagent::test {

// Its file and its handlers lie in the host's work folder, which handlers may enter.
class WorkerProcess {
 public:
  explicit WorkerProcess(const Host& host) : host_(host) {
    std::filesystem::permissions(host.work.path(), std::filesystem::perms(0711));
  }
  WorkerProcess(const WorkerProcess&) = delete;
  ~WorkerProcess() { kill(); }

  // A handler of this name, from the next start or SIGHUP on. Its script begins in the work folder;
  // `more` are further settings (", seconds: 1").
  void handler(const std::string& name, const std::string& script, const std::string& more = {}) {
    const auto program = host_.file(name + ".sh");
    std::ofstream(program) << "#!/bin/sh\ncd " << host_.work.path().string() << "\n" << script;
    std::filesystem::permissions(program, std::filesystem::perms(0755));
    const std::string user =
        ::geteuid() != 0 || more.find("user:") != more.npos ? "" : ", user: root";
    handlers_ += "  " + name + ": {program: " + program.string() + user + more + "}\n";
    host_.write("worker.yml", "agent: {socket: " + host_.socket().string() +
                                  ", poll: 50ms}\nhandlers:\n" + handlers_);
  }
  void start() {
    pid_ = ::fork();
    if (pid_ != 0) return;
    const int out = ::open(host_.file("worker.log").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
    ::dup2(out, 1);
    ::dup2(out, 2);
    ::execl(KEYAGENT, "keyagent", "worker", "--config", host_.file("worker.yml").c_str(), nullptr);
    ::_exit(127);
  }
  void signal(int number) const { ::kill(pid_, number); }
  // Its exit status, as a shell has it.
  int wait() {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  int end(int number = SIGTERM) {
    signal(number);
    return wait();
  }
  void kill() {
    if (pid_ > 0) end(SIGKILL);
  }
  std::string log() const { return host_.read("worker.log"); }

 private:
  const Host& host_;
  std::string handlers_;
  pid_t pid_ = 0;
};

}  // namespace keyagent::test
