// SPDX-License-Identifier: Apache-2.0
#include "tests/link/test_credentials.h"

#include "agent/base/error.h"
#include "tests/link/test_papers.h"

namespace keyagent::test {

void TestCredentials::put(const std::string& name, const std::string& value) {
  values_[name] = value;
  ++versions_[name];
}

tls::HttpResponse TestCredentials::list(const PublicKeyInfo& transport) const {
  Json all = Json::array();
  for (const auto& [name, value] : values_) {
    const auto only = blind_.find(name);
    const bool here = only == blind_.end() || only->second.kid == transport.kid;
    Json kids = Json::array();
    if (here) kids.push_back(transport.kid.text());
    all.push_back(
        {{"name", name}, {"type", "password"}, {"version", versions_.at(name)}, {"kids", kids}});
  }
  return json({{"credentials", all}});
}

tls::HttpResponse TestCredentials::give(const tls::HttpRequest& request, const std::string& agent,
                                        const PublicKeyInfo& transport,
                                        const PublicKeyInfo* staged) const {
  const std::string name = request.path.substr(std::string("/v1/credentials/").size());
  const auto found = values_.find(name);
  if (found == values_.end()) throw Error(Code::kDenied, "not for this agent");
  if (held_.contains(name)) throw Error(Code::kBusy, "held back; try again");
  const std::string kid = request.query.at("kid");
  PublicKeyInfo key = transport;
  if (staged != nullptr && kid == staged->kid.text()) key = *staged;
  if (const auto only = blind_.find(name); only != blind_.end()) key = only->second;
  if (kid != key.kid.text()) throw Error(Code::kKeyNotPresent, "no copy for this kid");
  std::string value = found->second;
  if (const auto other = envelopes_.find(name); other != envelopes_.end()) {
    key = other->second.first;
    value = other->second.second;
  }
  std::optional<envelope::Binding> binding{
      {"instance-1", name, static_cast<std::uint64_t>(versions_.at(name)), agent}};
  if (const auto other = bindings_.find(name); other != bindings_.end()) binding = other->second;
  const auto sealed = envelope::seal_jwe(key, envelope::ContentEncryption::kA256Gcm,
                                         SecretBytes(value.begin(), value.end()), binding);
  return json({{"name", name},
               {"type", "password"},
               {"version", versions_.at(name)},
               {"kid", key.kid.text()},
               {"envelope", std::string(as_text(sealed))}});
}

}  // namespace keyagent::test
