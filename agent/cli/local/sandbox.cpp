// SPDX-License-Identifier: Apache-2.0
#include "agent/cli/local/sandbox.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "agent/base/error.h"
#include "agent/cli/cli.h"
#include "agent/cli/local/installed.h"
#include "agent/cli/local/openssl_conf.h"
#include "agent/cli/local/private_agent.h"
#include "agent/config/trusted_files.h"
#include "agent/process/confined.h"

namespace keyagent::cli {
namespace {

using std::chrono::milliseconds;
using std::filesystem::path;

constexpr std::size_t kMaxSocketPath = 107;
constexpr milliseconds kBetweenRemovals{25};

// A socket's path is short, and SoftHSM2 takes '#' for a comment.
path folder_for_folders() {
  const char* named = std::getenv("TMPDIR");
  const std::string text = named == nullptr ? "" : named;
  const std::size_t longest =
      kMaxSocketPath - std::strlen("/keyagent-sandbox-XXXXXX/run/agent.sock");
  const bool usable = !text.empty() && text[0] == '/' && text.size() <= longest &&
                      text.find('#') == std::string::npos;
  return usable ? path(text) : path("/tmp");
}

void require_module(const std::string& profile) {
  const auto modules = config::load_trusted_profile(find_profile(profile)).modules;
  std::string searched;
  for (const auto& each : modules) {
    if (std::filesystem::exists(each)) return;
    searched += (searched.empty() ? "" : ", ") + each.string();
  }
  throw Error(Code::kConfiguration, "SoftHSM2 is not installed (searched: " + searched +
                                        "); install it: apt-get install softhsm2");
}

std::string policy_text() {
  return "# Of keyagent sandbox: the user that runs it may do everything but export keys.\n"
         "rules:\n"
         "  - name: sandbox\n"
         "    allow: [open, seal, sign, public, prove, create, destroy, rekey, suspend, reseal, "
         "decrypt, agree, status, audit, admin, credential, import, work]\n"
         "    credentials: [\"*\"]\n"
         "    who: {user: [\"" +
         std::to_string(::geteuid()) + "\"]}\n";
}

// In the process that removes the folder: returns once all others that had the pipe have ended.
[[noreturn]] void remove_when_closed(int pipe, const path& folder) {
  ::setsid();
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  for (const int each : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) ::dup2(null, each);
  char byte;
  while (::read(pipe, &byte, 1) != 0) continue;
  // An agent that was killed at this moment may still be writing.
  for (int i = 0; i < 100 && std::filesystem::exists(folder); ++i) {
    std::error_code again;
    std::filesystem::remove_all(folder, again);
    if (again) std::this_thread::sleep_for(kBetweenRemovals);
  }
  ::_exit(0);
}

}  // namespace

SandboxKey parse_sandbox_key(const std::string& text) {
  const auto equals = text.find('='), colon = text.find(':', equals == text.npos ? 0 : equals);
  SandboxKey key;
  const auto from = equals == text.npos ? 0 : equals + 1;
  key.purpose = text.substr(from, colon == text.npos ? text.npos : colon - from);
  if (colon != text.npos) key.algorithm = text.substr(colon + 1);
  key.name = equals == text.npos ? key.purpose : text.substr(0, equals);
  if (key.name.empty() || key.purpose.empty())
    throw Error(Code::kUsage, "--key " + text +
                                  ": expected [NAME=]PURPOSE[:ALGORITHM], for example "
                                  "releases=sign:ed25519");
  return key;
}

Sandbox::Sandbox(process::Supervisor& supervisor, const std::string& profile)
    : supervisor_(supervisor) {
  require_module(profile);
  make_folder();
  try {
    start_remover();
    make_token(profile);
    write_openssl_conf();
  } catch (...) {
    keep_folder_ = Fd();
    while (remover_ > 0 && ::waitpid(remover_, nullptr, 0) < 0 && errno == EINTR) continue;
    throw;
  }
}

Sandbox::~Sandbox() {
  // The program first, then what it used.
  supervisor_.stop_others({agent_, remover_});
  if (agent_ > 0) supervisor_.stop(agent_, kAgentEnd);
  keep_folder_ = Fd();
  while (::waitpid(remover_, nullptr, 0) < 0 && errno == EINTR) continue;
}

void Sandbox::make_folder() {
  const path base = folder_for_folders();
  std::string pattern = (base / "keyagent-sandbox-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr)
    throw Error(Code::kConfiguration, "no folder can be created in " + base.string() + ": " +
                                          std::strerror(errno) +
                                          "; set TMPDIR to a folder that you can write to");
  folder_ = pattern;
}

void Sandbox::start_remover() {
  process::Pipe pipe = process::make_pipe();
  const pid_t pid = ::fork();
  if (pid == 0) {
    pipe.write = Fd();
    remove_when_closed(pipe.read.get(), folder_);
  }
  if (pid < 0) {
    std::filesystem::remove(folder_);
    throw Error(Code::kPeer, std::string("no process can be started: ") + std::strerror(errno));
  }
  remover_ = pid;
  keep_folder_ = std::move(pipe.write);
}

void Sandbox::make_token(const std::string& profile) {
  const path state = folder_ / "state", log = folder_ / "provision.log";
  make_private_folder(state);
  make_private_folder(folder_ / "run");
  replace_file(state / "policy.yml", as_bytes(policy_text()));
  const Fd output(::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  process::Child child;
  child.program = provision_program();
  child.arguments = {child.program.string(),
                     "--state",
                     state.string(),
                     "--label",
                     "sandbox",
                     "--profile",
                     profile,
                     "--socket",
                     socket().string(),
                     "--socket-mode",
                     "0600",
                     "--ssh-socket",
                     ssh_socket().string(),
                     "--keyagent",
                     this_program().string()};
  child.environment = own_environment();
  child.output = output.get();
  const int status = supervisor_.wait_for(supervisor_.start(child));
  require_uninterrupted(supervisor_);
  if (status == 0) return;
  throw Error(status == 2 ? Code::kConfiguration : Code::kTokenFault,
              "the sandbox's token cannot be created:\n" + end_of(log) +
                  "TMPDIR selects another folder for it");
}

void Sandbox::write_openssl_conf() {
  const path module = provider_module();
  if (module.empty()) return;
  replace_file(folder_ / "openssl.cnf",
               as_bytes(openssl_conf(openssl_conf_of_host(), module, socket())));
}

void Sandbox::start_agent() {
  agent_ = cli::start_agent(supervisor_,
                            {folder_ / "state/keyagentd.yml", socket(), folder_ / "agent.log"});
}

void Sandbox::create(const SandboxKey& key) {
  Session session;
  session.globals.socket = socket().string();
  wire::Request request;
  request.mutable_key_create()->set_name(key.name);
  request.mutable_key_create()->set_purpose(key.purpose);
  request.mutable_key_create()->set_algorithm(key.algorithm);
  session.call(request);
  supervisor_.wait_for(agent_, milliseconds(0));
  require_uninterrupted(supervisor_);
}

void Sandbox::use_policy(const path& file) {
  const path used = folder_ / "state/policy.yml";
  replace_file(used, read_file(file));
  Session session;
  session.globals.socket = socket().string();
  wire::Request request;
  request.mutable_reload();
  try {
    session.call(request);
  } catch (const Error& error) {
    std::string text = error.what();
    const auto at = text.find(used.string());
    if (at != text.npos) text.replace(at, used.string().size(), file.string());
    throw Error(error.code(), text);
  }
}

std::vector<std::string> Sandbox::environment() const {
  auto variables = own_environment();
  set_variable(variables, "KEYAGENT_SOCKET", socket().string());
  set_variable(variables, "SSH_AUTH_SOCK", ssh_socket().string());
  remove_variable(variables, "SSH_AGENT_PID");  // of another agent, which ssh-agent -k would end
  if (std::filesystem::exists(folder_ / "openssl.cnf"))
    set_variable(variables, "OPENSSL_CONF", (folder_ / "openssl.cnf").string());
  return variables;
}

std::string Sandbox::why_agent_ended() {
  return supervisor_.wait_for(agent_, milliseconds(0)) ? end_of(folder_ / "agent.log")
                                                       : std::string();
}

}  // namespace keyagent::cli
