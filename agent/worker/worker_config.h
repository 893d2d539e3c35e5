// SPDX-License-Identifier: Apache-2.0
#pragma once
// worker.yml: which programs of this host do which tasks (keyagent-worker(1)).

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "agent/process/confined.h"

namespace keyagent::worker {

struct HandlerConfig {
  std::string name;
  std::filesystem::path program;
  std::optional<process::User> user;     // set when the worker is root and the handler must not be
  std::chrono::seconds seconds{600};     // for a task that names no time
  std::uint64_t memory = 0;              // limit in bytes; 0: inherited
  unsigned parallel = 1;                 // maximum number of concurrent runs
  std::vector<std::string> credentials;  // names that its tasks may have; no others
};

struct WorkerConfig {
  std::filesystem::path socket;          // empty: the default
  std::chrono::milliseconds poll{1000};  // how often the worker polls the agent for tasks
  std::vector<HandlerConfig> handlers;

  const HandlerConfig* find(const std::string& name) const;
};

// Throws Error{kConfiguration} with file and line: also for a program that does not exist, may be
// changed by others, or would run as root without saying so.
WorkerConfig load_worker_config(const std::filesystem::path& path);
WorkerConfig parse_worker_config(const std::string& text, const std::string& source);

}  // namespace keyagent::worker
