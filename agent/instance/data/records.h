// SPDX-License-Identifier: Apache-2.0
#pragma once
// Records: values of the instance's users, each encrypted under the key of its specification.

#include <functional>
#include <optional>
#include <string>

#include "agent/instance/data/specifications.h"

namespace keyagent::instance {

// Thread-safe. A value is in memory while it is sealed or opened, and nowhere else.
class Records {
 public:
  // `require_bound`: refuse envelopes that are not bound to their version, as earlier versions
  // wrote them.
  Records(DataKeys& keys, store::Store& store, Specifications& specifications, Recorder& recorder,
          const Clock& clock, bool require_bound = false);

  // For users: API.md. Error{kDenied} when the specification's policy does not allow it.
  Json put(const std::string& specification, const std::string& id, const Json& request,
           const AuthenticatedUser& person);
  // Error{kKeyNotPresent}: its key is not in the token, with the kid and whose it is;
  // Error{kIntegrity}: it is another record's.
  Json get(const std::string& specification, const std::string& id,
           const AuthenticatedUser& person);
  Json remove(const std::string& specification, const std::string& id,
              const AuthenticatedUser& person);
  // Ids, kids and versions, and whether each can be read here.
  Json list(const std::string& specification, const std::string& after, std::size_t count);

  // For the instance's own data, without a check of the specification's rules.
  struct Draft {
    std::string specification, id, changed_by;
  };
  // `record.version`: the version that it gets, which is sealed with the value.
  using Write = std::function<store::RecordPut(const store::Record& record)>;
  using Version = std::function<std::int64_t()>;
  // Seals the value for its record, as version `next()`, and has it written; again while its key is
  // replaced or its version taken between the two. Returns what `write` did, never kClosed or
  // kMoved. Throws Error{kKeyNotPresent} when the specification has no active key here,
  // Error{kBusy} when others are faster all the time.
  store::RecordPut seal_and_write(const Draft& draft, const SecretBytes& value, const Version& next,
                                  const Write& write);
  // Throws as get().
  SecretBytes open(const store::Record& record);

 private:
  // Binds the version to an envelope of an earlier program, whose label has the name only: seals it
  // again.
  void bind_version(const store::Record& record, const SecretBytes& value);
  DataKeys::Sealed seal(const std::string& specification, const SecretBytes& plaintext);
  [[noreturn]] void explain(const store::Record& record, const Error& error);

  DataKeys& keys_;
  store::Store& store_;
  Specifications& specifications_;
  Recorder& recorder_;
  const Clock& clock_;
  const bool require_bound_;
};

}  // namespace keyagent::instance
