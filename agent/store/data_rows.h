// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the store keeps of data that are encrypted under data keys, one struct a row.

#include <cstdint>
#include <string>

#include "agent/base/clock.h"

namespace keyagent::store {

// The specification of the values of credentials: one record each, of the credential's name and
// version.
inline constexpr const char* kCredentialData = "instance-credentials";

// One kind of data. Its keys are the generations of the storage key "data.NAME" of the host's
// agent.
struct Specification {
  std::string name;    // [a-z0-9][a-z0-9._-]{0,40}
  std::string access;  // who may do what: a JSON array (instance/access.h)
  std::string created_by, changed_by;
  WallTime created, changed;
  std::int64_t revision = 0;  // for compare-and-set
};

// A key under which records are, or were: once it is here it stays.
struct DataKey {
  std::string kid, specification;
  std::string source;  // whose key it is: a JSON object (instance/data_keys.h)
  WallTime noted;
  bool closed = false;  // no record comes under it anymore
};

struct Record {
  std::string specification, id;
  std::string kid;           // of the key that the envelope names
  std::int64_t version = 0;  // of the value: another envelope of the same value changes nothing
  std::string envelope;      // JWE in compact form
  std::string changed_by;
  WallTime changed;
};
struct RecordPut {
  // kMoved: the record's version is taken by a concurrent change.
  enum class Outcome { kDone, kConflict, kClosed, kMoved };
  Outcome outcome = Outcome::kDone;
  std::int64_t version = 0;  // as it is in the store now; 0: there is no such record
};

// The re-encryption of a specification's records to its active key; the last one.
struct Reencryption {
  std::string specification;
  std::string state;  // running, paused, complete, partial
  std::string started_by;
  std::string text;       // why it is partial
  std::int64_t rate = 0;  // records a second at most; 0: as fast as it goes
  // Records to do at its start; done; those that could not be.
  std::int64_t total = 0, done = 0, failed = 0;
  std::string kid, position;  // the checkpoint: all before this id under this old key are done
  WallTime started, changed;
  WallTime since;               // from when on, and from how many on, its speed is measured
  std::int64_t since_done = 0;  //
  std::string holder;           // the replica that works at it; empty: none
  WallTime lease_until;
  std::int64_t fence = 0;  // raised by every change of the row
};
struct Replacement {
  std::string id;
  std::string before, after;  // envelopes
  std::string kid;            // of `after`
};

}  // namespace keyagent::store
