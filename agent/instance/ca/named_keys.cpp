// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/ca/named_keys.h"

#include <vector>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/instance/ca/authority.h"
#include "agent/instance/common/json.h"
#include "agent/store/settings.h"

namespace keyagent::instance {
namespace {

constexpr const char* kSetting = "host-keys";

struct Named {
  const char* role;
  const std::string& name;
};
// Without the TLS key: agents accept any key that the CA certified.
std::vector<Named> keys_of(const InstanceConfig& config) {
  std::vector<Named> keys{{"confirmation", config.confirmation_key}};
  if (!config.outside) keys.push_back({"ca", config.ca_key});
  return keys;
}

void require(HostKeys& keys, const std::string& name, const std::string& kid) {
  try {
    keys.find(kid);
  } catch (const Error& error) {
    if (retryable(error.code())) throw;
    throw Error(Code::kIntegrity,
                "this instance's key " + name + " is " + kid +
                    " according to its store, but the agent of this host does not have it; use the "
                    "keyagentd whose token has it for every replica; nothing was created",
                kid);
  }
}

}  // namespace

void require_named_keys(const InstanceConfig& config, HostKeys& keys, store::Store& store) {
  const auto ca = store.settings().get(Authority::kSetting);
  if (ca && !config.outside) {
    const auto certificate = pki::read_certificates(as_bytes(*ca)).front();
    require(keys, config.ca_key, jwk_thumbprint(pki::certificate_facts(certificate).spki));
  }
  const auto setting = store.settings().get(kSetting);
  if (!setting) return;
  const Json named = parse_object(*setting);
  for (const auto& [role, name] : keys_of(config)) require(keys, name, text_of(named, role));
}

void name_keys(const InstanceConfig& config, HostKeys& keys, store::Store& store) {
  Json named = Json::object();
  for (const auto& [role, name] : keys_of(config)) named[role] = keys.find(name).kid.text();
  const auto text = named.dump();
  if (store.settings().set_once(kSetting, text) || store.settings().get(kSetting) == text) return;
  // A rekey at this host, whose agent still knows the one before; or another host's keys.
  require_named_keys(config, keys, store);
  store.settings().set(kSetting, text);
}

}  // namespace keyagent::instance
