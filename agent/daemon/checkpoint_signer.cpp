// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/checkpoint_signer.h"

#include <utility>

#include "agent/base/encoding.h"
#include "agent/base/error.h"

namespace keyagent::daemon {

CheckpointSigner::CheckpointSigner(KeyOps& ops, Kid kid, SignatureAlgorithm algorithm,
                                   std::chrono::milliseconds patience)
    : ops_(ops), kid_(std::move(kid)), algorithm_(algorithm), patience_(patience) {
  const auto digest = digest_of(algorithm);
  if (digest != DigestAlgorithm::kSha256 && digest != DigestAlgorithm::kNone) {
    throw Error(Code::kConfiguration,
                "the audit key signs with " + std::string(name_of(algorithm)) +
                    "; it must be ec-p256, ed25519 or rsa: name another one as audit.key");
  }
  thread_ = std::thread([this] { run(); });
}

CheckpointSigner::~CheckpointSigner() {
  {
    const MutexLock lock(mutex_);
    ended_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

Bytes CheckpointSigner::input_of(ByteView payload) const {
  if (digest_of(algorithm_) == DigestAlgorithm::kNone) return {payload.begin(), payload.end()};
  return sha256(payload);
}

audit::CheckpointSignature CheckpointSigner::sign(ByteView payload) {
  const MutexLock lock(mutex_);
  if (inside_ || asked_)
    throw Error(Code::kTokenStuck, "the token has not finished signing the last checkpoint");
  signature_.reset();
  fault_ = nullptr;
  asked_ = input_of(payload);
  changed_.notify_all();
  const bool done = changed_.wait_for(mutex_, patience_,
                                      [this]() REQUIRES(mutex_) { return signature_ || fault_; });
  if (!done) {
    asked_.reset();
    throw Error(Code::kTokenStuck, "the token did not sign a checkpoint in time");
  }
  if (fault_) std::rethrow_exception(std::exchange(fault_, nullptr));
  return {kid_.text(), std::string(name_of(algorithm_)), *std::exchange(signature_, std::nullopt)};
}

void CheckpointSigner::run() {
  MutexLock lock(mutex_);
  while (true) {
    changed_.wait(mutex_, [this]() REQUIRES(mutex_) { return asked_ || ended_; });
    if (ended_) return;
    const Bytes input = *std::exchange(asked_, std::nullopt);
    inside_ = true;
    lock.unlock();
    std::optional<Bytes> signature;
    std::exception_ptr fault;
    try {
      signature = ops_.sign(kid_, algorithm_, input);
    } catch (const std::exception&) {
      fault = std::current_exception();
    }
    lock.lock();
    inside_ = false;
    signature_ = std::move(signature);
    fault_ = fault;
    changed_.notify_all();
  }
}

}  // namespace keyagent::daemon
