// SPDX-License-Identifier: Apache-2.0
#pragma once
// A real keyinstanced on a real keyagentd of its host, both with state of the test's own.

#include <nlohmann/json.hpp>
#include <regex>

#include "agent/base/encoding.h"
#include "agent/tls/client.h"
#include "tests/daemon/agent_process.h"
#include "tests/instance/instance_address.h"
#include "tests/support/temp_folder.h"

namespace keyagent::test {

using Json = nlohmann::json;

class InstanceProcess final : public InstanceAddress {
  std::unique_ptr<AgentProcess> own_;

 public:
  AgentProcess& agent;
  TempFolder work;

  InstanceProcess() : own_(std::make_unique<AgentProcess>()), agent(*own_) {
    agent.extra = "limits:\n  failures-per-key-per-day: 1000\n";
    agent.start();
  }
  // On another one's host: with its keys.
  explicit InstanceProcess(AgentProcess& host) : agent(host) {}
  ~InstanceProcess() override { stop(); }

  std::filesystem::path config_path() const { return work.path() / "keyinstanced.yml"; }
  std::filesystem::path log() const { return work.path() / "instance.log"; }
  std::string store_url = "sqlite://" + (work.path() / "store/instance.db").string();
  std::string listen_extra;  // further lines of `listen`
  std::string agent_extra;   // and of `agent`
  std::string extra = "times:\n  heartbeat: 1s\n";

  void write_config() const {
    std::ofstream(config_path()) << "id: test-instance\nhosts: [127.0.0.1, localhost]\nagent:\n"
                                    "  socket: "
                                 << agent.socket().string() << "\n"
                                 << agent_extra << "store:\n  url: " << store_url
                                 << "\nlisten:\n  api: 127.0.0.1:" << api_port_
                                 << "\n  agents: 127.0.0.1:" << agents_port_ << "\n"
                                 << listen_extra << extra;
    std::filesystem::permissions(config_path(), std::filesystem::perms(0600));
  }

  // Another start listens where the first did.
  void start() {
    write_config();
    std::filesystem::remove(log());
    pid_ = ::fork();
    if (pid_ == 0) {
      const int out = ::open(log().c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
      ::dup2(out, 1);
      ::dup2(out, 2);
      ::execl(KEYINSTANCED, "keyinstanced", "--config", config_path().c_str(), "--allow-root",
              nullptr);
      ::_exit(127);
    }
    std::smatch found;
    const std::regex line("people on port (\\d+), agents on (\\d+), fingerprint ([\\w-]+)");
    if (!wait_until(
            [&] {
              const auto text = read_text(log());
              if (!std::regex_search(text, found, line))
                return ::waitpid(pid_, nullptr, WNOHANG) != 0;
              api_port_ = std::stoi(found[1]);
              agents_port_ = std::stoi(found[2]);
              fingerprint = found[3];
              return true;
            },
            std::chrono::minutes(2)) ||
        fingerprint.empty())
      throw std::runtime_error("keyinstanced did not start:\n" + read_text(log()));
  }
  int end(int number) {
    if (pid_ <= 0) return -1;
    ::kill(pid_, number);
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  void stop() { end(SIGKILL); }
  void signal(int number) const { ::kill(pid_, number); }

  pid_t pid() const { return pid_; }
  int agents_port() const { return agents_port_; }
  std::string api_url() const override { return "https://127.0.0.1:" + std::to_string(api_port_); }
  std::string agents_url() const override {
    return "https://127.0.0.1:" + std::to_string(agents_port_);
  }

  CommandResult keyinstanced(const std::string& words,
                             const std::filesystem::path& config = {}) const {
    return try_command(KEYINSTANCED " --config " +
                       (config.empty() ? config_path() : config).string() + " " + words + " 2>&1");
  }
  void add_user(const std::string& name, const std::string& role) const {
    const auto file = (work.path() / (name + ".pw")).string();
    std::ofstream(file) << "correct horse " << name << "\n";
    std::filesystem::permissions(file, std::filesystem::perms(0400));
    const auto result =
        keyinstanced("user " + name + " --role " + role + " --password-file " + file);
    if (result.status != 0) throw std::runtime_error(result.output);
  }
  // Its agent gives keys to this peer of its, and takes them.
  void allow_exchange_with(const std::string& identity) {
    agent.write("policy.yml",
                agent.policy + "  - name: exchange\n    allow: [export, import]\n    peers: [" +
                    identity + "]\n    who: {user: \"" + std::to_string(::geteuid()) + "\"}\n",
                0644);
    reload();
  }
  void reload() {
    auto connection = agent.client();
    wire::Request request;
    request.mutable_reload();
    connection.call(request);
  }
  CommandResult keyagent(const std::string& user, const std::string& words) const {
    return try_command("cd '" + work.path().string() + "' && " KEYAGENT " instance --profile " +
                       (work.path() / (user + ".json")).string() + " " + words + " 2>&1");
  }
  CommandResult log_in(const std::string& user) const {
    return keyagent(user, "login " + api_url() + " --user " + user +
                              " --fingerprint=" + fingerprint + " --password-file " +
                              (work.path() / (user + ".pw")).string());
  }
  Json json(const std::string& user, const std::string& words) const {
    const auto result = keyagent(user, "--json " + words);
    if (result.status != 0) throw std::runtime_error(words + ": " + result.output);
    return Json::parse(result.output);
  }

 private:
  pid_t pid_ = 0;
  int api_port_ = 0, agents_port_ = 0;
};

}  // namespace keyagent::test
