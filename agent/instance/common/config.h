// SPDX-License-Identifier: Apache-2.0
#pragma once
// keyinstanced.yml: parsed, defaulted and checked. Every field: keyinstanced.yml(5).

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "agent/instance/common/limits.h"

namespace keyagent::instance {

struct Endpoint {
  std::string address;
  std::uint16_t port = 0;
};

// The files of an external CA: its certificates, its CRL and the server certificate that it issued.
struct OutsideFiles {
  std::filesystem::path authority, crl, certificate;
};

// How many people a change needs: 1, or 2 (one requests it, another one approves).
struct Approvals {
  int peers = 1, automatic = 1, token_groups = 1, decrypt = 1, destroy = 1, users = 1;
};

struct InstanceConfig {
  std::filesystem::path source;
  std::string id;                  // [a-z0-9.-]{1,63}
  std::vector<std::string> hosts;  // names and addresses in the server certificate; the first is
                                   // the one that agents are sent to
  // agent: the keyagentd of this host
  std::filesystem::path agent_socket;
  std::string ca_key = "instance-ca", tls_key = "instance-tls",
              confirmation_key = "instance-confirm";
  std::optional<OutsideFiles> outside;    // instead of the CA key
  bool exchangeable_credentials = false;  // may the key of their values leave for other instances?
  std::string store_url;
  Endpoint api{"0.0.0.0", 8443}, agents{"0.0.0.0", 8444};
  std::string agents_url;  // where agents reach the listener; empty: the first host and its port
  std::chrono::milliseconds certificate_life{std::chrono::hours(24 * 60)};
  std::chrono::milliseconds crl_life{std::chrono::hours(24)};
  std::chrono::milliseconds session_life{std::chrono::hours(8)};
  std::chrono::milliseconds session_idle{std::chrono::hours(1)};
  std::chrono::milliseconds heartbeat{15000};
  std::chrono::milliseconds credential_max_age{0};  // 0: each agent's own limit
  std::chrono::milliseconds task_lease{60000};
  std::chrono::milliseconds task_history{std::chrono::hours(24 * 30)};
  Limits limits;
  Approvals approvals;
  bool require_bound = false;  // records: refuse an envelope that is not bound to its version
  std::string log_level = "info", log_format = "text";
};

// Throws Error{kConfiguration} with file, line and fix for the first fault.
InstanceConfig load_config(const std::filesystem::path& path);
InstanceConfig parse_config(std::string_view yaml, const std::string& source);

// Is this what agents and instances are called? [a-z0-9.-]{1,63}
bool is_id(std::string_view text);

// "https://host:port", a v6 address in brackets.
std::string https_url(const std::string& host, unsigned port);

}  // namespace keyagent::instance
