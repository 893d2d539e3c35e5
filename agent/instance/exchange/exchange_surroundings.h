// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the exchange of keys needs from the instance around it.

#include <string>

namespace keyagent::instance {

// Thread-safe. Outlives the Exchanges.
class ExchangeSurroundings {
 public:
  virtual ~ExchangeSurroundings() = default;

  // How old the store is, signed (epoch.h).
  virtual std::string current_epoch() = 0;
  // Checks a number of this store that was sent earlier, and that `who` (agent or peer) kept.
  virtual void judge_epoch(const std::string& who, const std::string& jws) = 0;
  // Throws Error{kKeyState} while the store is one that was restored and is not accepted.
  virtual void require_accepted() = 0;
  // Throws Error{kDenied} if the specification's access policy does not let this person, who
  // approved a request, give its keys away.
  virtual void require_exchange(const std::string& specification, const std::string& person) = 0;
  // Keys came: re-encrypts the specification's records to a new key of this instance. May be called
  // again for the same request.
  virtual void follow_import(const std::string& specification, const std::string& request) = 0;
};

}  // namespace keyagent::instance
