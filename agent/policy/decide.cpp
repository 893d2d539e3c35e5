// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "agent/policy/policy.h"

namespace keyagent::policy {
namespace {

struct Named {
  Action action;
  std::string_view name;
};
constexpr Named kActions[] = {{Action::kOpen, "open"},
                              {Action::kSeal, "seal"},
                              {Action::kSign, "sign"},
                              {Action::kPublic, "public"},
                              {Action::kCreate, "create"},
                              {Action::kDestroy, "destroy"},
                              {Action::kRekey, "rekey"},
                              {Action::kSuspend, "suspend"},
                              {Action::kReseal, "reseal"},
                              {Action::kDecrypt, "decrypt"},
                              {Action::kAgree, "agree"},
                              {Action::kStatus, "status"},
                              {Action::kAudit, "audit"},
                              {Action::kAdmin, "admin"},
                              {Action::kCredential, "credential"},
                              {Action::kWork, "work"},
                              {Action::kExport, "export"},
                              {Action::kImport, "import"},
                              {Action::kProve, "prove"}};

template <class List, class Value>
bool contains(const List& list, const Value& value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

bool matches_who(const Rule& rule, const Principal& principal) {
  // Rules about local users never match a peer over TLS, whatever its name.
  if (principal.voucher != Principal::Voucher::kKernel) return false;
  if (rule.anyone || contains(rule.uids, principal.uid) || contains(rule.gids, principal.gid))
    return true;
  return std::any_of(principal.groups.begin(), principal.groups.end(),
                     [&](std::uint32_t group) { return contains(rule.gids, group); });
}

bool matches_key(const Rule& rule, const Query& query) {
  // Actions without a key (status, audit) match any rule, regardless of its keys.
  if (query.key.empty() && query.purpose.empty()) return true;
  const bool named = std::any_of(rule.keys.begin(), rule.keys.end(), [&](const auto& pattern) {
    return matches_name(pattern, query.key);
  });
  return named && (rule.purposes.empty() || contains(rule.purposes, query.purpose));
}

// Decides which peers keys may be exported to or imported from; the default is deny (MISSION X6).
bool matches_peer(const Rule& rule, const Query& query) {
  const bool travels = query.action == Action::kExport || query.action == Action::kImport;
  if (!travels || rule.peers.empty()) return true;
  // An offer has no peer yet: allow it if a rule allows imports from any peer.
  if (query.action == Action::kImport && query.peer.empty()) return rule.allow;
  return contains(rule.peers, query.peer);
}

// The credentials of a handler's tasks are named, or it has none.
bool matches_credential(const Rule& rule, const Query& query) {
  if (query.action != Action::kWork) return true;
  if (query.credential.empty()) return rule.allow || rule.credentials.empty();
  if (rule.credentials.empty()) return !rule.allow;
  return std::any_of(rule.credentials.begin(), rule.credentials.end(),
                     [&](const auto& pattern) { return matches_name(pattern, query.credential); });
}

bool matches(const Rule& rule, const Principal& principal, const Query& query) {
  return rule.actions.contains(query.action) && matches_who(rule, principal) &&
         matches_key(rule, query) && matches_peer(rule, query) && matches_credential(rule, query);
}

std::string of_what(const Query& query) {
  if (!query.credential.empty()) return " as " + query.key + " with credential " + query.credential;
  return (query.key.empty() ? "" : " with key " + query.key) + (query.peer.empty() ? ""
                                                                : query.action == Action::kImport
                                                                    ? " from " + query.peer
                                                                    : " for " + query.peer);
}

Decision from_rule(const Rule& rule, const Principal& principal, const Query& query) {
  return {rule.allow, rule.name, rule.where,
          "rule '" + rule.name + "' (" + rule.where + ") " + (rule.allow ? "allows" : "denies") +
              " " + principal.text() + " to " + std::string(name_of(query.action)) +
              of_what(query)};
}

}  // namespace

// Linear, because the last star is the only place to come back to.
bool matches_name(std::string_view pattern, std::string_view text) {
  std::size_t p = 0, t = 0, star = std::string_view::npos, mark = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      mark = t;
    } else if (p < pattern.size() && pattern[p] == text[t]) {
      ++p, ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++mark;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

std::string_view name_of(Action action) {
  for (const auto& each : kActions) {
    if (each.action == action) return each.name;
  }
  return "unknown";
}

std::string action_names() {
  std::string out;
  for (const auto& each : kActions) out.append(out.empty() ? "" : ", ").append(each.name);
  return out;
}

std::optional<Action> action_of(std::string_view name) {
  for (const auto& each : kActions) {
    if (each.name == name) return each.action;
  }
  return std::nullopt;
}

std::string Principal::text() const {
  switch (voucher) {
    case Voucher::kKernel:
      return "uid " + std::to_string(uid) + (name.empty() ? "" : " (" + name + ")");
    case Voucher::kTls:
      return "tls:" + name;
    case Voucher::kInternal:
      break;
  }
  return "internal:" + name;
}

Decision decide(const Policy& policy, const Principal& principal, const Query& query) {
  if (principal.voucher == Principal::Voucher::kInternal) {
    return {true, "internal", "", "the agent itself (" + principal.name + ")"};
  }
  const Rule* allowed = nullptr;
  for (const auto& rule : policy.rules) {
    if (!matches(rule, principal, query)) continue;
    if (!rule.allow) return from_rule(rule, principal, query);
    if (allowed == nullptr) allowed = &rule;
  }
  if (allowed != nullptr) return from_rule(*allowed, principal, query);
  return {false, "default", "",
          "no rule allows " + principal.text() + " to " + std::string(name_of(query.action)) +
              of_what(query)};
}

bool allows_some(const Policy& policy, const Principal& principal, Action action) {
  if (principal.voucher == Principal::Voucher::kInternal) return true;
  return std::any_of(policy.rules.begin(), policy.rules.end(), [&](const Rule& rule) {
    return rule.allow && rule.actions.contains(action) && matches_who(rule, principal);
  });
}

}  // namespace keyagent::policy
