// SPDX-License-Identifier: Apache-2.0
#include "agent/cli/local/private_agent.h"

#include <fcntl.h>
#include <unistd.h>

#include <chrono>

#include "agent/base/disk.h"
#include "agent/base/error.h"
#include "agent/cli/local/installed.h"
#include "agent/client/client.h"

namespace keyagent::cli {
namespace {

using std::chrono::milliseconds;
using std::filesystem::path;

constexpr milliseconds kAnswer{60000}, kTry{2000}, kBetweenTries{25};

}  // namespace

void require_uninterrupted(const process::Supervisor& supervisor) {
  if (supervisor.interrupted() != 0) throw Interrupted{supervisor.interrupted()};
}

std::vector<std::string> own_environment() {
  std::vector<std::string> variables;
  for (char** each = environ; *each != nullptr; ++each) variables.emplace_back(*each);
  return variables;
}

void remove_variable(std::vector<std::string>& variables, const std::string& name) {
  std::erase_if(variables, [&](const std::string& each) { return each.starts_with(name + "="); });
}

void set_variable(std::vector<std::string>& variables, const std::string& name,
                  const std::string& value) {
  remove_variable(variables, name);
  variables.push_back(name + "=" + value);
}

std::string end_of(const path& log) {
  constexpr std::size_t kShown = 2000;
  std::string text;
  try {
    text = as_text(read_file(log, std::size_t{1} << 24));
  } catch (const Error&) {
    return {};
  }
  if (text.size() > kShown) text = text.substr(text.find('\n', text.size() - kShown) + 1);
  return text;
}

pid_t start_agent(process::Supervisor& supervisor, const PrivateAgent& agent) {
  const Fd output(::open(agent.log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  process::Child child;
  child.program = daemon_program();
  child.arguments = {child.program.string(), "--config", agent.config.string()};
  // Its refusal is for hosts with other users; root is often the only one in a container.
  if (::geteuid() == 0) child.arguments.emplace_back("--allow-root");
  child.environment = own_environment();
  // This process is not the service that systemd started.
  for (const char* each : {"NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "WATCHDOG_USEC"})
    remove_variable(child.environment, each);
  child.output = output.get();
  child.detached = true;
  const pid_t pid = supervisor.start(child);
  client::Client::Options options;
  options.socket = agent.socket;
  options.deadline = kTry;
  wire::Request status;
  status.mutable_status();
  const auto end = std::chrono::steady_clock::now() + kAnswer;
  while (!supervisor.wait_for(pid, kBetweenTries)) {
    require_uninterrupted(supervisor);
    if (std::chrono::steady_clock::now() > end) break;
    try {
      client::Client(options).call(status);
      return pid;
    } catch (const Error& error) {
      if (error.code() != Code::kPeer && error.code() != Code::kDeadline) throw;
    }
  }
  throw Error(Code::kPeer, "the agent does not start:\n" + end_of(agent.log));
}

}  // namespace keyagent::cli
