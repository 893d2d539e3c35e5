// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/common/config.h"

#include <algorithm>
#include <cctype>
#include <charconv>

#include "agent/base/error.h"
#include "agent/base/ids.h"
#include "agent/base/yaml_reader.h"

namespace keyagent::instance {
namespace {

using namespace std::chrono_literals;

[[noreturn]] void fail(const YamlReader& reader, const std::string& name, const std::string& text) {
  throw Error(Code::kConfiguration, reader.where(name) + ": " + text);
}

// "0.0.0.0:8443", "[::]:8443"
Endpoint read_endpoint(const YamlReader& listen, const std::string& name, Endpoint otherwise) {
  if (!listen.has(name)) return otherwise;
  const std::string text = listen.text(name);
  const auto colon = text.rfind(':');
  unsigned port = 0;
  const char* last = text.data() + text.size();
  const auto parsed = colon == std::string::npos
                          ? std::from_chars_result{last, std::errc::invalid_argument}
                          : std::from_chars(text.data() + colon + 1, last, port);
  if (parsed.ec != std::errc{} || parsed.ptr != last || port > 65535 || colon == 0)
    fail(listen, name,
         "'" + name + "' must be ADDRESS:PORT such as 0.0.0.0:8443, not '" + text + "'");
  std::string address = text.substr(0, colon);
  if (address.size() > 2 && address.front() == '[' && address.back() == ']')
    address = address.substr(1, address.size() - 2);
  return {address, static_cast<std::uint16_t>(port)};
}

std::string read_key(const YamlReader& agent, const std::string& name,
                     const std::string& otherwise) {
  const std::string key = agent.text(name, otherwise);
  if (!KeyName::parse(key)) fail(agent, name, "'" + key + "' is not a key name");
  return key;
}

void read_agent(const YamlReader& agent, InstanceConfig& config) {
  const std::string socket = agent.text("socket");
  if (socket.empty() || socket[0] != '/') fail(agent, "socket", "'socket' must be absolute");
  config.agent_socket = socket;
  config.ca_key = read_key(agent, "ca-key", config.ca_key);
  config.tls_key = read_key(agent, "tls-key", config.tls_key);
  read_key(agent, "storage-key", "instance-storage");  // credentials were under it before schema 6
  config.confirmation_key = read_key(agent, "confirmation-key", config.confirmation_key);
}

std::filesystem::path read_path(const YamlReader& ca, const std::string& name) {
  const std::filesystem::path path = ca.text(name);
  if (!path.is_absolute()) fail(ca, name, "'" + name + "' must be an absolute path");
  return path;
}

void read_authority(const YamlReader& ca, InstanceConfig& config) {
  if (!ca.has("outside") && !ca.has("crl") && !ca.has("certificate")) return;
  config.outside =
      OutsideFiles{read_path(ca, "outside"), read_path(ca, "crl"), read_path(ca, "certificate")};
}

void read_store(const YamlReader& store, InstanceConfig& config) {
  config.store_url = store.text("url");
  const bool sqlite = config.store_url.starts_with("sqlite:///");
  const bool postgresql =
      config.store_url.starts_with("postgresql://") || config.store_url.starts_with("postgres://");
  if (!sqlite && !postgresql)
    fail(store, "url", "'url' must be sqlite:///ABSOLUTE/PATH or postgresql://…");
  const auto at = config.store_url.find('@');
  const auto user = config.store_url.find("://") + 3;
  const bool in_user = at != std::string::npos &&
                       config.store_url.substr(user, at - user).find(':') != std::string::npos;
  if (postgresql && (in_user || config.store_url.find("password=") != std::string::npos))
    fail(store, "url",
         "a password must not be in a URL, which ends up in logs: use peer authentication or "
         "?passfile=/path (mode 0400)");
}

// "approvals: 2", or a number for each kind of change.
void read_approvals(const YamlReader& root, InstanceConfig& config) {
  auto& all = config.approvals;
  if (!root.has("approvals")) return;
  if (root.is_value("approvals")) {
    const auto number = static_cast<int>(root.integer("approvals", 1, 1, 2));
    all = {number, number, number, number, number, number};
    return;
  }
  const YamlReader each = root.child("approvals");
  for (const auto& [name, number] : {std::pair{"peers", &all.peers},
                                     {"automatic", &all.automatic},
                                     {"token-groups", &all.token_groups},
                                     {"decrypt", &all.decrypt},
                                     {"destroy", &all.destroy},
                                     {"users", &all.users}})
    *number = static_cast<int>(each.integer(name, 1, 1, 2));
}

InstanceConfig read(const YamlReader& root) {
  InstanceConfig config;
  config.id = root.text("id");
  if (!is_id(config.id)) fail(root, "id", "'id' must be [a-z0-9.-]{1,63}");
  config.hosts = root.texts("hosts");
  if (config.hosts.empty())
    fail(root, "hosts", "'hosts' must list the host names of this instance for agents and users");
  read_agent(root.child("agent"), config);
  read_authority(root.child("ca"), config);
  config.exchangeable_credentials = root.child("credentials").boolean("exchangeable", false);
  read_store(root.child("store"), config);
  const YamlReader listen = root.child("listen");
  config.api = read_endpoint(listen, "api", config.api);
  config.agents = read_endpoint(listen, "agents", config.agents);
  config.agents_url = listen.text("agents-url", "");
  if (!config.agents_url.empty() && !config.agents_url.starts_with("https://"))
    fail(listen, "agents-url",
         "'agents-url' must be https://NAME:PORT, where agents reach all replicas");
  const YamlReader times = root.child("times");
  config.certificate_life = times.duration("certificate", config.certificate_life);
  config.crl_life = times.duration("crl", config.crl_life);
  config.session_life = times.duration("session", config.session_life);
  config.session_idle = times.duration("session-idle", config.session_idle);
  config.heartbeat = times.duration("heartbeat", config.heartbeat);
  config.credential_max_age = times.duration("credential-max-age", config.credential_max_age);
  if (config.credential_max_age > 0s && config.credential_max_age < 1min)
    fail(times, "credential-max-age",
         "'credential-max-age' must be at least 1m, or 0s for no limit");
  config.task_lease = times.duration("task-lease", config.task_lease);
  config.task_history = times.duration("task-history", config.task_history);
  if (config.session_life < 1s || config.session_idle < 1s)
    fail(times, "", "'session' and 'session-idle' must be at least 1s");
  if (config.task_lease < 1s || config.task_lease > 24h)
    fail(times, "task-lease", "'task-lease' must be from 1s to 24h");
  if (config.task_history < 1s) fail(times, "task-history", "'task-history' must be at least 1s");
  if (config.certificate_life < 1h || config.crl_life < 1min || config.heartbeat < 1s)
    fail(times, "", "the minimum is 1h for certificates, 1m for CRLs and 1s for heartbeats");
  config.limits = read_limits(root.child("limits"));
  read_approvals(root, config);
  config.require_bound = root.child("records").boolean("require-bound", config.require_bound);
  const YamlReader log = root.child("log");
  config.log_level = log.text("level", config.log_level);
  config.log_format = log.text("format", config.log_format);
  root.finish();
  return config;
}

}  // namespace

bool is_id(std::string_view text) {
  return !text.empty() && text.size() <= 63 &&
         std::all_of(text.begin(), text.end(), [](unsigned char c) {
           return std::islower(c) != 0 || std::isdigit(c) != 0 || c == '.' || c == '-';
         });
}

std::string https_url(const std::string& host, unsigned port) {
  const bool v6 = host.find(':') != std::string::npos;
  return "https://" + (v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

InstanceConfig load_config(const std::filesystem::path& path) {
  auto config = read(YamlReader::from_file(path));
  config.source = path;
  return config;
}

InstanceConfig parse_config(std::string_view yaml, const std::string& source) {
  return read(YamlReader::from_text(yaml, source));
}

}  // namespace keyagent::instance
