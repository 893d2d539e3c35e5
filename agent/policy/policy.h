// SPDX-License-Identifier: Apache-2.0
#pragma once
// Who may do what with which key: principals, rules and the decision. Pure: no I/O, no clock, no
// log.

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace keyagent::policy {

// The authenticated caller, and how it was authenticated (habit 23). A uid over a socket and a name
// over TLS are never the same principal.
struct Principal {
  enum class Voucher { kKernel, kTls, kInternal };
  Voucher voucher = Voucher::kKernel;
  // kKernel: from SO_PEERCRED and SO_PEERGROUPS, frozen at connect().
  std::uint32_t uid = 0, gid = 0;
  std::vector<std::uint32_t> groups;
  std::int32_t pid = 0;  // for the audit log only, never for a decision (RELIABILITY 111)
  std::string name;      // kTls: the peer's agent id; kInternal: the component
  // kInternal: what the component works on ("credential mail, version 3"). Budgets are kept for it,
  // so that one bad item does not stop the rest. Never for a decision.
  std::string subject = {};
  // "uid 1000 (alice)" / "internal:audit" for people and the audit log.
  std::string text() const;
};

enum class Action {
  kOpen,  // unseal an envelope with a key
  kSeal,  // seal with a secret (storage) key; sealing to a public key needs no permission
  kSign,
  kPublic,  // see a key: list, show, public
  kCreate,
  kDestroy,
  kRekey,    // rekey, abort, and report what is sealed to a key
  kSuspend,  // suspend, resume, revoke
  kReseal,   // seal an envelope again to a key's next generation, without seeing what is in it
  kDecrypt,  // have an RSA transport key decrypt what the caller shows it; open does not imply it
  kAgree,    // have an EC transport key agree with the caller's point; nor this one
  kStatus,   // the agent's own state
  kAudit,    // read the audit log
  kAdmin,    // reload, doctor, enroll, leave, install and remove certificates
  kCredential,  // have a credential of the instance; `keys` are its name
  kWork,        // take tasks of the instance; `keys` are names of handlers
  kExport,      // have a key leave the token, wrapped for one of the rule's peers
  kImport,      // have a key of another token become one of this name; offer a key for it
  kProve,       // have the agent try to take a key out of its token (key show --prove)
};
// "open" "seal" "sign" "public" "create" "destroy" "rekey" "suspend" "reseal" "decrypt"
// "agree" "status" "audit" "admin" "credential" "work" "export" "import" "prove"
std::string_view name_of(Action action);
// All of them, for messages: "open, seal, …".
std::string action_names();
std::optional<Action> action_of(std::string_view name);

struct Rule {
  std::string name;   // unique, shown by `keyagent why`
  bool allow = true;  // false: deny
  std::set<Action> actions;
  std::vector<std::string> keys;      // glob patterns on key names ("backup-*", "*")
  std::vector<std::string> purposes;  // empty: any
  std::vector<std::uint32_t> uids;
  std::vector<std::uint32_t> gids;
  bool anyone = false;  // `who: anyone`
  // Identities (kids) that keys may go to or come from; empty: any, which a rule that allows export
  // cannot have. Ignored for other actions.
  std::vector<std::string> peers;
  // Of work: patterns on the names of credentials that tasks of these handlers may have; none where
  // it is empty. Of a deny: only tasks with such a credential.
  std::vector<std::string> credentials;
  bool names_credentials = false;  // `credentials` is given, if only as []
  std::string where;               // "policy.yml:12"
};

// Does a pattern of Rule::keys match this name? '*' alone is special.
bool matches_name(std::string_view pattern, std::string_view name);

struct Query {
  Action action = Action::kStatus;
  std::string key;              // name; empty for actions without a key
  std::string purpose;          // of the key, or empty
  std::string peer = {};        // kid of the other side's identity, for export and import; or empty
  std::string credential = {};  // for work: the credential that the task requests; empty: none
};

struct Decision {
  bool allowed = false;
  std::string rule;    // the deciding rule's name, or "default" (deny)
  std::string where;   // its place in the file
  std::string reason;  // one line for a person
};

// Immutable; share by shared_ptr<const Policy> and swap on reload (habit 5).
struct Policy {
  std::vector<Rule> rules;
};

// A deny that matches wins over any allow; else the first allow that matches; else deny by default.
// Total: every query has an answer.
Decision decide(const Policy& policy, const Principal& principal, const Query& query);
// Is there any key at all with which a rule allows it? What a deny takes away of that is for
// decide().
bool allows_some(const Policy& policy, const Principal& principal, Action action);

// Reads policy YAML (format: agent/policy/README.md). User and group names are resolved once, here.
// Throws Error{kConfiguration} with file and line: unknown field, unknown user, duplicate rule
// name, empty `who`.
std::shared_ptr<const Policy> load_policy(const std::string& path);
std::shared_ptr<const Policy> parse_policy(std::string_view yaml, const std::string& source);

}  // namespace keyagent::policy
