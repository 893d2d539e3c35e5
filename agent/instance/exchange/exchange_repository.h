// SPDX-License-Identifier: Apache-2.0
#pragma once
// The requests for keys as they stand at this end: every change of one goes through the table
// (exchange_request.h), is one compare-and-set of its row, and is recorded with it.

#include <string>
#include <vector>

#include "agent/instance/common/json.h"
#include "agent/instance/common/recorder.h"
#include "agent/instance/exchange/exchange_request.h"
#include "agent/store/store.h"

namespace keyagent::instance {

ExchangeState state_of(const store::Exchange& exchange);
ExchangeFacts facts_of(const store::Exchange& exchange);

struct ExchangeCause {
  ExchangeEvent event{};
  std::string actor;
  Code code = Code::kOk;
  std::string text{};  // for people: why
};

// Thread-safe.
class ExchangeRepository {
 public:
  ExchangeRepository(store::Store& store, Recorder& recorder, const Clock& clock)
      : store_(store), recorder_(recorder), clock_(clock) {}

  // A new row, due as its state wants. False: there is one of this id.
  bool add(store::Exchange exchange, const std::string& actor);
  // Of this identity. Throws Error{kUsage}.
  store::Exchange require(const std::string& id, const std::string& own);
  // True: the event was applied, now or earlier; `row` is updated from the store. False: a
  // concurrent change was made, and nothing was changed. Throws Error{kKeyState}: not allowed in
  // this state. `keys`, unless nullptr, replace all of its keys. `policy`, unless nullptr: the peer
  // whose policy allows the event, with that policy updated; false when it was changed
  // concurrently.
  bool apply(store::Exchange& row, const ExchangeCause& what,
             const std::vector<store::ExchangeKey>* keys = nullptr,
             const store::Peer* policy = nullptr);
  // Nothing happened; to be checked again a little later.
  bool look_again(store::Exchange& row);
  // Claims the exchange for this replica for a while. False: another replica has it.
  bool claim(store::Exchange& row);

  Json describe(const store::Exchange& row);

 private:
  bool move(store::Exchange& row, const std::vector<store::ExchangeKey>* keys,
            const std::optional<store::Event>& event);
  WallTime due_of(const store::Exchange& row, bool fault) const;

  store::Store& store_;
  Recorder& recorder_;
  const Clock& clock_;
};

struct KeyCounts {
  std::int64_t imported = 0, total = 0;  // the source has `total`; `imported` are at the target
};
KeyCounts count_keys(const std::vector<store::ExchangeKey>& keys);

// The result of an exchange in the form that both ends compute: JSON of the request and of every
// key's result, and its SHA-256 in base64url.
std::string transcript_of(const store::Exchange& exchange,
                          const std::vector<store::ExchangeKey>& keys);
std::string transcript_hash(const std::string& transcript);
// What an end signs of it.
Json statement_of(const store::Exchange& exchange, const std::string& transcript);

}  // namespace keyagent::instance
