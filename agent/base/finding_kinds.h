// SPDX-License-Identifier: Apache-2.0
#pragma once
// The findings of `keyagent doctor` and `keyagent config check`, each with its fix: one table,
// from which both print. tests/FIXES.md lists the test that runs each fix (ci/check-catalogue).

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keyagent {

struct FindingKind {
  std::string_view id;        // of doctor's JSON; never changes
  std::string_view severity;  // error, warning, info
  std::string_view code;      // decides doctor's exit status; empty: the code of the fault itself
  std::string_view meaning;
  // A command is between backticks, and works as it is printed. {name} is filled in; a word in
  // capitals is for the operator to replace.
  std::string_view fix;
};

// clang-format off
inline constexpr FindingKind kFindingKinds[] = {
    // The token.
    {"token-absent", "error", "TOKEN_ABSENT", "the token is absent",
     "connect it or start its service{hint}; the agent reconnects automatically"},
    {"token-fault", "error", "TOKEN_FAULT", "the token responds with errors",
     "{hint}; the agent reconnects automatically"},
    {"token-stuck", "error", "TOKEN_STUCK", "a call into the module hangs",
     "check the token's service; the agent restarts if this persists"},
    {"pin-refused", "error", "PIN_REFUSED", "the token refused the PIN",
     "put the correct PIN into the source of token.pin; a changed PIN is tried once. If the token has this PIN now: `rm {file}`, and "
     "it is tried once more"},
    {"pin-locked", "error", "PIN_LOCKED", "the token's PIN is locked", "{hint}"},

    // Keys: ledger and token compared.
    {"orphan-removed", "info", "ORPHAN_REMOVED", "what a crash left of a key that was being created was removed", ""},
    {"foreign-keys", "info", "FOREIGN", "the token holds keys that are not this agent's", ""},
    {"creation-unfinished", "warning", "UNFINISHED", "a journaled change of a key cannot be finished",
     "make the token writable and free disk space, then restart the agent"},
    {"destruction-unfinished", "warning", "UNFINISHED", "the destruction of a key is not finished",
     "make the agent's state folder and the token writable, then restart the agent, which finishes it"},
    {"key-lost", "error", "KEY_LOST", "the token does not hold a key, and holds others of this agent",
     "restore the token from its backup, the agent detects the key without a restart; if the key is permanently lost: "
     "`keyagent key destroy {kid}` (which searches for it once more)"},
    {"token-lost", "error", "KEY_LOST", "the token holds none of this agent's keys",
     "the token holds none of this agent's keys: bring its files or device back, or restore its backup; the agent detects them "
     "without a restart. If the token is permanently lost and an instance knows this agent: get an enrollment token there, "
     "`keyagent instance token --agent AGENT --inherit -o FILE`, then here `keyagent enroll URL --replace --token-file FILE`"},
    {"key-missed", "error", "KEY_LOST", "a use found its key missing in the token",
     "the agent searches for the key again within five minutes; run `keyagent doctor` then"},
    {"key-duplicate", "error", "INTEGRITY", "the token holds several objects under the id of a key",
     "remove the foreign object with pkcs11-tool, then restart the agent"},
    {"key-mismatch", "error", "INTEGRITY", "the token holds another key under the id of a key",
     "restore the token from its backup, then restart the agent"},
    {"key-returned", "warning", "GHOST", "the token holds a destroyed key again", "`keyagent key destroy {kid}`"},
    {"ledger-rollback", "error", "INTEGRITY", "the ledger is older than the token",
     "restore the newest ledger.db; if it is lost, provision a new token and seal the credentials to its keys again"},
    {"token-object-damaged", "error", "INTEGRITY", "a data object of the agent in the token cannot be used",
     "delete the object that the text names: `pkcs11-tool --module MODULE --token-label LABEL --login --delete-object --type data "
     "--label OBJECT`; the agent detects it without a restart"},

    // Keys: rekeys, states, periods, certificates.
    {"rekey-waits", "warning", "UNFINISHED", "a rekey does not come to its switch",
     "it is retried automatically; to abort it: `keyagent rekey {name} --abort`"},
    {"rekey-unfinished", "warning", "UNFINISHED", "a rekey does not end after its switch", "it is retried automatically"},
    {"generation-kept", "info", "UNFINISHED", "the old generation of a rekeyed key is kept", ""},
    {"period-ends", "warning", "KEY_STATE", "the cryptoperiod of a key ends soon", "`keyagent rekey {name}`"},
    {"period-over", "warning", "KEY_STATE", "the cryptoperiod of a key is over", "`keyagent rekey {name}`"},
    {"period-expired", "error", "KEY_STATE", "the grace period of a key is over", "`keyagent rekey {name}`"},
    {"key-suspended", "warning", "KEY_STATE", "a key is suspended", "`keyagent key resume {name}`"},
    {"wrong-signature", "error", "INTEGRITY", "a key is suspended because the token signed wrongly",
     "diagnose the token (its log, hardware, keyagent token probe); when it signs correctly: `keyagent key resume {name}` (the "
     "key is tested first); if the key's signatures leaked: `keyagent rekey {name}`"},
    {"key-revoked", "warning", "KEY_STATE", "a key is revoked", "`keyagent rekey {name}`"},
    {"link-key-revoked", "warning", "KEY_STATE", "a key of the link to the instance is revoked",
     "enroll again, which replaces it: at the instance `keyagent instance token --agent {agent} --inherit -o FILE`, then here "
     "`keyagent enroll {url} --replace --token-file FILE`"},
    {"pinned-ca", "warning", "KEY_STATE", "a CA key, which agents pinned, is revoked or past its period",
     "set up a new instance with another CA key and a separate store (keyinstanced clone copies the data), where the agents "
     "enroll again"},
    {"pinned-confirm", "warning", "KEY_STATE", "a confirmation key, which agents pinned, is revoked or past its period",
     "make another key, `keyagent key create NAME --purpose confirm`, name it in keyinstanced.yml as agent: confirmation-key, "
     "restart keyinstanced, and enroll each agent again with a token for its id (keyagent enroll URL --replace)"},
    {"key-untyped", "warning", "CONFIGURATION", "a sign key signs statements",
     "`keyagent key retype {name} --purpose {purpose}`"},
    {"certificate-due", "warning", "CONFIGURATION", "a certificate ends soon, or a rekeyed key has none",
     "keyagent key csr {name} …, have it signed, then: `keyagent key certificate install {name} FILE`"},
    {"certificate-ended", "error", "CONFIGURATION", "the certificate of a key has ended",
     "keyagent key csr {name} …, have it signed, then: `keyagent key certificate install {name} FILE`"},

    // Use.
    {"caller-paused", "warning", "KEY_STATE", "a caller sent too many envelopes that fail",
     "find the cause of the damaged envelopes, then: `keyagent reload`"},
    {"key-strained", "error", "KEY_STATE", "several callers sent envelopes that fail",
     "find the senders (`keyagent audit tail`), then: `keyagent reload`"},
    {"audit-unwritable", "error", "INTERNAL", "the audit log cannot be written",
     "make room, or make the folder writable: the agent resumes without a restart; a disk that failed also needs one"},
    {"audit-history", "error", "INTEGRITY", "the audit log does not verify",
     "keep a copy of the folder as evidence and compare it with checkpoints kept elsewhere; a log that was restored or restarted "
     "on purpose: `keyagent reload` accepts it, and records that"},
    {"audit-history-instance", "error", "INTEGRITY", "the audit log is not the one that the instance knows",
     "keep a copy of the folder as evidence and compare it with checkpoints kept elsewhere; a log that was restored or restarted "
     "on purpose: `keyagent reload` accepts it, and records that; the instance's operator then accepts it too, with `keyagent "
     "instance checkpoint AGENT --accept`"},
    {"clock-untrusted", "warning", "KEY_STATE", "the clock jumped", "set the clock; if it is correct, run: `keyagent reload`"},
    {"state-read-only", "error", "KEY_STATE", "the state folder cannot be written",
     "a read-only mount: mount -o remount,rw, after its cause is found; a mode: `chmod u+rwx {folder}`"},
    {"limit-high", "warning", "KEY_STATE", "a limit is used to 80 %", "{fix}"},
    {"limit-retention", "info", "KEY_STATE", "old entries are soon forgotten", "{fix}"},

    // The link.
    {"outcomes-waiting", "warning", "BUSY", "outcomes of tasks are not delivered to the instance",
     "they are delivered automatically when {url} answers"},
    {"credentials-expired", "error", "KEY_STATE", "cached credentials are too old to be given",
     "restore the link; check whether {url} answers"},
    {"credentials-unbound", "warning", "INTEGRITY", "envelopes of credentials do not state what they are for",
     "at the instance: `keyagent instance credential reseal --all`; then set link: {require-bound: true}"},
    {"link-unreachable", "warning", "", "the instance does not answer",
     "it is retried automatically; check whether {url} answers"},
    {"link-no-network", "warning", "", "the agent's unit has no network",
     "give the unit a network: `mkdir -p /etc/systemd/system/keyagentd@NAME.service.d`, `printf "
     "'[Service]\\nPrivateNetwork=no\\nIPAddressDeny=\\nRestrictAddressFamilies=AF_UNIX AF_INET AF_INET6\\n' "
     ">/etc/systemd/system/keyagentd@NAME.service.d/network.conf`, `systemctl daemon-reload`, `systemctl restart keyagentd@NAME`"},
    {"link-refused", "error", "", "the instance refuses this agent",
     "ask the instance's operator about {agent}; a suspended agent: `keyagent instance resume {agent}` there; to enroll again: at "
     "the instance `keyagent instance token --agent {agent} --inherit -o FILE`, then here `keyagent enroll {url} --replace "
     "--token-file FILE`"},
    {"link-revoked", "error", "", "the instance revoked this agent",
     "if it may come back: at the instance `keyagent instance token --agent {agent} --inherit -o FILE`, then here `keyagent enroll "
     "{url} --replace --token-file FILE`"},
    {"link-faulty", "warning", "", "the link is not up for another reason",
     "ask the instance's operator about {agent}; to enroll again: at the instance `keyagent instance token --agent {agent} "
     "--inherit -o FILE`, then here `keyagent enroll {url} --replace --token-file FILE`"},

    // Without an agent.
    {"agent-away", "error", "AGENT", "the agent does not answer",
     "start it: `systemctl start keyagentd@NAME`, or `keyagentd --config FILE`"},

    // The configuration.
    {"config-invalid", "error", "CONFIGURATION", "the configuration cannot be read",
     "correct the named line; keyagentd.yml(5) lists every field"},
    {"file-missing", "error", "CONFIGURATION", "a file that the configuration names does not exist",
     "create it, or correct its path"},
    {"softhsm-conf-missing", "warning", "CONFIGURATION", "softhsm2.conf does not exist",
     "restore it, or write it again with the folder of the token's files: `echo directories.tokendir = FOLDER >{file}`; the agent "
     "finds the token without a restart"},
    {"file-owner", "error", "CONFIGURATION", "another user could change a file", "`chown {link}{uid} {path}`"},
    {"file-owner-unknown", "warning", "CONFIGURATION", "whether the owner of a file is the agent's user is not known",
     "check again as the user that keyagentd runs as: runuser -u USER -- keyagent config check FILE; if that is another user: "
     "`chown USER {path}`"},
    {"file-mode", "error", "CONFIGURATION", "others may write a file", "`chmod go-w {path}`"},
    {"folder-private", "error", "CONFIGURATION", "a private folder is open to others", "`chmod 0700 {path}`"},
    {"folder-kind", "error", "CONFIGURATION", "a folder is something else", "move it elsewhere"},
    {"folder-shared", "error", "CONFIGURATION", "a folder is shared by all users", "choose a private folder"},
    {"pin-file-missing", "error", "CONFIGURATION", "the PIN file does not exist", "`install -m 0400 /dev/stdin {path}`"},
    {"pin-file-kind", "error", "CONFIGURATION", "the PIN file is not a regular file", "put a regular file there"},
    {"pin-file-mode", "error", "CONFIGURATION", "others may read the PIN file", "`chmod 0400 {path}`"},
    {"pin-file-form", "error", "CONFIGURATION", "the PIN file does not contain one line", "`install -m 0400 /dev/stdin {path}`"},
    {"pin-prompted", "warning", "CONFIGURATION", "the PIN is prompted for at each start",
     "set token.pin to a 'credential' (systemd) or a 'file' with mode 0400"},
    {"module-missing", "error", "CONFIGURATION", "the PKCS#11 module is not installed",
     "install its package, or set token.module to the file"},
    {"policy-empty", "warning", "CONFIGURATION", "the policy has no rules", "add a rule"},
    {"policy-anyone", "warning", "CONFIGURATION", "a rule lets every user use keys", "name users or groups"},
    {"policy-no-credentials", "warning", "CONFIGURATION", "a rule allows work without credentials",
     "add credentials: [NAME, …], or credentials: [] where these tasks need none"},
    {"policy-invalid", "error", "CONFIGURATION", "the policy cannot be read", "correct the named line"},
    {"group-missing", "error", "CONFIGURATION", "the group of a socket does not exist", "`groupadd --system {group}`"},
    {"program-mode", "error", "CONFIGURATION", "a program cannot be executed", "`chmod 0755 {path}`"},
    {"confirm-without-program", "warning", "CONFIGURATION", "keys need a confirmation that nothing asks for",
     "set ssh.confirm.program"},
    {"socket-open", "warning", "CONFIGURATION", "the socket is open to every user", "set socket.mode to 0660 and socket.group"},
    {"ssh-socket-open", "warning", "CONFIGURATION", "the ssh socket is open to every user", "set ssh.mode to 0660 and ssh.group"},
    {"no-grace", "warning", "CONFIGURATION", "a key that waits for an operator stops without warning",
     "remove it (7d), or set it to the time that a manual rekey may take"},
    {"profile-untested", "warning", "CONFIGURATION", "the profile is not tested",
     "run: `keyagent token probe --profile {profile}`"},
    {"connections-per-uid", "error", "CONFIGURATION", "one user could use all connections",
     "set limits.connections-per-uid below {connections}"},
    {"stuck-exit", "error", "CONFIGURATION", "the agent would exit during a working operation",
     "set token.stuck-exit above {deadline}ms"},
};
// clang-format on

// The row of this id; an unknown one does not compile.
consteval const FindingKind& finding_kind(std::string_view id) {
  for (const auto& each : kFindingKinds) {
    if (each.id == id) return each;
  }
  throw "no finding of this id";
}

struct Fix {
  std::string text;                   // as it is printed
  std::vector<std::string> commands;  // those in it
};

using FixValues = std::initializer_list<std::pair<std::string_view, std::string>>;
// In a command a value is one word of the shell.
Fix fix_of(const FindingKind& kind, FixValues values);

}  // namespace keyagent
