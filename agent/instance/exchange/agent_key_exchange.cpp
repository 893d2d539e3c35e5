// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/exchange/agent_key_exchange.h"

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/instance/common/host_keys.h"
#include "agent/instance/data/data_keys.h"

namespace keyagent::instance {
namespace {

using namespace std::chrono_literals;

constexpr auto kFresh =
    60s;  // a rekey of the identity, or its first making elsewhere, is seen then
constexpr const char* kExchange = "exchange";

std::string string_of(ByteView bytes) {
  return std::string(as_text(bytes));
}

}  // namespace

AgentKeyExchange::AgentKeyExchange(const InstanceConfig& config, const Clock& clock)
    : client_({config.agent_socket, 60s}), keys_(client_), clock_(clock) {}

PublicKeyInfo AgentKeyExchange::identity() {
  const MutexLock lock(mutex_);
  const auto now = clock_.now_steady();
  if (!looked_ || now - looked_at_ > kFresh) {
    try {
      identity_ = keys_.find(kExchangeIdentity);
    } catch (const Error& error) {
      // No visible key counts as none; make_keys() reports what the agent's policy denies.
      if (error.code() != Code::kKeyNotPresent && error.code() != Code::kDenied) throw;
      identity_.reset();
    }
    looked_ = true;
    looked_at_ = now;
  }
  if (!identity_)
    throw Error(
        Code::kKeyNotPresent,
        "this instance has no exchange identity yet; run: keyagent instance exchange identity");
  return *identity_;
}

bool AgentKeyExchange::had_identity(const std::string& kid) {
  try {
    return keys_.find(kid).name == kExchangeIdentity;
  } catch (const Error& error) {
    if (retryable(error.code())) throw;
    return false;
  }
}

void AgentKeyExchange::make_keys() {
  const std::pair<const char*, Purpose> wanted[] = {{kExchangeIdentity, Purpose::kIdentity},
                                                    {kExchange, Purpose::kExchange}};
  for (const auto& [name, purpose] : wanted) {
    wire::Request request;
    request.mutable_key_create()->set_name(name);
    request.mutable_key_create()->set_purpose(std::string(name_of(purpose)));
    client_.call(std::move(request));  // the same name and purpose again: nothing happens
  }
  const MutexLock lock(mutex_);
  looked_ = false;
}

std::string AgentKeyExchange::sign(envelope::Statement statement, const std::string& payload) {
  return sign_text(client_, identity().kid, statement, payload);
}

ExchangeOffer AgentKeyExchange::offer() {
  wire::Request request;
  request.mutable_exchange_offer()->set_exchange_key(kExchange);
  request.mutable_exchange_offer()->set_identity(kExchangeIdentity);
  const auto response = client_.call(std::move(request));
  const auto& reply = response.exchange_offer();
  return {{reply.exchange_spki().begin(), reply.exchange_spki().end()}, reply.proof()};
}

std::string AgentKeyExchange::cannot_exchange() {
  wire::Request request;
  request.mutable_status();
  try {
    return client_.call(std::move(request)).status().token().cannot_exchange();
  } catch (const Error& error) {
    if (error.code() != Code::kDenied) throw;
    return {};  // not allowed to query it; the agent refuses an export if the token cannot
  }
}

std::vector<DataKey> AgentKeyExchange::data_keys() {
  wire::Request request;
  request.mutable_key_list();
  std::vector<DataKey> found;
  const auto response = client_.call(std::move(request));
  for (const auto& key : response.key_list().keys()) {
    const auto specification = specification_of(key.name());
    const bool ours = specification && key.purpose() == name_of(Purpose::kStorage) &&
                      key.state() != "staged" && key.state() != "destroyed";
    const bool ready = key.usable() && (key.state() == "active" || key.state() == "deactivated") &&
                       !(key.state() == "active" && key.expired());
    if (ours) found.push_back({*specification, key.kid(), key.state(), key.exchangeable(), ready});
  }
  return found;
}

bool AgentKeyExchange::allows(const std::string& action, const std::string& key,
                              const std::string& peer) {
  wire::Request request;
  request.mutable_why()->set_action(action);
  request.mutable_why()->set_key(key);
  request.mutable_why()->set_peer(peer);
  return client_.call(std::move(request)).why().allowed();
}

std::string AgentKeyExchange::export_key(const ExportOrder& order) {
  wire::Request request;
  auto& wanted = *request.mutable_exchange_export();
  wanted.set_key(order.kid);
  wanted.set_request(order.request);
  wanted.set_specification(order.specification);
  wanted.set_identity(kExchangeIdentity);
  wanted.set_target(order.target);
  wanted.set_exchange_spki(string_of(order.offer.exchange_spki));
  wanted.set_proof(order.offer.proof);
  wanted.set_target_spki(string_of(order.target_spki));
  return client_.call(std::move(request)).exchange_export().package();
}

bool AgentKeyExchange::import_key(const ImportOrder& order) {
  wire::Request request;
  auto& wanted = *request.mutable_exchange_import();
  wanted.set_package(order.package);
  wanted.set_request(order.request);
  wanted.set_specification(order.specification);
  wanted.set_source_spki(string_of(order.source_spki));
  wanted.set_exchange_key(kExchange);
  wanted.set_name(data_key_name(order.specification));
  return client_.call(std::move(request)).exchange_import().imported();
}

}  // namespace keyagent::instance
