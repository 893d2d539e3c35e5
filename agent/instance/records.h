#pragma once
// Records: values of the instance's users, each encrypted under the key of its specification.

#include <functional>
#include <optional>
#include <string>

#include "agent/instance/specifications.h"

namespace keyagent::instance {

// Thread-safe. A value is in memory while it is sealed or opened, and nowhere else.
class Records {
 public:
  Records(DataKeys& keys, store::Store& store, Specifications& specifications, Recorder& recorder,
          const Clock& clock);

  // For people: API.md. Error{kDenied} where the specification's policy does not allow it.
  Json put(const std::string& specification, const std::string& id, const Json& request,
           const Person& person);
  // Error{kKeyNotPresent}: its key is not in the token, with the kid and whose it is;
  // Error{kIntegrity}: it is another record's.
  Json get(const std::string& specification, const std::string& id, const Person& person);
  Json remove(const std::string& specification, const std::string& id, const Person& person);
  // Ids, kids and versions, and whether each can be read here.
  Json list(const std::string& specification, const std::string& after, std::size_t count);

  // For the instance's own data, whatever the policy of the specification says.
  struct Draft {
    std::string specification, id, changed_by;
  };
  using Write = std::function<store::RecordPut(const store::Record&)>;
  // Seals the value for its record and has it written; again while its key is replaced between the
  // two. Returns what `write` did, never kClosed. Throws Error{kKeyNotPresent} when the
  // specification has no active key here, Error{kBusy} when its key is replaced all the time.
  store::RecordPut seal_and_write(const Draft& draft, const SecretBytes& value, const Write& write);
  // As get() says.
  SecretBytes open(const store::Record& record);

 private:
  DataKeys::Sealed seal(const std::string& specification, const SecretBytes& plaintext);
  [[noreturn]] void explain(const store::Record& record, const Error& error);

  DataKeys& keys_;
  store::Store& store_;
  Specifications& specifications_;
  Recorder& recorder_;
  const Clock& clock_;
};

}  // namespace keyagent::instance
