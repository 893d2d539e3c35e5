// SPDX-License-Identifier: Apache-2.0
#pragma once
// Records: one envelope a row, each naming the key that opens it.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/store/engine/repository.h"
#include "agent/store/rows.h"

namespace keyagent::store {

class Records : public Repository {
 public:
  using Repository::Repository;

  // Writes the record with its next version. kConflict: it is not at `expected` (0: it must not be
  // there; nullopt: whatever is there). kClosed: its key is closed or was not noted. kMoved: it
  // would not be record.version (0: whichever it is).
  RecordPut put(const Record& record, const std::optional<std::int64_t>& expected);
  std::optional<Record> find(const std::string& specification, const std::string& id);
  // Of its row, which a removed record keeps; 0: there never was one.
  std::int64_t version(const std::string& specification, const std::string& id);
  // Another envelope of the same value, if the row still has this version and envelope. False, and
  // nothing is changed: it has not, or the key of `fresh` is closed.
  bool replace_envelope(const Record& record, const Record& fresh);
  // By id, from beyond `after`; without envelopes.
  std::vector<Record> list(const std::string& specification, const std::string& after,
                           std::size_t count);
  std::vector<Record> list_under(const std::string& specification, const std::string& kid,
                                 const std::string& after, std::size_t count);
  bool remove(const std::string& specification, const std::string& id, const Event& event);
  // How many records name each kid.
  std::vector<std::pair<std::string, std::int64_t>> count_by_kid(const std::string& specification);
};

}  // namespace keyagent::store
