// SPDX-License-Identifier: Apache-2.0
#pragma once
// The kids of keys that were asked for before.

#include <map>
#include <optional>
#include <string>

#include "agent/base/bytes.h"
#include "agent/base/mutex.h"

namespace keyagent::sshagent {

// Parsing a key blob and computing its thumbprint takes longer than signing with P-256.
// Thread-safe; holds only keys that the gate has shown to a caller, so that callers cannot fill it
// with others.
class FingerprintCache {
 public:
  std::optional<std::string> kid(ByteView blob) const {
    const MutexLock guard(mutex_);
    const auto found = kids_.find(Bytes(blob.begin(), blob.end()));
    return found == kids_.end() ? std::nullopt : std::optional(found->second);
  }
  void remember(const Bytes& blob, const std::string& kid) {
    const MutexLock guard(mutex_);
    if (kids_.size() >= kMost) kids_.clear();
    kids_.emplace(blob, kid);
  }

 private:
  static constexpr std::size_t kMost = 4096;

  mutable Mutex mutex_;
  std::map<Bytes, std::string> kids_ GUARDED_BY(mutex_);
};

}  // namespace keyagent::sshagent
