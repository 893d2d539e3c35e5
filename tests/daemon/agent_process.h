// SPDX-License-Identifier: Apache-2.0
#pragma once
// A real keyagentd on a token of the test's own, as an unprivileged user where the test is root.

#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "agent/client/client.h"
#include "tests/support/command.h"
#include "tests/support/soft_hsm.h"

namespace keyagent::test {

inline std::string read_text(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

inline bool wait_until(const std::function<bool()>& condition,
                       std::chrono::seconds limit = std::chrono::seconds(60)) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

// Runs `work` in a child that is another user; its result is the child's exit status.
// REQUIRES: root.
inline int as_user(uid_t uid, const std::function<int()>& work) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setgroups(0, nullptr) != 0 || ::setgid(uid) != 0 || ::setuid(uid) != 0) ::_exit(100);
    int status = 101;
    try {
      status = work();
    } catch (const std::exception&) {
      // The exit status reports it.
    }
    ::_exit(status);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

class AgentProcess {
 public:
  // No account has it.
  static constexpr uid_t kUser = 61190;

  AgentProcess() {
    std::filesystem::create_directory(folder() / "run");
    std::filesystem::permissions(folder() / "run", std::filesystem::perms(0755));
    std::filesystem::permissions(folder(), std::filesystem::perms(0711));
    write("pin", hsm.pin() + "\n", 0400);
    write("policy.yml", policy, 0644);
  }
  ~AgentProcess() { kill(); }

  std::filesystem::path folder() const { return hsm.folder(); }
  std::filesystem::path socket() const { return folder() / "run/agent.sock"; }
  std::filesystem::path log() const { return folder() / "agent.log"; }
  std::filesystem::path state() const { return folder() / "state"; }

  void write(const std::string& name, const std::string& text, unsigned mode) const {
    const auto path = folder() / name;
    std::filesystem::remove(path);
    std::ofstream(path, std::ios::binary) << text;
    std::filesystem::permissions(path, std::filesystem::perms(mode));
  }

  std::string uri() const { return "pkcs11:token=" + hsm.label() + ";serial=" + hsm.serial(); }
  std::string config() const {
    return "agent-id: test\nstate-folder: " + state().string() +
           "\npolicy: policy.yml\ntoken:\n  uri: \"" + (token_uri.empty() ? uri() : token_uri) +
           "\"\n  profile: " + (folder() / "profile.yml").string() +
           "\n  pin:\n    file: " + (folder() / "pin").string() + "\n" +
           (shimmed ? "  module: " KEYAGENT_SHIM "\n" : "") + token_extra +
           "socket:\n  path: " + socket().string() + "\n  mode: 0666\n" + extra;
  }

  // softhsm2.yml with the environment of this token, because the agent clears its environment.
  std::string profile() const {
    std::string text = read_text(KEYAGENT_SOURCE "/hsm-profiles/softhsm2.yml");
    std::string environment = "environment:\n  SOFTHSM2_CONF: " + hsm.conf().string() + "\n";
    if (shimmed) {
      environment += "  KEYAGENT_SHIM_REAL: " + real_module() +
                     "\n  KEYAGENT_SHIM_CONTROL: " + (folder() / "faults").string() +
                     "\n  KEYAGENT_SHIM_LOG: " + (folder() / "calls").string() + "\n";
    }
    const auto at = text.find("environment:");
    return text.replace(at, text.find("sessions:") - at, environment);
  }

  // A policy that lets this user do so much.
  static std::string allowing(const std::string& actions) {
    const bool works = actions.find("work") != std::string::npos;
    return "rules:\n  - name: root\n    allow: [" + actions + "]\n" +
           (works ? "    credentials: [\"*\"]\n" : "") + "    who: {user: \"" +
           std::to_string(::geteuid()) + "\"}\n";
  }
  // Takes effect at the next start or reload.
  void set_policy(const std::string& text) {
    policy = text;
    write("policy.yml", policy, 0644);
    own();
  }
  void set_faults(const std::string& rules) const { write("faults", rules, 0644); }

  // Starts and waits until it listens, or has ended.
  void start(const std::vector<std::string>& environment = {}) {
    if (shimmed && !std::filesystem::exists(folder() / "faults")) set_faults("");
    write("profile.yml", profile(), 0644);
    write("keyagentd.yml", config(), 0644);
    std::filesystem::remove(socket());
    own();
    if (before_spawn) before_spawn();
    spawn(environment);
    wait_until([&] { return serving() || ended(); });
  }
  // It listens: between bind() and listen() the socket is there and refuses.
  bool serving() const {
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    socket().string().copy(address.sun_path, sizeof address.sun_path - 1);
    const int refused = ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address);
    ::close(fd);
    return refused == 0;
  }

  // Runs it to its end; its exit status.
  int run_to_end(const std::vector<std::string>& environment = {}) {
    start(environment);
    return wait();
  }
  bool ended() {
    if (status_) return true;
    int status = 0;
    if (pid_ <= 0 || ::waitpid(pid_, &status, WNOHANG) != pid_) return pid_ <= 0;
    status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    dumped_core_ = WIFSIGNALED(status) && WCOREDUMP(status);
    return true;
  }
  int wait(std::chrono::seconds limit = std::chrono::seconds(30)) {
    wait_until([this] { return ended(); }, limit);
    return status_.value_or(-1);
  }
  bool dumped_core() const { return dumped_core_; }
  void signal(int number) const { ::kill(pid_, number); }
  int stop() {
    signal(SIGTERM);
    return wait();
  }
  void kill() {
    if (pid_ > 0 && !ended()) {
      signal(SIGKILL);
      wait();
    }
  }
  pid_t pid() const { return pid_; }
  // What a failed test wants to know: how it ended, if it has, and its own log.
  std::string story() {
    return (ended() ? "ended with " + std::to_string(status_.value_or(-1)) + "\n" : "") +
           read_text(log());
  }

  client::Client client(std::chrono::milliseconds deadline = std::chrono::seconds(20)) const {
    return client::Client({socket(), deadline});
  }
  wire::Key create(const std::string& name, const std::string& purpose,
                   const std::string& algorithm = {}) const {
    wire::Request request;
    request.mutable_key_create()->set_name(name);
    request.mutable_key_create()->set_purpose(purpose);
    request.mutable_key_create()->set_algorithm(algorithm);
    auto connection = client();
    return connection.call(request).key_create().key();
  }
  static wire::Request sign_request(const std::string& key) {
    wire::Request request;
    request.mutable_sign()->set_key(key);
    request.mutable_sign()->set_input(std::string(32, 'd'));
    return request;
  }
  static wire::Request status_request() {
    wire::Request request;
    request.mutable_status();
    return request;
  }

  SoftHsm hsm;
  bool shimmed = false;
  std::string token_uri;           // empty: its own token's
  std::string token_extra, extra;  // further lines of the configuration
  std::string policy = allowing(
      "open, seal, sign, public, create, destroy, rekey, suspend, reseal, status, audit, admin, "
      "credential, work, prove");
  std::vector<std::string> arguments;
  std::function<void()> before_spawn;  // after its files are written and given to its user
  // In the child: still as this user, and when nothing is left but to run the program.
  std::function<void()> enter_sandbox, seal_sandbox;

 private:
  static std::string real_module() {
    for (const char* path :
         {"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
          "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so"}) {
      if (std::filesystem::exists(path)) return path;
    }
    throw std::runtime_error("softhsm2 is not installed");
  }
  void own() const {
    if (::geteuid() == 0)
      run_command("chown -R " + std::to_string(kUser) + ":" + std::to_string(kUser) + " '" +
                  folder().string() + "'");
  }
  void spawn(const std::vector<std::string>& environment) {
    status_.reset();
    std::vector<std::string> words{KEYAGENTD, "--config", (folder() / "keyagentd.yml").string()};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv, envp;
    for (auto& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    std::vector<std::string> variables = environment;
    for (auto& each : variables) envp.push_back(each.data());
    envp.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ != 0) return;
    const int out = ::open(log().c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
    ::dup2(out, 1);
    ::dup2(out, 2);
    if (enter_sandbox) enter_sandbox();
    if (::geteuid() == 0 &&
        (::setgroups(0, nullptr) != 0 || ::setgid(kUser) != 0 || ::setuid(kUser) != 0))
      ::_exit(100);
    if (seal_sandbox) seal_sandbox();
    ::execve(KEYAGENTD, argv.data(), envp.data());
    ::_exit(127);
  }
  pid_t pid_ = 0;
  std::optional<int> status_;
  bool dumped_core_ = false;
};

}  // namespace keyagent::test
