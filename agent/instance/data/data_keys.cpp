// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/data/data_keys.h"

#include <algorithm>

#include "agent/base/error.h"
#include "agent/base/ids.h"
#include "agent/instance/common/json.h"
#include "agent/wire/messages.h"

namespace keyagent::instance {
namespace {

const std::string kPrefix = "data.";
constexpr std::size_t kLongestName = 41;

}  // namespace

bool is_specification_name(const std::string& name) {
  return name.size() <= kLongestName && KeyName::parse(name);
}

std::string data_key_name(const std::string& specification) {
  return kPrefix + specification;
}

std::optional<std::string> specification_of(const std::string& key) {
  if (!key.starts_with(kPrefix)) return std::nullopt;
  return key.substr(kPrefix.size());
}

DataKeys::DataKeys(const InstanceConfig& config)
    : client_({config.agent_socket, std::chrono::seconds(30)}), config_(config) {}

bool DataKeys::create(const std::string& specification, bool exchangeable) {
  wire::Request request;
  auto& create = *request.mutable_key_create();
  create.set_name(data_key_name(specification));
  create.set_purpose("storage");
  create.set_algorithm("aes-256");
  create.set_exchangeable(exchangeable);
  return client_.call(std::move(request)).key_create().created();
}

std::vector<wire::Key> DataKeys::generations(const std::string& specification) {
  wire::Request request;
  request.mutable_key_list()->set_all(true);
  const auto response = client_.call(std::move(request));
  std::vector<wire::Key> found;
  for (const auto& key : response.key_list().keys()) {
    if (key.name() == data_key_name(specification)) found.push_back(key);
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const auto& a, const auto& b) { return a.generation() > b.generation(); });
  return found;
}

std::optional<wire::Key> DataKeys::active(const std::vector<wire::Key>& generations) {
  const auto found = std::find_if(generations.begin(), generations.end(),
                                  [](const auto& key) { return key.state() == "active"; });
  return found == generations.end() ? std::nullopt : std::optional(*found);
}

DataKeys::Sealed DataKeys::seal(const std::string& specification, const SecretBytes& plaintext) {
  wire::Request request;
  request.mutable_seal()->set_key(data_key_name(specification));
  request.mutable_seal()->set_plaintext(plaintext.data(), plaintext.size());
  const auto response = client_.call(std::move(request));
  return {response.seal().envelope(), response.seal().kid()};
}

SecretBytes DataKeys::open(const std::string& envelope) {
  wire::Request request;
  request.mutable_open()->set_envelope(envelope);
  auto response = client_.call(std::move(request));
  const auto& plaintext = response.open().plaintext();
  SecretBytes out(plaintext.begin(), plaintext.end());
  wire::wipe(response);
  return out;
}

std::optional<DataKeys::Sealed> DataKeys::seal_again(const std::string& envelope) {
  wire::Request request;
  request.mutable_reseal()->set_envelope(envelope);
  const auto response = client_.call(std::move(request));
  if (!response.reseal().changed()) return std::nullopt;
  return Sealed{response.reseal().envelope(), response.reseal().kid()};
}

wire::Rekey DataKeys::rekey(const std::string& specification) {
  wire::Request request;
  request.mutable_rekey()->set_name(data_key_name(specification));
  request.mutable_rekey()->set_reason("ordered at the instance " + config_.id);
  return client_.call(std::move(request)).rekey().rekey();
}

std::optional<wire::Rekey> DataKeys::rekey_under_way(const std::string& specification) {
  wire::Request request;
  request.mutable_rekey_status()->set_name(data_key_name(specification));
  const auto response = client_.call(std::move(request));
  if (response.rekey_status().rekeys().empty()) return std::nullopt;
  return *response.rekey_status().rekeys().rbegin();
}

std::string DataKeys::source_prefix() const {
  return "keyinstanced " + config_.id + " ";
}

void DataKeys::report(const std::string& kid, std::int64_t count) {
  wire::Request request;
  auto& census = *request.mutable_census_report();
  census.set_source(source_prefix() + kid);
  auto& entry = *census.add_entries();
  entry.set_kid(kid);
  entry.set_count(static_cast<std::uint64_t>(count));
  client_.call(std::move(request));
}

std::vector<DataKeys::Reported> DataKeys::reported() {
  wire::Request request;
  request.mutable_census_list();
  const auto response = client_.call(std::move(request));
  std::vector<Reported> found;
  for (const auto& entry : response.census_list().entries()) {
    if (entry.source() != source_prefix() + entry.kid()) continue;
    found.push_back(
        {entry.kid(), static_cast<std::int64_t>(entry.count()), parse_rfc3339(entry.at())});
  }
  return found;
}

std::string DataKeys::source() {
  Json out{{"instance", config_.id}};
  wire::Request request;
  request.mutable_key_show()->set_key(kExchangeIdentity);
  try {
    out["identity"] = client_.call(std::move(request)).key_show().key().kid();
  } catch (const Error& error) {
    if (retryable(error.code())) throw;  // there is none
  }
  return out.dump();
}

}  // namespace keyagent::instance
