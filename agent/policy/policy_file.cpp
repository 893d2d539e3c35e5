// SPDX-License-Identifier: Apache-2.0
#include <grp.h>
#include <pwd.h>

#include <charconv>
#include <set>
#include <vector>

#include "agent/base/error.h"
#include "agent/base/ids.h"
#include "agent/base/key_types.h"
#include "agent/base/yaml_reader.h"
#include "agent/policy/policy.h"

namespace keyagent::policy {
namespace {

constexpr std::string_view kOutside = "outside";  // anyone who brings a key of his own
constexpr std::size_t kThumbprint = 43;           // characters of a kid that names a public key

std::optional<std::uint32_t> number_of(const std::string& text) {
  std::uint32_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec != std::errc{} || parsed.ptr != text.data() + text.size()) return std::nullopt;
  return value;
}

std::uint32_t uid_of(const std::string& name, const std::string& where) {
  if (const auto number = number_of(name)) return *number;
  std::vector<char> buffer(16384);
  passwd entry{};
  passwd* found = nullptr;
  ::getpwnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
  if (found == nullptr)
    throw Error(Code::kConfiguration, where + ": this host has no user '" + name + "'");
  return found->pw_uid;
}

std::uint32_t gid_of(const std::string& name, const std::string& where) {
  if (const auto number = number_of(name)) return *number;
  std::vector<char> buffer(16384);
  group entry{};
  group* found = nullptr;
  ::getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
  if (found == nullptr)
    throw Error(Code::kConfiguration, where + ": this host has no group '" + name + "'");
  return found->gr_gid;
}

void read_actions(const YamlReader& reader, Rule& rule) {
  const bool allow = reader.has("allow"), deny = reader.has("deny");
  if (allow == deny)
    throw Error(Code::kConfiguration, reader.where() + ": a rule has either 'allow' or 'deny'");
  rule.allow = allow;
  const std::string field = allow ? "allow" : "deny";
  for (const auto& name : reader.texts(field)) {
    const auto action = action_of(name);
    if (!action) {
      throw Error(Code::kConfiguration,
                  reader.where(field) + ": unknown action '" + name + "' (" + action_names() + ")");
    }
    rule.actions.insert(*action);
  }
  if (rule.actions.empty())
    throw Error(Code::kConfiguration, reader.where(field) + ": '" + field + "' has no action");
}

void read_who(const YamlReader& reader, Rule& rule) {
  const YamlReader who = reader.child("who");
  for (const auto& name : who.texts("user")) rule.uids.push_back(uid_of(name, who.where("user")));
  for (const auto& name : who.texts("group")) rule.gids.push_back(gid_of(name, who.where("group")));
  rule.anyone = who.boolean("anyone", false);
  if (rule.uids.empty() && rule.gids.empty() && !rule.anyone) {
    throw Error(Code::kConfiguration,
                reader.where() + ": rule '" + rule.name +
                    "' has no 'who': set it to a user, a group or 'anyone: true'");
  }
}

// An absent list means "every"; an empty one was meant to name something and must not mean the
// same.
std::vector<std::string> names_in(const YamlReader& reader, const std::string& field) {
  auto names = reader.texts(field);
  if (reader.has(field) && names.empty())
    throw Error(Code::kConfiguration,
                reader.where(field) + ": '" + field + "' is empty; remove it to match all");
  return names;
}

void read_peers(const YamlReader& reader, Rule& rule) {
  rule.peers = names_in(reader, "peers");
  for (const auto& peer : rule.peers) {
    const auto kid = Kid::parse(peer);
    if (peer != kOutside && (!kid || peer.size() != kThumbprint))
      throw Error(Code::kConfiguration,
                  reader.where("peers") + ": '" + peer +
                      "' is not an identity: use the kid that keyagent key show prints there");
  }
  const bool leaves = rule.allow && rule.actions.contains(Action::kExport);
  if (leaves && rule.peers.empty())
    throw Error(Code::kConfiguration,
                reader.where() + ": rule '" + rule.name +
                    "' allows export without naming the targets: set 'peers'");
}

Rule read_rule(const YamlReader& reader) {
  Rule rule;
  rule.name = reader.text("name");
  if (rule.name.empty())
    throw Error(Code::kConfiguration, reader.where("name") + ": a rule name must not be empty");
  rule.where = reader.where();
  read_actions(reader, rule);
  read_who(reader, rule);
  rule.keys = names_in(reader, "keys");
  if (rule.keys.empty()) rule.keys = {"*"};
  rule.purposes = names_in(reader, "purposes");
  read_peers(reader, rule);
  rule.names_credentials = reader.has("credentials");
  rule.credentials = reader.texts("credentials");
  if (rule.names_credentials && !rule.actions.contains(Action::kWork))
    throw Error(Code::kConfiguration, reader.where("credentials") +
                                          ": 'credentials' applies to tasks, in a rule with work; "
                                          "for credential, name them in 'keys'");
  for (const auto& purpose : rule.purposes) {
    if (!purpose_of(purpose))
      throw Error(Code::kConfiguration,
                  reader.where("purposes") + ": unknown purpose '" + purpose + "'");
  }
  return rule;
}

std::shared_ptr<const Policy> read_policy(const YamlReader& reader) {
  auto policy = std::make_shared<Policy>();
  std::set<std::string> names;
  for (const auto& child : reader.children("rules")) {
    Rule rule = read_rule(child);
    if (rule.name == "default" || rule.name == "internal" || !names.insert(rule.name).second) {
      throw Error(Code::kConfiguration,
                  child.where("name") + ": the rule name '" + rule.name + "' is taken");
    }
    policy->rules.push_back(std::move(rule));
  }
  reader.finish();
  return policy;
}

}  // namespace

std::shared_ptr<const Policy> load_policy(const std::string& path) {
  return read_policy(YamlReader::from_file(path));
}

std::shared_ptr<const Policy> parse_policy(std::string_view yaml, const std::string& source) {
  return read_policy(YamlReader::from_text(yaml, source));
}

}  // namespace keyagent::policy
