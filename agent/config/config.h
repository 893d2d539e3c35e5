// SPDX-License-Identifier: Apache-2.0
#pragma once
// The agent's configuration: parsed, defaulted and checked. Format and every field:
// agent/config/README.md and keyagentd.yml(5).

#include <chrono>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/finding_kinds.h"
#include "agent/base/key_types.h"
#include "pkcs11/profile.h"

namespace keyagent::config {

struct PinFrom {
  enum class Kind { kSystemdCredential, kFile, kPrompt } kind = Kind::kFile;
  std::string value;  // credential name, or absolute path
};

// How long keys live; what is absent is the purpose's default.
struct KeyPeriod {
  std::optional<std::chrono::milliseconds> every, drain, idle, grace;
  std::optional<bool> automatic;
};

// How much the census of sealed data may hold (agent/keys/README.md).
struct CensusConfig {
  std::size_t sources_per_uid = 1000, rows_per_uid = 4000, sources_per_key = 1000, rows = 20000,
              source_bytes = 512;
};

struct RekeyConfig {
  std::map<Purpose, KeyPeriod> purposes;
  std::map<std::string, KeyPeriod> keys;  // by name; before purposes
  std::chrono::milliseconds warn{std::chrono::hours(24 * 7)};
  int jitter_percent = 10;
  // After the end of its cryptoperiod a key signs and seals for so long.
  std::chrono::milliseconds grace{std::chrono::hours(24 * 7)};
  int max_ordered_per_day = 2;  // rekeys of one key that an instance may order
  int max_generations = 8;      // of one key in the token; no rekey begins beyond
  std::filesystem::path hook;   // a program that must confirm a new key; empty: none
};

// Keys that sign for ssh only after the operator's confirmation program has answered yes.
struct SshConfirm {
  std::vector<std::string> keys;  // patterns on names, as in the policy; empty: none
  std::filesystem::path program;  // empty: such keys do not sign for ssh
  std::chrono::milliseconds timeout{std::chrono::seconds(30)};
  bool operator==(const SshConfirm&) const = default;
};

// A second socket, on which the agent speaks the ssh-agent protocol.
struct SshConfig {
  std::filesystem::path path;  // default: /run/keyagent/<agent_id>-ssh.sock
  unsigned mode = 0660;
  std::string group;        // may be empty
  bool forwarding = false;  // connections that ssh forwards from other hosts may sign
  SshConfirm confirm;
  bool operator==(const SshConfig&) const = default;
};

// What CA keys of this agent may certify (agent/gate/issuing.h).
struct IssuingConfig {
  std::vector<std::string> clients{"*"};  // ids of agents, as patterns
  std::vector<std::string> servers;       // names and addresses of servers; empty: any
  std::chrono::milliseconds max_certificate{std::chrono::hours(24 * 398)};
  std::chrono::milliseconds max_list{std::chrono::hours(24 * 30)};
};

struct AgentConfig {
  std::filesystem::path source;        // the file this came from
  std::string agent_id;                // [a-z0-9.-]{1,63}; default: the token's label
  std::filesystem::path state_folder;  // ledger, refused PIN; absolute
  std::filesystem::path audit_folder;  // default: state_folder/audit
  std::filesystem::path policy;        // absolute, or relative to the configuration file
  // token:
  std::filesystem::path profile_path;  // "softhsm2" (searched in the installed and the built-in
                                       // profile folders) or a path
  pkcs11::Profile profile;  // loaded, with token.module, sessions, deadline and environment applied
                            // where given
  std::string token_uri;    // "pkcs11:token=…;serial=…", as written
  std::string token_label, token_serial;
  PinFrom pin;
  bool take_over = false;  // token.take-over: replace another host's owner marker
  std::chrono::milliseconds stuck_exit{30000};
  // socket:
  std::filesystem::path
      socket;  // default: /run/keyagent/<agent_id>.sock, or from socket activation
  unsigned socket_mode = 0660;
  std::string socket_group;      // may be empty
  std::optional<SshConfig> ssh;  // absent: no such socket
  // limits:
  std::size_t connections = 4096, connections_per_uid = 1024, inflight_per_uid = 512;
  std::chrono::milliseconds idle_timeout{
      std::chrono::minutes(30)};                   // 0: never while a connection is between frames
  std::chrono::milliseconds frame_timeout{10000};  // a frame must be whole within this
  std::size_t failures_per_key_per_day =
      1000;  // failed opens before a caller is paused with a key for a day (RELIABILITY 107, 150)
  // Records of refusals and failures: of a caller at once and a minute, and for how many callers.
  std::uint32_t refusal_records = 100, refusal_records_per_minute = 6;
  std::size_t refusal_callers = 1024;
  std::uint32_t proofs_per_minute = 6;              // key show --prove, for a caller and key
  std::size_t unfinished_bytes_per_uid = 16 << 20;  // memory for requests that are not whole yet
  std::size_t ledger_history = 10000;               // changes of states kept, and finished rekeys
  CensusConfig census;
  RekeyConfig rekey;
  // link: how long cached credentials may be used after the last contact with the instance
  std::chrono::milliseconds credential_max_age{std::chrono::hours(24 * 7)};
  IssuingConfig issuing;
  // link: refuse credentials whose envelopes are not bound; absent: decided by the program version
  // that enrolled the agent.
  std::optional<bool> require_bound;
  // audit:
  std::string audit_key = "audit";  // created at first start when absent
  std::chrono::milliseconds audit_commit{5}, checkpoint_interval{60000};
  std::uint64_t checkpoint_records = 1000;
  // log:
  std::string log_level = "info", log_format = "text";
};

// One finding of `keyagent config check`. `severity`: "error" (the daemon refuses to start) or
// "warning".
struct ConfigFinding {
  std::string severity, where, text, cure;
  std::string id;                     // of base/finding_kinds.h
  std::vector<std::string> commands;  // those of the cure
};
ConfigFinding make_config_finding(const FindingKind& kind, const std::string& where,
                                  const std::string& text, FixValues values = {});

// Parses one file and the profile it names. No other user may be able to change them, nor any other
// file that decides (trusted_files.h). Throws Error{kConfiguration} with file, line and fix for
// the first fault.
AgentConfig load_config(const std::filesystem::path& path);
AgentConfig parse_config(std::string_view yaml, const std::string& source);
// All errors and insecure settings, without changing anything: modes and owners of configuration,
// policy, profile, module, PIN file, programs, what the profile's environment names, all folders
// above them, state and socket folders; the form of the PIN file; PIN in a URI; unknown users in
// the policy; profile not tested; contradictory settings.
std::vector<ConfigFinding> check_config(const std::filesystem::path& path);

}  // namespace keyagent::config
