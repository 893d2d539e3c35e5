// SPDX-License-Identifier: Apache-2.0
#pragma once
// The other instances: each is the fingerprint of its identity key, whatever its name or address.

#include <string>

#include "agent/instance/common/json.h"
#include "agent/instance/common/recorder.h"
#include "agent/instance/exchange/key_exchange_backend.h"
#include "agent/store/store.h"

namespace keyagent::instance {

inline constexpr const char* kFrequencies[] = {"adhoc", "one-time-clone", "recurring-clone"};
bool is_frequency(const std::string& text);

// Thread-safe.
class Peers {
 public:
  Peers(KeyExchangeBackend& door, store::Store& store, Recorder& recorder, const Clock& clock)
      : door_(door), store_(store), recorder_(recorder), clock_(clock) {}

  // {"name","identity","url","ca","replaces"}; "replaces": the peer's identity until now, whose
  // policy and requests continue.
  Json add(const Json& request, const std::string& by);
  Json list();
  Json remove(const std::string& name, const std::string& by);
  // {"frequencies","specifications","until","add"}: what of this peer's requests needs no person,
  // instead of what was set before, or with "add" beside it. No frequencies: nothing. adhoc always
  // needs one.
  Json set_automatic(const std::string& name, const Json& request, const std::string& by);

  // By name or identity. Throws Error{kUsage}.
  store::Peer find(const std::string& which);
  // Who stands behind it, where its policy approves this request; empty: a person has to.
  std::string approver(const store::Peer& peer, const store::Exchange& exchange);
  // A one-time policy is used up.
  store::Peer used_up(store::Peer peer, const store::Exchange& exchange) const;

 private:
  store::Peer replace(const store::Peer& peer, const std::string& before);
  Json describe(const store::Peer& peer, const std::string& own) const;

  KeyExchangeBackend& door_;
  store::Store& store_;
  Recorder& recorder_;
  const Clock& clock_;
};

}  // namespace keyagent::instance
