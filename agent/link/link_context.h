// SPDX-License-Identifier: Apache-2.0
#pragma once
// What all parts of the link have around them.

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "agent/base/clock.h"
#include "agent/base/mutex.h"
#include "agent/keys/rekey_runner.h"
#include "agent/link/gate_client.h"
#include "agent/link/task_journal.h"
#include "agent/tls/client.h"

namespace keyagent::link {

struct Timing {
  std::chrono::milliseconds first_pause{1000}, longest_pause{60000};  // between attempts
  std::chrono::milliseconds poll{5000};                               // for an approval
  std::chrono::milliseconds connect{3000}, answer{4000};  // an ending agent waits for so much
  std::chrono::milliseconds welcome{10000};
  std::chrono::milliseconds ask{30000};  // for tasks, when the instance announces none
};

// The instance keeps the newest checkpoint of the audit log, as a text of checkpoint.json.
struct AuditWitness {
  // The checkpoint to store there; empty: only query the stored one; nullopt: neither.
  std::function<std::optional<std::string>()> offer;
  // Reports the stored one; nullopt: none. Not called by an instance that stores none.
  std::function<void(const std::optional<std::string>& checkpoint)> hear;
};

struct LinkContext {
  std::filesystem::path folder;  // the agent's state folder
  std::string agent_id;          // where an enrollment names none
  std::string version;
  const Clock* clock = &system_clock();
  GateClient::Ask ask;   // Gate::handle
  keys::EventSink tell;  // log and audit log
  AuditWitness audit;    // both or none
  Timing timing;
  TaskJournal::Limits tasks;
  // How long cached credentials are used after the last contact; the instance may set a lower
  // limit.
  std::chrono::milliseconds credential_max_age{std::chrono::hours(24 * 7)};
  // Refuse credentials whose envelopes are not bound; nullopt: use the setting stored at
  // enrollment.
  std::optional<bool> require_bound;
};

// TLS with the agent's own keys, made when it is first needed: an agent without an instance pays
// for nothing. Thread-safe.
class TlsLibrary {
 public:
  explicit TlsLibrary(GateClient& gate) : gate_(gate) {}
  std::shared_ptr<tls::Library> get();

 private:
  GateClient& gate_;
  Mutex mutex_;
  std::shared_ptr<tls::Library> library_ GUARDED_BY(mutex_);
};

// "web1.example.org": for people who check the instance; identifies nothing (MISSION R14).
std::string host_name();

}  // namespace keyagent::link
