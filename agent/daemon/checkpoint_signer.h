// SPDX-License-Identifier: Apache-2.0
#pragma once
// Signs the audit log's checkpoints with a token key, and never makes the log wait for the token.

#include <chrono>
#include <functional>
#include <optional>
#include <thread>

#include "agent/audit/audit_log.h"
#include "agent/base/key_ops.h"
#include "agent/base/mutex.h"

namespace keyagent::daemon {

// Thread-safe. A dedicated thread calls the token; the caller waits at most `patience`. While a
// call is stuck, further ones are refused at once.
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
  Mutex mutex_;
  CondVar changed_;
  std::optional<Bytes> asked_ GUARDED_BY(mutex_);
  std::optional<Bytes> signature_ GUARDED_BY(mutex_);
  std::exception_ptr fault_ GUARDED_BY(mutex_);
  bool inside_ GUARDED_BY(mutex_) = false, ended_ GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace keyagent::daemon
