// SPDX-License-Identifier: Apache-2.0
#include "agent/worker/worker_config.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "agent/base/error.h"
#include "agent/base/ids.h"
#include "agent/base/trusted_path.h"
#include "agent/base/yaml_reader.h"

namespace keyagent::worker {
namespace {

[[noreturn]] void refuse(const std::string& where, const std::string& why) {
  throw Error(Code::kConfiguration, where + ": " + why);
}

void require_name(const std::string& name, const std::string& where) {
  if (KeyName::parse(name)) return;
  refuse(where, "a handler name must be 1 to 63 of a-z, 0-9, '.', '_' and '-'");
}

// "512M"
std::uint64_t bytes_of(const YamlReader& reader, const std::string& name) {
  if (!reader.has(name)) return 0;
  const std::string written = reader.text(name);
  std::uint64_t count = 0;
  const char* last = written.data() + written.size();
  const auto parsed = std::from_chars(written.data(), last, count);
  const std::string unit(parsed.ptr, last);
  const int shift = unit == "K" ? 10 : unit == "M" ? 20 : unit == "G" ? 30 : -1;
  if (parsed.ec != std::errc{} || shift < 0 || count == 0 || count > (1ULL << 40 >> shift))
    refuse(reader.where(name),
           "'" + name + "' must be a size such as 512M or 2G, not '" + written + "'");
  return count << shift;
}

// Who may change it does what it does.
void require_program(const std::filesystem::path& path, const std::string& where) {
  if (!path.is_absolute()) refuse(where, "'program' must be an absolute path");
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode))
    refuse(where, path.string() + " is not a program file");
  if ((info.st_mode & (S_IXUSR | S_IXGRP | S_IXOTH)) == 0)
    refuse(where, path.string() + " cannot be executed: chmod 0755 " + path.string());
  try {
    require_trusted(path);
  } catch (const Error& error) {
    refuse(where, error.what());
  }
}

std::optional<process::User> read_user(const YamlReader& reader) {
  const bool root = ::geteuid() == 0;
  if (!reader.has("user")) {
    if (root) refuse(reader.where(), "the worker runs as root: set the 'user' of its handlers");
    return std::nullopt;
  }
  const auto user = process::user_of(reader.text("user"));
  if (root) return user;
  if (user.uid != ::geteuid())
    refuse(reader.where("user"),
           "only a worker that runs as root can run handlers as another user");
  return std::nullopt;
}

HandlerConfig read_handler(const YamlReader& reader, const std::string& name) {
  HandlerConfig handler;
  handler.name = name;
  handler.program = reader.text("program");
  require_program(handler.program, reader.where("program"));
  handler.user = read_user(reader);
  handler.seconds = std::chrono::seconds(reader.integer("seconds", 600, 1, 7 * 86400));
  handler.memory = bytes_of(reader, "memory");
  handler.credentials = reader.texts("credentials");
  for (const auto& each : handler.credentials) {
    if (!KeyName::parse(each))
      refuse(reader.where("credentials"), "'" + each + "' is not the name of a credential");
  }
  handler.parallel = static_cast<unsigned>(reader.integer("parallel", 1, 1, 64));
  return handler;
}

WorkerConfig read_config(const YamlReader& reader) {
  WorkerConfig config;
  const auto agent = reader.child("agent");
  config.socket = agent.text("socket", "");
  config.poll = agent.duration("poll", config.poll);
  using namespace std::chrono_literals;
  if (config.poll < 20ms || config.poll > 60s)
    refuse(agent.where("poll"), "'poll' must be from 20ms to 60s");
  const auto handlers = reader.child("handlers");
  for (const auto& name : handlers.names()) {
    require_name(name, handlers.where(name));
    config.handlers.push_back(read_handler(handlers.child(name), name));
  }
  if (config.handlers.empty()) refuse(reader.where("handlers"), "it has no handlers");
  reader.finish();
  return config;
}

}  // namespace

const HandlerConfig* WorkerConfig::find(const std::string& name) const {
  const auto found = std::find_if(handlers.begin(), handlers.end(),
                                  [&](const auto& each) { return each.name == name; });
  return found == handlers.end() ? nullptr : &*found;
}

WorkerConfig load_worker_config(const std::filesystem::path& path) {
  return read_config(YamlReader::from_file(path));
}

WorkerConfig parse_worker_config(const std::string& text, const std::string& source) {
  return read_config(YamlReader::from_text(text, source));
}

}  // namespace keyagent::worker
