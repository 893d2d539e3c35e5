// SPDX-License-Identifier: Apache-2.0
#pragma once
// The certificates that the instance has issued.

#include <string>
#include <vector>

#include "agent/store/engine/repository.h"
#include "agent/store/enroll_rows.h"

namespace keyagent::store {

class Certificates : public Repository {
 public:
  using Repository::Repository;

  void add(const Certificate& certificate);
  // Of a trusted agent's auth key or next one, within its budget; the challenge is moved with it.
  // Anything but kIssued: nothing is changed.
  IssueOutcome issue(const Certificate& certificate, const IssueBudget& budget, WallTime now,
                     const Challenge* challenge = nullptr, const std::string& from = {});
  std::vector<Certificate> list(const std::string& agent);  // empty: all
  std::vector<Certificate> own();                           // of no agent: the instance's
  // Another value whenever revoked() is another list.
  std::string revocation_mark(WallTime now);
  std::vector<Certificate> revoked(WallTime now);  // not expired; without their DER
  bool revoke(const std::string& serial, WallTime when, const std::string& reason);
};

}  // namespace keyagent::store
