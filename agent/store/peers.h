// SPDX-License-Identifier: Apache-2.0
#pragma once
// Other instances, with which keys are exchanged.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/store/engine/repository.h"
#include "agent/store/rows.h"

namespace keyagent::store {

class Peers : public Repository {
 public:
  using Repository::Repository;

  bool add(const Peer& peer);  // false: there is one of this name or identity
  std::optional<Peer> find(const std::string& identity);
  std::vector<Peer> all();  // by name
  // Route, name, key and policy if the row still has peer.revision, and raises it. False: someone
  // was faster.
  bool update(const Peer& peer);
  bool remove(const std::string& identity);
  // Pinned again, with its policy and its requests. False, and nothing is changed: there is no peer
  // `before`, or there is one `after`.
  bool replace(const std::string& before, const std::string& after);
  // What is of this instance's own identity `before`, requests and policies, is of `after` now.
  void replace_own_identity(const std::string& before, const std::string& after,
                            const Event& event);
  // Seen, and its epoch where that is greater than what is known.
  void note(const std::string& identity, std::int64_t epoch, const std::string& epoch_jws,
            WallTime now);
  // True once for each nonce of a peer, until it is expired and forgotten.
  bool use_nonce(const std::string& peer, const std::string& nonce, WallTime expires);
};

}  // namespace keyagent::store
