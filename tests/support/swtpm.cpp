// SPDX-License-Identifier: Apache-2.0
#include "tests/support/swtpm.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <thread>
#include <vector>

#include "tests/support/command.h"
#include "tests/support/free_port.h"
#include "tests/support/shim_control.h"

namespace keyagent::test {
namespace {

constexpr const char* kTcti = "tabrmd:bus_type=session";

// A child that dies with this program, its output in `log`.
pid_t start(const std::vector<std::string>& command, const std::filesystem::path& log) {
  std::vector<char*> argv;
  for (const auto& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) throw std::runtime_error("fork failed");
  if (child > 0) return child;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);
  const int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  ::dup2(out, 1);
  ::dup2(out, 2);
  ::execvp(argv[0], argv.data());
  ::_exit(127);
}

void stop(pid_t& child) {
  if (child <= 0) return;
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  child = 0;
}

// swtpm wants two neighbours: one for commands, the next for control.
unsigned free_pair_of_ports() {
  for (int attempt = 0; attempt < 100; ++attempt) {
    const unsigned port = bind_once(0);
    if (port < 65535 && bind_once(port + 1) != 0) return port;
  }
  throw std::runtime_error("no two free ports");
}

// A socket's file is there before anybody listens.
bool accepts(const std::filesystem::path& socket) {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, socket.c_str(), sizeof address.sun_path - 1);
  const bool up = ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  ::close(fd);
  return up;
}

bool accepts(unsigned port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  const bool up = ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  ::close(fd);
  return up;
}

void await(const std::string& what, pid_t& child, const std::function<bool()>& ready) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!ready()) {
    if (::waitpid(child, nullptr, WNOHANG) == child) {
      child = 0;
      throw std::runtime_error(what + " ended at its start");
    }
    if (std::chrono::steady_clock::now() > until) throw std::runtime_error(what + " is not ready");
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

}  // namespace

std::string Swtpm::missing() {
  for (const char* program :
       {"swtpm", "tpm2-abrmd", "tpm2_ptool", "tpm2_getrandom", "dbus-daemon"}) {
    if (try_command("command -v " + std::string(program) + " >/dev/null").status != 0)
      return std::string(program) + " is not installed";
  }
  return "";
}

Swtpm::Swtpm(const std::string& label) : label_(label), port_(free_pair_of_ports()) {
  std::filesystem::create_directory(folder() / "tpm");
  std::filesystem::create_directory(folder() / "tpm2-pkcs11");
  ::setenv("TPM2_PKCS11_TCTI", kTcti, 1);
  ::setenv("TPM2TOOLS_TCTI", kTcti, 1);
  ::setenv("TPM2_PKCS11_STORE", (folder() / "tpm2-pkcs11").c_str(), 1);
  start_bus();
  start_tpm();
  make_token();
}

Swtpm::~Swtpm() {
  kill();
  stop(bus_);
}

void Swtpm::start_bus() {
  const auto socket = folder() / "bus";
  const std::string address = "unix:path=" + socket.string();
  bus_ = start({"dbus-daemon", "--session", "--nofork", "--nopidfile", "--address=" + address},
               folder() / "dbus.log");
  await("dbus-daemon", bus_, [&] { return accepts(socket); });
  ::setenv("DBUS_SESSION_BUS_ADDRESS", address.c_str(), 1);
}

// Another test may take a port between the look and the bind: then with others.
void Swtpm::start_tpm() {
  constexpr int kAttempts = 5;
  for (int attempt = 1;; ++attempt) {
    try {
      return start_tpm_once();
    } catch (const std::runtime_error&) {
      if (attempt == kAttempts) throw;
      kill();
      port_ = free_pair_of_ports();
    }
  }
}

void Swtpm::start_tpm_once() {
  const auto port = std::to_string(port_);
  tpm_ = start(
      {"swtpm", "socket", "--tpm2", "--tpmstate", "dir=" + (folder() / "tpm").string(), "--server",
       "type=tcp,port=" + port, "--ctrl", "type=tcp,port=" + std::to_string(port_ + 1), "--flags",
       "not-need-init,startup-clear"},
      folder() / "swtpm.log");
  // The control port: swtpm serves one client on the other, and that is the resource manager.
  await("swtpm", tpm_, [&] { return accepts(port_ + 1); });
  start_manager();
  if (::waitpid(tpm_, nullptr, WNOHANG) == tpm_) {
    tpm_ = 0;
    throw std::runtime_error("swtpm ended: another program has its ports");
  }
}

void Swtpm::start_manager() {
  manager_ = start({"tpm2-abrmd", "--session", "--allow-root", "--tcti",
                    "swtpm:host=127.0.0.1,port=" + std::to_string(port_)},
                   folder() / "abrmd.log");
  await("tpm2-abrmd", manager_,
        [] { return try_command("tpm2_getrandom --hex 4 >/dev/null 2>&1").status == 0; });
}

void Swtpm::make_token() {
  const std::string path = " --path '" + (folder() / "tpm2-pkcs11").string() + "'";
  run_command("tpm2_ptool init" + path);
  run_command("tpm2_ptool addtoken --pid 1 --label '" + label_ + "' --sopin '" + so_pin_ +
              "' --userpin '" + pin_ + "'" + path);
}

void Swtpm::kill_manager() {
  stop(manager_);
}

void Swtpm::restart_manager() {
  kill_manager();
  start_manager();
}

void Swtpm::run_directly(const std::string& command) const {
  run_command("TPM2TOOLS_TCTI=swtpm:host=127.0.0.1,port=" + std::to_string(port_) + " " + command);
}

void Swtpm::clear() {
  kill();
  std::filesystem::remove_all(folder() / "tpm");
  std::filesystem::create_directory(folder() / "tpm");
  start_tpm();
}

void Swtpm::kill() {
  stop(manager_);
  stop(tpm_);
}

void Swtpm::restart() {
  kill();
  start_tpm();
}

pkcs11::Profile Swtpm::profile() const {
  return pkcs11::load_profile(std::filesystem::path(KEYAGENT_SOURCE) / "hsm-profiles/tpm2.yml");
}

pkcs11::Profile Swtpm::shimmed_profile() const {
  return shim::in_front_of(profile());
}

pkcs11::TokenOptions Swtpm::options() const {
  pkcs11::TokenOptions options;
  options.selector.label = label_;
  options.pin = [pin = pin_] { return pkcs11::SecretBytes(pin.begin(), pin.end()); };
  options.state_folder = folder();
  options.backoff_first = std::chrono::milliseconds(5);
  options.backoff_most = std::chrono::milliseconds(40);
  return options;
}

std::shared_ptr<pkcs11::Token> Swtpm::open() const {
  return std::make_shared<pkcs11::Token>(profile(), options());
}

}  // namespace keyagent::test
