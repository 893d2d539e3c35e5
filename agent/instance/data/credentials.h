// SPDX-License-Identifier: Apache-2.0
#pragma once
// Credentials: their values are records of store::kCredentialData, sealed again to each agent that
// is to have them.

#include <atomic>
#include <set>
#include <string>

#include "agent/base/mutex.h"
#include "agent/envelope/envelope.h"
#include "agent/instance/data/records.h"

namespace keyagent::instance {

// Thread-safe. A plaintext is in memory while it is sealed, and nowhere else; of a blind credential
// never.
class Credentials {
 public:
  // `instance`: its id, which is bound into every envelope.
  Credentials(std::string instance, DataKeys& keys, Specifications& specifications,
              Records& records, store::Store& store, Recorder& recorder, const Clock& clock);

  // Creates the specification and its key if they are missing, migrates values of schemas before 6,
  // and seals pending values. Call it at the start and periodically. Throws the agent's error, such
  // as kDenied when the agent does not let this instance use data.*.
  void keep_up();

  // Seals again every copy whose envelope is not bound, and every value whose envelope is not bound
  // to its version. The answer names the blind ones, which only their authors can seal.
  Json reseal(const std::string& by);
  // What an author binds the next version to, beside the agent's id.
  Json next(const std::string& name) const;

  // For users: API.md. Values are never returned.
  Json put(const std::string& name, Json request, const AuthenticatedUser& person);
  Json assign(const std::string& name, const Json& request, const std::string& by);
  Json remove(const std::string& name, const std::string& by);
  Json list() const;
  Json show(const std::string& name) const;

  // For an agent: those that are assigned to it.
  Json list_for(const store::Agent& agent) const;
  // Error{kDenied}: not assigned, or there is none (one answer). Error{kKeyNotPresent}: no copy for
  // this kid, and why; or the value's own key is not here, and whose it is.
  Json fetch(const store::Agent& agent, const std::string& name, const std::string& kid);

  // Seals what is assigned to the agent's trusted and staged transport keys, and drops copies for
  // keys that went. What has its own key elsewhere is left for keep_up(). Error: what could not be
  // sealed stays as it was.
  void follow(const std::string& agent_id);
  void follow_all();

  // Is the key of their values made exchangeable? Set it before keep_up().
  bool exchangeable = false;

 private:
  bool is_for(const store::Credential& credential, const store::Agent& agent) const;
  envelope::Binding binding_of(const store::Credential& credential, const std::string& agent) const;
  bool is_bound(const store::Credential& credential, const store::SealedCopy& copy) const;
  void seal_to(const store::Credential& credential, const store::Agent& agent);
  // False: its key is elsewhere.
  bool follow(const store::Credential& credential, const store::Agent& agent) REQUIRES(mutex_);
  Json describe(const store::Credential& credential) const;
  store::Credential require(const std::string& name) const;
  void put_blind(store::Credential credential, const Json& sealed, Json& answer);
  void put_value(const store::Credential& credential, Json value, Json& answer);
  // nullopt: a concurrent change was made, which updates the agents. Error{kKeyNotPresent}: its key
  // is not in this token.
  std::optional<SecretBytes> value_of(const store::Credential& credential);
  void ensure_specification();
  void move(const store::Credential& credential);

  const std::string instance_;
  DataKeys& keys_;
  Specifications& specifications_;
  Records& records_;
  store::Store& store_;
  Recorder& recorder_;
  const Clock& clock_;
  std::atomic<bool> specified_{false};  // nothing is to be ensured anymore
  std::atomic<bool> rebound_{false};    // what programs of before sealed was looked through
  Mutex mutex_;                         // one follow at a time
  std::set<std::string> elsewhere_ GUARDED_BY(mutex_);  // kids of values that wait for their key
};

}  // namespace keyagent::instance
