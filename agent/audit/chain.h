// SPDX-License-Identifier: Apache-2.0
#pragma once
// The hash chain of the audit log: each line contains the hash of the line before it (record.h),
// and a checkpoint signs the newest hash.

#include <cstdint>
#include <string>

#include "agent/audit/audit_log.h"
#include "agent/audit/log_tail.h"

namespace keyagent::audit {

// Formats lines; writes nothing. One thread at a time. `options` must outlive it.
class Chain {
 public:
  // What a failed write takes back.
  struct Head {
    std::string hash;  // of the newest line
    std::uint64_t records_at_checkpoint = 0;
  };

  explicit Chain(const Options& options);
  void continue_at(const Tail& tail);
  const Head& head() const { return head_; }
  void go_back_to(const Head& head) { head_ = head; }

  void append(std::string& lines, std::uint64_t seq, WallTime time, const Event& event);
  // Is a checkpoint due when the log has so many records?
  bool checkpoint_due(std::uint64_t records) const;
  // Appends a checkpoint of all before `seq`, and raises `seq`. Returns what checkpoint.json holds
  // then; empty: the signer failed, nothing was appended, and the next interval tries again.
  std::string add_checkpoint(std::string& lines, std::uint64_t& seq,
                             const CheckpointSigner& signer);

 private:
  void append(std::string& lines, const std::string& line);

  const Options& options_;
  Head head_;
  SteadyTime last_checkpoint_{};
};

}  // namespace keyagent::audit
