// SPDX-License-Identifier: Apache-2.0
#include "tests/crash/place.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <thread>

#include "tests/support/command.h"

namespace keyagent::test {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

std::string slurp(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void replace_all(const fs::path& to, const fs::path& from) {
  fs::remove_all(to);
  run_command("cp -a '" + from.string() + "' '" + to.string() + "'");
}

}  // namespace

Place::Place(Kind kind) : kind_(kind) {
  if (kind == Kind::kTpm) tpm_ = std::make_unique<Swtpm>("fixture");
  provision();
}

Place::~Place() {
  kill();
}

void Place::provision() {
  run_command(std::string(KEYAGENT_SOURCE) + "/scripts/provision-token --state " +
              state().string() + " --label crash --profile " +
              (kind_ == Kind::kTpm ? "tpm2" : "softhsm2") + " --keyagent " KEYAGENT);
  if (kind_ == Kind::kSoftHsm) return;
  // The daemon cleans its environment: what the module needs of this bus stands in the file.
  std::string config = slurp(state() / "keyagentd.yml");
  config.insert(config.find("  pin:"), std::string("  environment: {TPM2_PKCS11_TCTI: \"") +
                                           std::getenv("TPM2_PKCS11_TCTI") +
                                           "\", DBUS_SESSION_BUS_ADDRESS: \"" +
                                           std::getenv("DBUS_SESSION_BUS_ADDRESS") + "\"}\n");
  std::ofstream(state() / "keyagentd.yml") << config;
}

void Place::use_shim() {
  std::string config = slurp(state() / "keyagentd.yml");
  const std::string real = run_command(
      "for m in /usr/lib/softhsm/libsofthsm2.so /usr/lib/*/softhsm/libsofthsm2.so; do [ -e $m ] && "
      "{ printf %s $m; break; }; done");
  const std::string variables =
      "  module: " KEYAGENT_SHIM "\n  environment: {KEYAGENT_SHIM_REAL: " + real +
      ", KEYAGENT_SHIM_CONTROL: " + (state() / "faults").string() +
      ", KEYAGENT_SHIM_LOG: " + (state() / "calls").string() +
      ", SOFTHSM2_CONF: " + (state() / "softhsm2.conf").string() + "}\n";
  config.insert(config.find("  pin:"), variables);
  std::ofstream(state() / "keyagentd.yml") << config;
  set_faults("");
}

void Place::set_faults(const std::string& rules) const {
  std::ofstream(state() / "faults") << rules;
}

std::string Place::shim_calls() const {
  return slurp(state() / "calls");
}

fs::path Place::store() const {
  return state() / (kind_ == Kind::kTpm ? "tpm2-pkcs11" : "tokens");
}

void Place::save() {
  replace_all(folder_.path() / "saved", state());
  if (!tpm_) return;
  tpm_->kill();
  replace_all(folder_.path() / "saved-tpm", tpm_->folder() / "tpm");
  tpm_->restart();
}

void Place::restore() {
  kill();
  if (tpm_) {
    tpm_->kill();
    replace_all(tpm_->folder() / "tpm", folder_.path() / "saved-tpm");
  }
  replace_all(state(), folder_.path() / "saved");
  if (tpm_) tpm_->restart();
}

void Place::start(const std::vector<std::string>& launcher) {
  status_ = 0;
  std::vector<std::string> words = launcher;
  const std::string config = (state() / "keyagentd.yml").string();
  words.insert(words.end(), {KEYAGENTD, "--config", config, "--allow-root"});
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_ = ::fork();
  if (pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int out =
        ::open((state() / "agent.log").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    ::dup2(out, 1);
    ::dup2(out, 2);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  const auto until = std::chrono::steady_clock::now() + 60s;
  while (!serving() && !ended() && std::chrono::steady_clock::now() < until)
    std::this_thread::sleep_for(2ms);
}

bool Place::serving() const {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  (state() / "run/agent.sock").string().copy(address.sun_path, sizeof address.sun_path - 1);
  const int refused = ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address);
  ::close(fd);
  return refused == 0;
}

bool Place::ended() {
  int status = 0;
  if (pid_ > 0 && ::waitpid(pid_, &status, WNOHANG) == pid_) {
    status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    pid_ = 0;
  }
  return pid_ <= 0;
}

void Place::stop() {
  if (ended()) return;
  ::kill(pid_, SIGTERM);
  const auto until = std::chrono::steady_clock::now() + 10s;
  while (!ended() && std::chrono::steady_clock::now() < until) std::this_thread::sleep_for(2ms);
  kill();
}

void Place::kill() {
  if (ended()) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = 0;
}

client::Client Place::client() const {
  return client::Client({state() / "run/agent.sock", 20s});
}

std::string Place::log() const {
  return slurp(state() / "agent.log");
}

bool Place::token_lost() const {
  if (kind_ == Kind::kTpm) return false;
  for (const auto& entry : fs::recursive_directory_iterator(folder_.path() / "saved/tokens")) {
    if (entry.path().filename() != "token.object") continue;
    const auto now = state() / fs::relative(entry.path(), folder_.path() / "saved");
    return !fs::exists(now) || fs::file_size(now) != entry.file_size();
  }
  return false;
}

}  // namespace keyagent::test
