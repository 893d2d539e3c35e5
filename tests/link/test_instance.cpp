// SPDX-License-Identifier: Apache-2.0
#include "tests/link/test_instance.h"

#include "tests/link/test_instance_impl.h"

namespace keyagent::test {

TestInstance::TestInstance() : impl_(std::make_unique<Impl>(*this)) {}
TestInstance::~TestInstance() = default;

std::string TestInstance::url() const {
  return "https://127.0.0.1:" + std::to_string(impl_->api->port());
}

std::string TestInstance::make_token() {
  const std::string secret = to_base64url(random_bytes(32));
  const std::lock_guard lock(impl_->mutex);
  impl_->tokens.insert(secret);
  return "ka1." + fingerprint() + "." + secret;
}

void TestInstance::distrust_agents() {
  go_away();
  impl_->distrusts = true;
  come_back();
}

void TestInstance::go_away() {
  impl_->link.reset();
}

void TestInstance::come_back() {
  impl_->open_agents();
}

void TestInstance::approve(const std::string& agent) {
  const std::lock_guard lock(impl_->mutex);
  impl_->agents.at(agent).trusted = true;
}

void TestInstance::reject(const std::string& agent) {
  const std::lock_guard lock(impl_->mutex);
  impl_->agents.at(agent).rejected = true;
}

void TestInstance::suspend(const std::string& agent, bool suspended) {
  std::shared_ptr<tls::Link> link;
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->agents.at(agent).suspended = suspended;
    link = impl_->agents.at(agent).link;
  }
  if (suspended && link) link->close("suspended");
}

void TestInstance::put_credential(const std::string& name, const std::string& value) {
  const std::lock_guard lock(impl_->mutex);
  impl_->credentials.put(name, value);
  for (const auto& [id, agent] : impl_->agents) {
    if (agent.link) agent.link->send(Json{{"type", "credentials"}, {"names", {name}}}.dump());
  }
}

void TestInstance::put_blind(const std::string& name, const std::string& agent,
                             const std::string& value) {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->credentials.put_blind(name, impl_->agents.at(agent).transport);
  }
  put_credential(name, value);
}

void TestInstance::put_blind_for(const PublicKeyInfo& key, const std::string& name,
                                 const std::string& value) {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->credentials.put_blind(name, key);
  }
  put_credential(name, value);
}

void TestInstance::put_binding(const std::string& name,
                               const std::optional<envelope::Binding>& binding) {
  const std::lock_guard lock(impl_->mutex);
  impl_->credentials.put_binding(name, binding);
}

void TestInstance::roll_back(const std::string& name, int version, const std::string& value) {
  const std::lock_guard lock(impl_->mutex);
  impl_->credentials.roll_back(name, version, value);
}

void TestInstance::withdraw_credential(const std::string& name) {
  const std::lock_guard lock(impl_->mutex);
  impl_->credentials.withdraw(name);
}

void TestInstance::hold_credential(const std::string& name, bool held) {
  const std::lock_guard lock(impl_->mutex);
  impl_->credentials.hold(name, held);
}

void TestInstance::put_envelope(const std::string& name, const PublicKeyInfo& key,
                                const std::string& value) {
  const std::lock_guard lock(impl_->mutex);
  impl_->credentials.put_envelope(name, key, value);
}

void TestInstance::announce_tasks() {
  const std::lock_guard lock(impl_->mutex);
  for (const auto& [id, agent] : impl_->agents) {
    if (agent.link) agent.link->send(Json{{"type", "tasks"}}.dump());
  }
}

void TestInstance::say(const std::string& agent, const std::string& message) {
  const std::lock_guard lock(impl_->mutex);
  const auto& link = impl_->agents.at(agent).link;
  if (link) link->send(message);
}

void TestInstance::order_rekey(const std::string& id, const std::string& key) {
  const std::lock_guard lock(impl_->mutex);
  impl_->orders[id] = key;
  for (const auto& [name, agent] : impl_->agents) Impl::order(agent, id, key);
}

std::string TestInstance::auth_kid(const std::string& agent) const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->agents.at(agent).auth_kid;
}

std::string TestInstance::transport_kid(const std::string& agent) const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->agents.at(agent).transport.kid.text();
}

std::size_t TestInstance::heartbeats() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->beats;
}

std::vector<std::string> TestInstance::reports(const std::string& order) const {
  const std::lock_guard lock(impl_->mutex);
  const auto found = impl_->reports.find(order);
  return found == impl_->reports.end() ? std::vector<std::string>{} : found->second;
}

std::size_t TestInstance::requests(const std::string& path) const {
  const std::lock_guard lock(impl_->mutex);
  return static_cast<std::size_t>(
      std::count_if(impl_->paths.begin(), impl_->paths.end(),
                    [&](const auto& each) { return each.rfind(path, 0) == 0; }));
}

}  // namespace keyagent::test
