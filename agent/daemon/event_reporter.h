// SPDX-License-Identifier: Apache-2.0
#pragma once
// Writes events that no request caused to the log and the audit log.

#include <string>

#include "agent/audit/audit_log.h"
#include "agent/keys/rekey_runner.h"
#include "pkcs11/token.h"

namespace keyagent::daemon {

// Thread-safe, as the audit log is. Events about token and key state never fail because of the
// disk.
class EventReporter {
 public:
  explicit EventReporter(audit::AuditLog& audit) : audit_(audit) {}
  // Each transition once (RELIABILITY 23).
  void token(pkcs11::TokenState state, const std::string& detail);
  void key(const keys::KeyEvent& happening);
  // A step of the daemon's own; synced. Throws Error{kInternal} when it cannot be recorded.
  void daemon(const char* what, const std::string& detail);
  // The same where a log that cannot be written must stop nothing: start and stop. One that cannot
  // be opened yet keeps the event until it can be.
  void daemon_if_possible(const char* what, const std::string& detail);

 private:
  audit::AuditLog& audit_;
};

}  // namespace keyagent::daemon
