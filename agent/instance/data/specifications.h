// SPDX-License-Identifier: Apache-2.0
#pragma once
// Specifications: kinds of data, each with its own key and an access policy.

#include <map>
#include <set>
#include <string>
#include <vector>

#include "agent/base/mutex.h"
#include "agent/instance/common/recorder.h"
#include "agent/instance/common/users.h"
#include "agent/instance/data/access.h"
#include "agent/instance/data/data_keys.h"
#include "agent/store/store.h"

namespace keyagent::instance {

// Thread-safe; all of it is in the store and in the host's token.
class Specifications {
 public:
  Specifications(DataKeys& keys, store::Store& store, Recorder& recorder, const Clock& clock);

  // For users: API.md.
  Json create(const Json& request, const std::string& by);
  // Of the instance itself: with these rules where it is new, and an active key of this token.
  void ensure(const std::string& name, const std::vector<AccessRule>& access, bool exchangeable);
  Json set_access(const std::string& name, const Json& request, const std::string& by);
  Json list();
  Json show(const std::string& name);
  Json rekey(const std::string& name, const std::string& by);
  // Whether the use would be allowed, and the deciding rule.
  Json why(const std::string& name, const std::string& use, const AuthenticatedUser& person);

  // Error{kUsage}: there is none.
  store::Specification require(const std::string& name) const;
  // Error{kDenied} unless a rule allows it; recorded where a rule tracks it, and where it is
  // refused. `subject`: what of it.
  void require_access(const store::Specification& specification, DataUse use,
                      const AuthenticatedUser& person, const std::string& subject);

  // As above, for who approves that a key of the specification leaves.
  void require_exchange(const std::string& name, const std::string& user);

  // A key under which a record is to come: the agent keeps it from then on.
  void note_key(const std::string& specification, const std::string& kid);
  // Whose a key is that is not here; as an object.
  Json source_of(const std::string& specification, const std::string& kid) const;
  // No new record uses old keys, and the agent learns how many records are left under them. At the
  // latest a minute after a change; `exactly`: also where the number of those under the active key
  // is all that has changed.
  void report_census(const std::string& specification, bool exactly);
  void report_all();

 private:
  Json describe(const store::Specification& specification);
  Json describe_keys(const std::string& name, const std::vector<wire::Key>& keys) const;

  DataKeys& keys_;
  store::Store& store_;
  Recorder& recorder_;
  const Clock& clock_;
  Mutex mutex_;
  std::set<std::string> noted_ GUARDED_BY(mutex_);  // kids that are in the store
};

}  // namespace keyagent::instance
