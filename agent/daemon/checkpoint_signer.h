// SPDX-License-Identifier: Apache-2.0
#pragma once
// Signs the audit log's checkpoints with a token key, and never makes the log wait for the token.

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>

#include "agent/audit/audit_log.h"
#include "agent/base/key_ops.h"

namespace keyagent::daemon {

// Thread-safe. Its own thread is inside the token; who asks waits at most `patience`. While a
// call has not come back every further one is refused at once.
class CheckpointSigner {
 public:
  CheckpointSigner(KeyOps& ops, Kid kid, SignatureAlgorithm algorithm,
                   std::chrono::milliseconds patience = std::chrono::seconds(2));
  ~CheckpointSigner();
  // Throws Error{kTokenStuck} when the token does not answer in time, and what KeyOps::sign throws.
  audit::CheckpointSignature sign(ByteView payload);
  const Kid& kid() const { return kid_; }

 private:
  void run();
  Bytes input_of(ByteView payload) const;

  KeyOps& ops_;
  const Kid kid_;
  const SignatureAlgorithm algorithm_;
  const std::chrono::milliseconds patience_;
  std::mutex mutex_;
  std::condition_variable changed_;
  // All below are guarded by mutex_.
  std::optional<Bytes> asked_;
  std::optional<Bytes> signature_;
  std::exception_ptr fault_;
  bool inside_ = false, ended_ = false;
  std::thread thread_;
};

}  // namespace keyagent::daemon
