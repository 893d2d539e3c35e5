// SPDX-License-Identifier: Apache-2.0
#pragma once
// Whether the audit log is still the one that its newest checkpoint was made of.

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "agent/audit/audit_log.h"
#include "agent/base/clock.h"
#include "agent/base/log_limiter.h"
#include "agent/base/mutex.h"
#include "agent/keys/key_store.h"
#include "agent/keys/rekey_runner.h"
#include "agent/vault/token_vault.h"
#include "agent/wire/keyagent.pb.h"

namespace keyagent::daemon {

// Thread-safe. Keeps the newest checkpoint (records, hash, kid) outside the audit folder: as a data
// object in the token, or in the ledger's notes where the token keeps none; and at the instance. A
// log that was rewritten, cut or put back from a copy does not hold it (RELIABILITY 138, 157).
class AuditHistory {
 public:
  AuditHistory(audit::AuditLog& audit, keys::KeyStore& keys, vault::TokenVault& vault,
               std::filesystem::path folder, keys::EventSink tell,
               const Clock& clock = system_clock());

  // Once, when ledger and token agree and before the first checkpoint of this run.
  void check_at_start();
  // Writes the anchor when there is a newer checkpoint, at most once a minute unless `now`. A
  // history that does not verify keeps the old one.
  void anchor(bool now = false);
  // The administrator accepts the log: it must chain, and its newest checkpoint becomes the anchor.
  // Returns a description of the anchor; empty when there was nothing to accept.
  std::string accept();

  // For the link (link::AuditWitness). A log that lacks the instance's checkpoint offers none.
  std::optional<std::string> offer();
  void hear(const std::optional<std::string>& checkpoint);
  // The time between two comparisons: the instance must not cause a read of the whole log at each
  // heartbeat.
  static constexpr std::chrono::minutes kBetweenComparisons{5};
  // Looks for the checkpoint that the instance has said, once each; reads the whole log. The first
  // at once, the next when its time has come: that is then the newest that was said.
  void compare();

  std::vector<audit::Anchor> anchors() const;
  std::vector<wire::Diagnosis> diagnose() const;

 private:
  // An object of the token that cannot be read is nullopt, and a fault of the log. Throws for a
  // token that may just be failing.
  std::optional<std::string> read_anchor();
  audit::VerifyResult verify(bool with_anchor, bool after_crash) const;
  void write(const std::string& checkpoint);

  audit::AuditLog& audit_;
  keys::KeyStore& keys_;
  vault::TokenVault& vault_;
  const std::filesystem::path folder_;
  const keys::EventSink tell_;
  const Clock& clock_;
  LogLimiter limiter_{clock_, kBetweenComparisons};
  mutable Mutex mutex_;
  bool checked_ GUARDED_BY(mutex_) = false;
  int unread_ = 0;  // attempts that failed in a token that works; of check_at_start()
  std::string fault_ GUARDED_BY(mutex_);
  std::optional<audit::Anchor> anchor_ GUARDED_BY(mutex_);
  // What the instance has.
  bool heard_ GUARDED_BY(mutex_) = false, compared_ GUARDED_BY(mutex_) = false;
  std::optional<audit::Anchor> instance_ GUARDED_BY(mutex_), offered_ GUARDED_BY(mutex_);
  std::string instance_fault_ GUARDED_BY(mutex_);
  std::string told_ GUARDED_BY(mutex_);  // by the last alarm
  std::optional<SteadyTime> compared_at_ GUARDED_BY(mutex_);
  SteadyTime next_ GUARDED_BY(mutex_){};
};

}  // namespace keyagent::daemon
