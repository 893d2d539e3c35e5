// SPDX-License-Identifier: Apache-2.0
#include "agent/config/config.h"

#include <gmock/gmock.h>

#include "agent/base/error.h"

namespace keyagent::config {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::string_view kSmallest = R"(
state-folder: /var/lib/keyagent
policy: policy.yml
token:
  uri: "pkcs11:token=mail;serial=0123456789abcdef"
  profile: softhsm2
  pin: {file: /etc/keyagent/pin}
)";

// kSmallest with one line replaced, taken out, or added at the end.
std::string with(const std::string& line, const std::string& instead) {
  std::string text(kSmallest);
  const auto at = text.find(line);
  if (at == std::string::npos) throw std::logic_error("no such line: " + line);
  return text.replace(at, line.size(), instead);
}
std::string plus(const std::string& lines) {
  return std::string(kSmallest) + lines;
}

std::string fault_of(const std::string& yaml) {
  try {
    parse_config(yaml, "/etc/keyagent/keyagentd.yml");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kConfiguration);
    return error.what();
  }
  ADD_FAILURE() << "accepted: " << yaml;
  return {};
}

TEST(Config, SmallestFileHasSafeDefaults) {
  const auto config = parse_config(kSmallest, "/etc/keyagent/keyagentd.yml");
  EXPECT_EQ(config.agent_id, "mail");
  EXPECT_EQ(config.token_label, "mail");
  EXPECT_EQ(config.token_serial, "0123456789abcdef");
  EXPECT_EQ(config.policy, "/etc/keyagent/policy.yml");
  EXPECT_EQ(config.audit_folder, "/var/lib/keyagent/audit");
  EXPECT_EQ(config.socket, "/run/keyagent/mail.sock");
  EXPECT_EQ(config.socket_mode, 0660U);
  EXPECT_FALSE(config.ssh);
  EXPECT_EQ(config.profile.name, "softhsm2");
  EXPECT_EQ(config.pin.kind, PinFrom::Kind::kFile);
  EXPECT_EQ(config.pin.value, "/etc/keyagent/pin");
  EXPECT_FALSE(config.take_over);
  EXPECT_EQ(config.failures_per_key_per_day, 1000U);
  EXPECT_EQ(config.log_level, "info");
}

TEST(Config, SshSocketHasSafeDefaults) {
  const auto config = parse_config(plus("ssh: {}\n"), "/x/y.yml");
  EXPECT_EQ(config.ssh, (SshConfig{"/run/keyagent/mail-ssh.sock", 0660, "", false, {}}));
}

TEST(Config, EveryFieldIsRead) {
  const auto config = parse_config(R"(
agent-id: mail-1.example
state-folder: /srv/state
audit: {folder: /srv/audit, key: audit-2026, commit: 7ms, checkpoint-interval: 30s, checkpoint-records: 50}
policy: /srv/policy.yml
token:
  uri: "pkcs11:token=mail"
  profile: )" KEYAGENT_SOURCE R"(/hsm-profiles/tpm2.yml
  module: /opt/vendor/libtoken.so
  sessions: 2
  deadline: 9s
  pin: {credential: pin}
  take-over: true
  stuck-exit: 1m
socket: {path: /run/mail.sock, mode: 0600, group: mail}
ssh: {path: /run/mail-ssh.sock, mode: 0666, group: ssh-users, forwarding: true, confirm: {program: /opt/ask, keys: [deploy, "web-*"], timeout: 1m}}
limits: {connections: 10, connections-per-uid: 5, inflight-per-uid: 4, failures-per-key-per-day: 3, idle-timeout: 10m, frame-timeout: 1s,
  refusal-records: 7, refusal-records-per-minute: 8, refusal-callers: 9, proofs-per-minute: 11, unfinished-bytes-per-uid: 524288, ledger-history: 120}
log: {level: debug, format: json}
)",
                                   "/etc/keyagent/keyagentd.yml");
  EXPECT_EQ(config.agent_id, "mail-1.example");
  EXPECT_EQ(config.state_folder, "/srv/state");
  EXPECT_EQ(config.audit_folder, "/srv/audit");
  EXPECT_EQ(config.audit_key, "audit-2026");
  EXPECT_EQ(config.audit_commit, std::chrono::milliseconds(7));
  EXPECT_EQ(config.checkpoint_interval, std::chrono::seconds(30));
  EXPECT_EQ(config.checkpoint_records, 50U);
  EXPECT_EQ(config.policy, "/srv/policy.yml");
  EXPECT_EQ(config.profile.name, "tpm2");
  EXPECT_THAT(config.profile.modules, ElementsAre("/opt/vendor/libtoken.so"));
  EXPECT_EQ(config.profile.sessions, 2U);
  EXPECT_EQ(config.profile.deadline, std::chrono::seconds(9));
  EXPECT_EQ(config.pin.kind, PinFrom::Kind::kSystemdCredential);
  EXPECT_EQ(config.pin.value, "pin");
  EXPECT_TRUE(config.take_over);
  EXPECT_EQ(config.stuck_exit, std::chrono::minutes(1));
  EXPECT_EQ(config.socket, "/run/mail.sock");
  EXPECT_EQ(config.socket_mode, 0600U);
  EXPECT_EQ(config.socket_group, "mail");
  EXPECT_EQ(config.ssh, (SshConfig{"/run/mail-ssh.sock",
                                   0666,
                                   "ssh-users",
                                   true,
                                   {{"deploy", "web-*"}, "/opt/ask", std::chrono::minutes(1)}}));
  EXPECT_EQ(config.connections, 10U);
  EXPECT_EQ(config.connections_per_uid, 5U);
  EXPECT_EQ(config.inflight_per_uid, 4U);
  EXPECT_EQ(config.failures_per_key_per_day, 3U);
  EXPECT_EQ(config.idle_timeout, std::chrono::minutes(10));
  EXPECT_EQ(config.frame_timeout, std::chrono::seconds(1));
  EXPECT_EQ(config.refusal_records, 7U);
  EXPECT_EQ(config.refusal_records_per_minute, 8U);
  EXPECT_EQ(config.refusal_callers, 9U);
  EXPECT_EQ(config.proofs_per_minute, 11U);
  EXPECT_EQ(config.unfinished_bytes_per_uid, 524288U);
  EXPECT_EQ(config.ledger_history, 120U);
  EXPECT_EQ(config.log_level, "debug");
  EXPECT_EQ(config.log_format, "json");
}

TEST(Config, PinSourceInTheUriIsAFile) {
  const auto config = parse_config(
      with("  uri: \"pkcs11:token=mail;serial=0123456789abcdef\"\n  profile: softhsm2\n"
           "  pin: {file: /etc/keyagent/pin}\n",
           "  uri: \"pkcs11:token=mail?pin-source=file:/etc/keyagent/pin\"\n  profile: softhsm2\n"),
      "/etc/keyagent/keyagentd.yml");
  EXPECT_EQ(config.pin.kind, PinFrom::Kind::kFile);
  EXPECT_EQ(config.pin.value, "/etc/keyagent/pin");
}

// Wherever someone writes a PIN, it is refused, and no message repeats it.
TEST(Config, Fault120_Fault121_PinInTheFileIsRefusedAndNotRepeated) {
  const std::string uri = "\"pkcs11:token=mail;serial=0123456789abcdef\"";
  const std::string pin = "{file: /etc/keyagent/pin}";
  const std::string kTexts[] = {with(uri, "\"pkcs11:token=mail?pin-value=s3cr3t\""),
                                with(uri, "\"pkcs11:token=mail;pin-value=s3cr3t\""),
                                with(uri, "\"pkcs11:token=mail?pin-value=s3cr3t%zz\""),
                                with(pin, "s3cr3t"),
                                with(pin, "{value: s3cr3t}"),
                                with(pin, "{env: s3cr3t}"),
                                with(pin, "{environment: s3cr3t}"),
                                with("pin: {file: /etc/keyagent/pin}", "pin-value: s3cr3t"),
                                plus("pin: s3cr3t\n")};
  for (const auto& text : kTexts) {
    EXPECT_THAT(fault_of(text), Not(HasSubstr("s3cr3t"))) << text;
  }
  EXPECT_THAT(fault_of(kTexts[0]), HasSubstr("keyagentd.yml:5: a PIN must not be in a URI"));
  EXPECT_THAT(fault_of(kTexts[5]), HasSubstr("must not be in the environment"));
}

TEST(Config, Fault122_EachMistakeIsRefusedAndNamed) {
  const std::string uri = "\"pkcs11:token=mail;serial=0123456789abcdef\"";
  const std::string pin = "{file: /etc/keyagent/pin}";
  const std::pair<std::string, const char*> kMistakes[] = {
      {"", "'state-folder' is missing"},
      {"state-folder: /x\n", "'token' is missing"},
      {with("/var/lib/keyagent", "var/lib"), ":2: 'state-folder' must be an absolute path"},
      {with("policy: policy.yml\n", ""), "'policy' is missing"},
      {with("profile: softhsm2", "profile: softhsm3"), "no profile 'softhsm3'"},
      {with("profile: softhsm2", "profile: ./softhsm2.yml"), "absolute path"},
      {with("profile: softhsm2", "profile: /dev/null"), "keyagentd.yml:6"},
      {with(uri, "\"pkcs11:object=x\""), "must name 'token', 'serial' or both"},
      {with(uri, "\"http://x\""), "keyagentd.yml:5"},
      {with(uri, "\"pkcs11:token=mail?module-path=/tmp/x.so\""), "'module-path' is ignored"},
      {with(uri, "\"pkcs11:slot-id=3\""), "slot"},
      {with(uri, "\"pkcs11:token=My%20Token\""), "'agent-id' must be"},
      {with(pin, "{}"), "exactly one of"},
      {with(pin, "{file: /a, credential: b}"), "exactly one of"},
      {with(uri, "\"pkcs11:token=mail?pin-source=file:/x\""), "exactly one of"},
      {with(pin, "{file: pin}"), "absolute path"},
      {with(pin, "{prompt: false}"), "'prompt' can only be true"},
      {with("  pin: {file: /etc/keyagent/pin}\n", ""), "'pin' is missing"},
      {plus("  sesions: 3\n"), "did you mean 'sessions'"},
      {plus("  sessions: 0\n"), "from 1 to 1024"},
      {plus("  module: libtoken.so\n"), "absolute path"},
      {plus("  module: /x\n  module: /y\n"), "given twice"},
      {plus("sokcet: {}\n"), "keyagentd.yml:8: unknown name 'sokcet'; did you mean 'socket'"},
      {plus("socket: {mode: 0999}\n"), "octal digits"},
      {plus("ssh: {mode: 0999}\n"), "octal digits"},
      {plus("ssh: {path: run/ssh.sock}\n"), "must be an absolute path"},
      {plus("ssh: {path: /run/keyagent/mail.sock}\n"), "the agent's main socket"},
      {plus("ssh: {path: /" + std::string(107, 'x') + "}\n"), "at most 107 bytes"},
      {plus("ssh: {confirm: {program: /opt/ask}}\n"), "needs 'keys'"},
      {plus("ssh: {confirm: {keys: [Deploy]}}\n"), "not a pattern of key names"},
      {plus("ssh: {confirm: {keys: deploy, program: ask}}\n"), "must be an absolute path"},
      {plus("ssh: {confirm: {keys: deploy, timeout: 0s}}\n"), "must be 1s to 10m"},
      {plus("ssh: {confirm: {keys: deploy, timeout: 11m}}\n"), "must be 1s to 10m"},
      {plus("ssh: {forward: true}\n"), "did you mean 'forwarding'"},
      {plus("socket: {mode: 07777}\n"), "octal digits"},
      {plus("socket: {path: /" + std::string(107, 'x') + "}\n"), "at most 107 bytes"},
      {plus("limits: {connections: -1}\n"), "from 1 to"},
      {plus("limits: {idle-timeout: 10}\n"), "duration"},
      {plus("audit: {key: 'Audit Key'}\n"), "name of a key"},
      {plus("log: {level: verbose}\n"), "info, debug, warning, error"},
      {plus("log: {format: xml}\n"), "text, json"},
      {plus("agent-id: Mail\n"), "'agent-id' must be"}};
  for (const auto& [text, expected] : kMistakes) {
    const auto fault = fault_of(text);
    EXPECT_THAT(fault, HasSubstr(expected)) << text;
    EXPECT_THAT(fault, HasSubstr("/etc/keyagent/keyagentd.yml")) << text;
  }
}

TEST(Config, Fault144_WhatCaKeysCertifyIsReadAndBounded) {
  const auto config = parse_config(plus("issuing:\n  clients: [\"web*\", db1]\n  servers: "
                                        "[keys.example.org, \"2001:db8::1\"]\n  "
                                        "max-certificate: 90d\n  max-list: 2d\n"),
                                   "/etc/keyagent/keyagentd.yml")
                          .issuing;
  EXPECT_THAT(config.clients, ElementsAre("web*", "db1"));
  EXPECT_THAT(config.servers, ElementsAre("keys.example.org", "2001:db8::1"));
  EXPECT_EQ(config.max_certificate, std::chrono::hours(24 * 90));
  EXPECT_EQ(config.max_list, std::chrono::hours(48));
  const auto otherwise = parse_config(kSmallest, "/etc/keyagent/keyagentd.yml").issuing;
  EXPECT_THAT(otherwise.clients, ElementsAre("*"));
  EXPECT_EQ(otherwise.max_certificate, std::chrono::hours(24 * 398));
  EXPECT_THAT(fault_of(plus("issuing: {clients: [\"Web 1\"]}\n")), HasSubstr("'Web 1'"));
  EXPECT_THAT(fault_of(plus("issuing: {servers: [\"*.example.org\"]}\n")), HasSubstr("'*.ex"));
  EXPECT_THAT(fault_of(plus("issuing: {max-certificate: 1m}\n")), HasSubstr("1h for certificates"));
  EXPECT_THAT(fault_of(plus("issuing: {longest: 1d}\n")), HasSubstr("longest"));
}

TEST(Config, SocketModeIsWrittenAsForChmod) {
  for (const char* text : {"0640", "640", "\"0640\""}) {
    const auto config =
        parse_config(plus("socket: {mode: " + std::string(text) + "}\n"), "/x/y.yml");
    EXPECT_EQ(config.socket_mode, 0640U) << text;
  }
}

AgentConfig with_rekey(const std::string& text) {
  return parse_config(std::string(kSmallest) + "rekey:\n" + text, "/etc/keyagent/keyagentd.yml");
}

TEST(Config, R10_RekeyIsReadByPurposeAndByName) {
  const auto rekey = with_rekey(
                         "  purposes:\n    transport: {every: 30d, drain: 2d, automatic: false}\n"
                         "  keys:\n    backup: {idle: 12h}\n"
                         "  warn: 1d\n  jitter: 0\n  hook: /usr/local/sbin/confirm\n")
                         .rekey;
  const auto& transport = rekey.purposes.at(Purpose::kTransport);
  EXPECT_EQ(transport.every, std::chrono::hours(24 * 30));
  EXPECT_EQ(transport.drain, std::chrono::hours(48));
  EXPECT_EQ(transport.automatic, false);
  EXPECT_FALSE(transport.idle);
  EXPECT_EQ(rekey.keys.at("backup").idle, std::chrono::hours(12));
  EXPECT_FALSE(rekey.keys.at("backup").every) << "the purpose's";
  EXPECT_EQ(rekey.warn, std::chrono::hours(24));
  EXPECT_EQ(rekey.jitter_percent, 0);
  EXPECT_EQ(rekey.hook, "/usr/local/sbin/confirm");
}

TEST(Config, R10_WrongRekeyIsNamedWithItsLine) {
  const std::pair<const char*, const char*> wrong[] = {
      {"  purposes:\n    backup: {every: 1d}\n", "unknown purpose"},
      {"  keys:\n    \"Not a name\": {every: 1d}\n", "not a key name"},
      {"  purposes:\n    sign: {every: 1s}\n", "at least 1m"},
      {"  purposes:\n    sign: {drain: 1s}\n", "at least 10s"},
      {"  purposes:\n    sign: {evry: 1d}\n", "every"},
      {"  hook: confirm\n", "absolute path"},
      {"  jitter: 90\n", "50"},
      {"  warn: soon\n", "warn"}};
  for (const auto& [text, says] : wrong) {
    try {
      with_rekey(text);
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kConfiguration);
      EXPECT_THAT(error.what(), HasSubstr(says));
      EXPECT_THAT(error.what(), HasSubstr("keyagentd.yml:"));
    }
  }
}

TEST(Config, Fault153_LimitsOfRekeysCensusAndCachedCredentials) {
  const auto usual = with_rekey("  warn: 7d\n");
  EXPECT_EQ(usual.rekey.grace, std::chrono::hours(24 * 7));
  EXPECT_EQ(usual.rekey.max_ordered_per_day, 2);
  EXPECT_EQ(usual.rekey.max_generations, 8);
  EXPECT_EQ(usual.credential_max_age, std::chrono::hours(24 * 7));
  EXPECT_EQ(usual.census.rows, 20000u);
  const auto given = with_rekey(
      "  grace: 1d\n  max-ordered-per-day: 0\n  max-generations: 3\n"
      "  purposes: {sign: {grace: 2d}}\n"
      "link: {credential-max-age: 1h}\nlimits: {census-rows: 5, census-sources-per-uid: 2}\n");
  EXPECT_EQ(given.rekey.grace, std::chrono::hours(24));
  EXPECT_EQ(given.rekey.purposes.at(Purpose::kSign).grace, std::chrono::hours(48));
  EXPECT_EQ(given.rekey.max_ordered_per_day, 0);
  EXPECT_EQ(given.rekey.max_generations, 3);
  EXPECT_EQ(given.credential_max_age, std::chrono::hours(1));
  EXPECT_EQ(given.census.rows, 5u);
  EXPECT_EQ(given.census.sources_per_uid, 2u);
  EXPECT_THROW(with_rekey("  max-generations: 1\n"), Error);
  EXPECT_THROW(with_rekey("  warn: 7d\nlink: {credential-max-age: 0s}\n"), Error);
}

}  // namespace
}  // namespace keyagent::config
