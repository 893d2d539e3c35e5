// SPDX-License-Identifier: Apache-2.0
#pragma once
// A program of the operator's that must confirm a new key: the peer's confirmation where there is
// no instance. Its interface: README.md, and keyagentd.yml(5).

#include <chrono>
#include <filesystem>

#include "agent/keys/rekey_runner.h"

namespace keyagent::daemon {

// Thread-safe. A program that takes longer than `patience` is killed and asked again later.
class HookConfirmation final : public keys::Confirmation {
 public:
  explicit HookConfirmation(std::filesystem::path program,
                            std::chrono::milliseconds patience = std::chrono::seconds(30))
      : program_(std::move(program)), patience_(patience) {}
  Said ask(Phase phase, const keys::RekeyRecord& rekey, const keys::KeyRecord& old,
           const keys::KeyRecord& fresh) override;

 private:
  const std::filesystem::path program_;
  const std::chrono::milliseconds patience_;
};

}  // namespace keyagent::daemon
