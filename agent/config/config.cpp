// SPDX-License-Identifier: Apache-2.0
#include "agent/config/config.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <type_traits>

#include "agent/base/error.h"
#include "agent/base/ids.h"
#include "agent/base/yaml_reader.h"
#include "agent/config/rekey_config.h"
#include "agent/config/trusted_files.h"
#include "pkcs11/error.h"
#include "pkcs11/uri.h"

namespace keyagent::config {
namespace {

using std::filesystem::path;

// Limits of the time to answer a confirmation.
constexpr auto kShortestTimeout = std::chrono::seconds(1);
constexpr auto kLongestTimeout = std::chrono::minutes(10);
// A request of the greatest size arrives in it.
constexpr long kLeastUnfinished = 512 * 1024;
constexpr long kLeastHistory = 100;
constexpr auto kLongestCredentialAge = std::chrono::hours(24 * 365);

[[noreturn]] void fail(const YamlReader& reader, const std::string& name, const std::string& text) {
  throw Error(Code::kConfiguration, reader.where(name) + ": " + text);
}

path absolute(const YamlReader& reader, const std::string& name, const std::string& value) {
  if (value.empty() || value[0] != '/')
    fail(reader, name, "'" + name + "' must be an absolute path, not '" + value + "'");
  return path(value).lexically_normal();
}

bool is_agent_id(const std::string& text) {
  return !text.empty() && text.size() <= 63 &&
         std::all_of(text.begin(), text.end(), [](unsigned char c) {
           return std::islower(c) != 0 || std::isdigit(c) != 0 || c == '.' || c == '-';
         });
}

// "softhsm2" is looked for where profiles are installed, then in the source tree of a build that
// was not installed.
path find_profile(const YamlReader& token, const std::string& name) {
  if (name.find('/') != std::string::npos) return absolute(token, "profile", name);
  for (const char* folder : {KEYAGENT_PROFILES, KEYAGENT_SOURCE_PROFILES}) {
    const path candidate = path(folder) / (name + ".yml");
    if (std::filesystem::exists(candidate)) return candidate;
  }
  fail(token, "profile", "no profile '" + name + "' (looked in " KEYAGENT_PROFILES ")");
}

PinFrom read_pin(const YamlReader& token, const pkcs11::Uri& uri) {
  if (!token.has("pin")) {
    if (uri.pin_source) return {PinFrom::Kind::kFile, uri.pin_source->substr(5)};
    fail(token, "",
         "'pin' is missing: set it to 'credential: NAME', 'file: /path' or 'prompt: true'");
  }
  const YamlReader pin = token.child("pin");
  for (const char* name : {"env", "environment", "value"}) {
    if (pin.has(name))
      fail(pin, name,
           "a PIN must not be in the environment or in this file, where others could read it: "
           "write it to a file with mode 0400 and set 'file: /path'");
  }
  const int given =
      pin.has("credential") + pin.has("file") + pin.has("prompt") + (uri.pin_source ? 1 : 0);
  if (given != 1)
    fail(token, "pin",
         "'pin' needs exactly one of 'credential', 'file' and 'prompt' (and no pin-source in the "
         "URI)");
  if (pin.has("credential")) return {PinFrom::Kind::kSystemdCredential, pin.text("credential")};
  if (pin.has("file"))
    return {PinFrom::Kind::kFile, absolute(pin, "file", pin.text("file")).string()};
  if (!pin.boolean("prompt", false)) fail(token, "pin", "'prompt' can only be true");
  return {PinFrom::Kind::kPrompt, {}};
}

pkcs11::Uri read_uri(const YamlReader& token, AgentConfig& config) {
  config.token_uri = token.text("uri");
  // Looked for in the text, so that no message of a parser can repeat the PIN.
  if (config.token_uri.find("pin-value") != std::string::npos)
    fail(token, "uri",
         "a PIN must not be in a URI, which ends up in logs and process lists: remove 'pin-value' "
         "and set 'pin' to a 'credential' or a 'file'");
  try {
    auto uri = pkcs11::parse_uri(config.token_uri);
    if (!uri.token && !uri.serial)
      fail(token, "uri", "the URI must name 'token', 'serial' or both");
    if (uri.module_path)
      fail(token, "uri", "'module-path' is ignored; set the module in the profile or as 'module'");
    return uri;
  } catch (const pkcs11::Error& error) {
    fail(token, "uri", error.what());
  }
}

// Whether files that the configuration names must pass the checks of trusted_files.h to be read.
enum class Reading { kAny, kTrusted };

void read_profile(const YamlReader& token, AgentConfig& config, Reading reading) {
  config.profile_path = find_profile(token, token.text("profile"));
  try {
    config.profile = reading == Reading::kTrusted ? load_trusted_profile(config.profile_path)
                                                  : pkcs11::load_profile(config.profile_path);
  } catch (const pkcs11::Error& error) {
    fail(token, "profile", error.what());
  }
  if (token.has("module"))
    config.profile.modules = {absolute(token, "module", token.text("module"))};
  config.profile.sessions = static_cast<std::size_t>(
      token.integer("sessions", static_cast<long>(config.profile.sessions), 1, 1024));
  config.profile.deadline = token.duration("deadline", config.profile.deadline);
}

void read_token(const YamlReader& token, AgentConfig& config, Reading reading) {
  const pkcs11::Uri uri = read_uri(token, config);
  config.token_label = uri.token.value_or("");
  config.token_serial = uri.serial.value_or("");
  read_profile(token, config, reading);
  config.pin = read_pin(token, uri);
  const YamlReader environment = token.child("environment");
  for (const auto& name : environment.names())
    config.profile.environment[name] = environment.text(name);
  config.take_over = token.boolean("take-over", false);
  config.stuck_exit = token.duration("stuck-exit", config.stuck_exit);
}

void read_limits(const YamlReader& limits, AgentConfig& config) {
  const auto count = [&](const char* name, auto& value, long most, long least = 1) {
    value = static_cast<std::remove_reference_t<decltype(value)>>(
        limits.integer(name, static_cast<long>(value), least, most));
  };
  count("connections", config.connections, 100000);
  count("connections-per-uid", config.connections_per_uid, 100000);
  count("inflight-per-uid", config.inflight_per_uid, 100000);
  count("failures-per-key-per-day", config.failures_per_key_per_day, 1000000);
  count("refusal-records", config.refusal_records, 100000);
  count("refusal-records-per-minute", config.refusal_records_per_minute, 6000);
  count("refusal-callers", config.refusal_callers, 100000);
  count("proofs-per-minute", config.proofs_per_minute, 6000);
  count("unfinished-bytes-per-uid", config.unfinished_bytes_per_uid, 1L << 30, kLeastUnfinished);
  count("ledger-history", config.ledger_history, 1000000, kLeastHistory);
  count("census-sources-per-uid", config.census.sources_per_uid, 100000);
  count("census-rows-per-uid", config.census.rows_per_uid, 100000);
  count("census-sources-per-key", config.census.sources_per_key, 100000);
  count("census-rows", config.census.rows, 100000);
  count("census-source-bytes", config.census.source_bytes, 4096);
  config.idle_timeout = limits.duration("idle-timeout", config.idle_timeout);
  config.frame_timeout = limits.duration("frame-timeout", config.frame_timeout);
}

// chmod's way of writing it; 660 and 0660 are the same.
unsigned read_mode(const YamlReader& socket, unsigned otherwise) {
  if (!socket.has("mode")) return otherwise;
  const std::string text = socket.text("mode");
  unsigned mode = 0;
  const char* last = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), last, mode, 8);
  if (parsed.ec != std::errc{} || parsed.ptr != last || mode > 0777)
    fail(socket, "mode", "'mode' must be octal digits such as 0660, not '" + text + "'");
  return mode;
}

std::string read_word(const YamlReader& reader, const std::string& name,
                      const std::vector<std::string>& known) {
  const std::string text = reader.text(name, known.front());
  if (std::find(known.begin(), known.end(), text) != known.end()) return text;
  std::string list;
  for (const auto& each : known) list += (list.empty() ? "" : ", ") + each;
  fail(reader, name, "'" + name + "' must be one of " + list + ", not '" + text + "'");
}

path read_socket_path(const YamlReader& socket, const std::string& otherwise) {
  path value = absolute(socket, "path", socket.text("path", otherwise));
  if (value.string().size() > 107) fail(socket, "path", "a socket path has at most 107 bytes");
  return value;
}

SshConfirm read_confirm(const YamlReader& confirm) {
  SshConfirm out;
  out.keys = confirm.texts("keys");
  for (const auto& each : out.keys) {
    if (each.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789._-*") != each.npos)
      fail(confirm, "keys", "'" + each + "' is not a pattern of key names (a-z 0-9 . _ - and *)");
  }
  if (out.keys.empty())
    fail(confirm, "", "'confirm' needs 'keys': the names of the keys that require confirmation");
  if (confirm.has("program")) out.program = absolute(confirm, "program", confirm.text("program"));
  out.timeout = confirm.duration("timeout", out.timeout);
  if (out.timeout < kShortestTimeout || out.timeout > kLongestTimeout)
    fail(confirm, "timeout", "'timeout' must be 1s to 10m");
  return out;
}

void read_ssh(const YamlReader& ssh, AgentConfig& config) {
  SshConfig out;
  out.path = read_socket_path(ssh, "/run/keyagent/" + config.agent_id + "-ssh.sock");
  if (out.path == config.socket)
    fail(ssh, "path",
         "'path' is the agent's main socket: the protocols differ, choose another path");
  out.mode = read_mode(ssh, out.mode);
  out.group = ssh.text("group", "");
  out.forwarding = ssh.boolean("forwarding", false);
  if (ssh.has("confirm")) out.confirm = read_confirm(ssh.child("confirm"));
  config.ssh = std::move(out);
}

void read_socket(const YamlReader& socket, AgentConfig& config) {
  config.socket = read_socket_path(socket, "/run/keyagent/" + config.agent_id + ".sock");
  config.socket_mode = read_mode(socket, config.socket_mode);
  config.socket_group = socket.text("group", "");
}

void read_link(const YamlReader& link, AgentConfig& config) {
  config.credential_max_age = link.duration("credential-max-age", config.credential_max_age);
  if (config.credential_max_age < std::chrono::minutes(1) ||
      config.credential_max_age > kLongestCredentialAge)
    fail(link, "credential-max-age", "'credential-max-age' must be 1m to 365d");
  if (link.has("require-bound")) config.require_bound = link.boolean("require-bound", true);
}

void read_audit(const YamlReader& audit, AgentConfig& config) {
  config.audit_folder =
      absolute(audit, "folder", audit.text("folder", (config.state_folder / "audit").string()));
  config.audit_key = audit.text("key", config.audit_key);
  if (!KeyName::parse(config.audit_key))
    fail(audit, "key",
         "'key' must be the name of a key (a-z 0-9 . _ -), not '" + config.audit_key + "'");
  config.audit_commit = audit.duration("commit", config.audit_commit);
  config.checkpoint_interval = audit.duration("checkpoint-interval", config.checkpoint_interval);
  config.checkpoint_records =
      static_cast<std::uint64_t>(audit.integer("checkpoint-records", 1000, 1, 1000000));
}

void require_patterns(const YamlReader& reader, const std::string& name,
                      const std::vector<std::string>& values, const char* more) {
  for (const auto& each : values) {
    const std::string known = "abcdefghijklmnopqrstuvwxyz0123456789.-";
    if (each.empty() || each.find_first_not_of(known + more) != each.npos)
      fail(reader, name, "'" + each + "' is not allowed in '" + name + "'");
  }
}

IssuingConfig read_issuing(const YamlReader& issuing) {
  IssuingConfig out;
  if (issuing.has("clients")) out.clients = issuing.texts("clients");
  require_patterns(issuing, "clients", out.clients, "*");
  out.servers = issuing.texts("servers");
  require_patterns(issuing, "servers", out.servers, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_:");
  out.max_certificate = issuing.duration("max-certificate", out.max_certificate);
  out.max_list = issuing.duration("max-list", out.max_list);
  if (out.max_certificate < std::chrono::hours(1) || out.max_list < std::chrono::minutes(1))
    fail(issuing, "", "the minimum is 1h for certificates and 1m for revocation lists");
  return out;
}

AgentConfig read_config(const YamlReader& reader, const path& source, Reading reading) {
  AgentConfig config;
  config.source = source;
  config.state_folder = absolute(reader, "state-folder", reader.text("state-folder"));
  if (!reader.has("token"))
    fail(reader, "", "'token' is missing: set its 'uri', 'profile' and 'pin'");
  read_token(reader.child("token"), config, reading);
  config.agent_id = reader.text("agent-id", config.token_label);
  if (!is_agent_id(config.agent_id)) {
    fail(reader, "agent-id",
         "'agent-id' must be 1 to 63 of a-z 0-9 . - (it is '" + config.agent_id + "')");
  }
  const path policy = reader.text("policy");
  config.policy = policy.is_absolute() ? policy : source.parent_path() / policy;
  read_socket(reader.child("socket"), config);
  if (reader.has("ssh")) read_ssh(reader.child("ssh"), config);
  read_limits(reader.child("limits"), config);
  config.rekey = read_rekey(reader.child("rekey"));
  read_link(reader.child("link"), config);
  config.issuing = read_issuing(reader.child("issuing"));
  read_audit(reader.child("audit"), config);
  const YamlReader log = reader.child("log");
  config.log_level = read_word(log, "level", {"info", "debug", "warning", "error"});
  config.log_format = read_word(log, "format", {"text", "json"});
  reader.finish();
  return config;
}

}  // namespace

AgentConfig load_config(const path& source) {
  auto config = read_config(YamlReader::from_file(source), std::filesystem::absolute(source),
                            Reading::kTrusted);
  require_files(deciding_files(config));
  return config;
}

AgentConfig parse_config(std::string_view yaml, const std::string& source) {
  return read_config(YamlReader::from_text(yaml, source), source, Reading::kAny);
}

}  // namespace keyagent::config
