// SPDX-License-Identifier: Apache-2.0
#include "agent/audit/chain.h"

#include "agent/audit/record.h"
#include "agent/base/log.h"

namespace keyagent::audit {

Chain::Chain(const Options& options)
    : options_(options), last_checkpoint_(options.clock->now_steady()) {}

void Chain::continue_at(const Tail& tail) {
  head_ = {tail.hash, tail.records};
}

void Chain::append(std::string& lines, const std::string& line) {
  const auto at = line.rfind(",\"hash\":\"");
  head_.hash = line.substr(at + 9, 64);
  lines += line;
  lines += '\n';
}

void Chain::append(std::string& lines, std::uint64_t seq, WallTime time, const Event& event) {
  append(lines, format_event(seq, time, head_.hash, event));
}

bool Chain::checkpoint_due(std::uint64_t records) const {
  const auto since = options_.clock->now_steady() - last_checkpoint_;
  const auto news = records - head_.records_at_checkpoint;
  return news >= options_.checkpoint_records || (news > 0 && since >= options_.checkpoint_interval);
}

std::string Chain::add_checkpoint(std::string& lines, std::uint64_t& seq,
                                  const CheckpointSigner& signer) {
  const std::uint64_t covers = seq;
  const std::string covered = head_.hash;
  const auto now = options_.clock->now();
  last_checkpoint_ = options_.clock->now_steady();
  CheckpointSignature signature;
  // A token that does not sign now must not stop the log.
  try {
    signature = signer(as_bytes(checkpoint_payload(covers, covered)));
  } catch (const std::exception& error) {
    log_warning("audit", std::string("no checkpoint could be signed: ") + error.what());
    return {};
  }
  append(lines, format_checkpoint(seq++, now, covered, covers, signature));
  head_.records_at_checkpoint = seq;
  return format_external(covers, covered, now, signature);
}

}  // namespace keyagent::audit
