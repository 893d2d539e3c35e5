#pragma once
// Credentials: sealed in the store, sealed again to each agent that is to have them.

#include <functional>
#include <mutex>
#include <string>

#include "agent/instance/host_keys.h"
#include "agent/instance/json.h"
#include "agent/instance/recorder.h"
#include "agent/store/store.h"

namespace keyagent::instance {

// Thread-safe. A plaintext is in memory while it is sealed, and nowhere else; of a blind credential
// never.
class Credentials {
 public:
  Credentials(HostKeys& keys, store::Store& store, Recorder& recorder, const Clock& clock);

  // For people: API.md. Values never come back.
  Json put(const std::string& name, Json request, const std::string& by);
  Json assign(const std::string& name, const Json& request, const std::string& by);
  Json remove(const std::string& name, const std::string& by);
  Json list() const;
  Json show(const std::string& name) const;

  // For an agent: those that are assigned to it.
  Json list_for(const store::Agent& agent) const;
  // Error{kDenied}: not assigned, or there is none (one answer). Error{kKeyNotPresent}: no copy for
  // this kid, and why.
  Json fetch(const store::Agent& agent, const std::string& name, const std::string& kid);

  // Seals what is assigned to the agent's trusted and staged transport keys, and drops copies for
  // keys that went. Error: what could not be sealed stays as it was.
  void follow(const std::string& agent_id);
  void follow_all();

  // Told when something about an agent's credentials changed.
  std::function<void(const std::string& agent, const std::vector<std::string>& names)> on_change;

 private:
  bool is_for(const store::Credential& credential, const store::Agent& agent) const;
  void seal_to(const store::Credential& credential, const store::Agent& agent);
  Json describe(const store::Credential& credential) const;
  store::Credential require(const std::string& name) const;
  void put_blind(store::Credential credential, const Json& sealed, Json& answer);

  HostKeys& keys_;
  store::Store& store_;
  Recorder& recorder_;
  const Clock& clock_;
  std::mutex mutex_;  // one follow at a time
};

}  // namespace keyagent::instance
