// SPDX-License-Identifier: Apache-2.0
// Reading and verifying the audit log.

#include <algorithm>

#include "agent/audit/record.h"
#include "agent/gate/operation.h"

namespace keyagent::gate {
namespace {

constexpr std::uint32_t kMaxRecords = 1000;
constexpr std::size_t kMaxBytes = 1024 * 1024;  // of an answer
// Records of today are shorter; older agents wrote names of any length (RELIABILITY 155).
constexpr std::size_t kMaxRecordBytes = 16 * 1024;

}  // namespace

// Omitted records are counted, so that a partial reply is recognizable.
void run_audit_tail(Call& call) {
  const auto wanted = std::clamp(call.request.audit_tail().count(), 1u, kMaxRecords);
  call.state.services.audit.flush();  // what was answered before is in it
  auto records = audit::tail(call.state.services.audit_folder, wanted);
  auto& reply = *call.response.mutable_audit_tail();
  for (auto& record : records) {
    if (record.size() <= kMaxRecordBytes) continue;
    record = audit::shorten_line(record, kMaxRecordBytes);
    reply.set_shortened(reply.shortened() + 1);
  }
  std::size_t bytes = 0;
  auto first = records.end();
  while (first != records.begin() && bytes + std::prev(first)->size() < kMaxBytes)
    bytes += (--first)->size();
  reply.set_omitted(static_cast<std::uint32_t>(first - records.begin()));
  reply.set_total(call.state.services.audit.size());
  for (; first != records.end(); ++first) reply.add_records(std::move(*first));
}

void run_audit_verify(Call& call) {
  if (!call.state.verify_mutex.try_lock())
    throw Error(Code::kBusy, "another verification of the audit log is running; try again");
  const MutexLock lock(call.state.verify_mutex, std::adopt_lock);
  auto& services = call.state.services;
  audit::VerifyOptions options;
  const auto& external = call.request.audit_verify().external_checkpoint();
  if (!external.empty()) options.external_checkpoint = external;
  for (const auto& record : services.keys.list()) {
    if (record.purpose == Purpose::kAudit) options.keys[record.kid.text()] = record.spki;
  }
  // A checkpoint now covers all that is there: without a signer the chain alone is verified.
  const auto checkpoint = services.audit.checkpoint();
  options.records = services.audit.size();
  options.anchors = services.around.audit_anchors();
  const auto result = audit::verify(services.audit_folder, options);
  auto& reply = *call.response.mutable_audit_verify();
  reply.set_ok(result.ok);
  reply.set_records(result.records);
  reply.set_checkpoints(result.checkpoints);
  reply.set_checkpoints_verified(result.checkpoints_verified);
  reply.set_has_first_bad(result.first_bad_seq.has_value());
  reply.set_first_bad_seq(result.first_bad_seq.value_or(0));
  reply.set_text(result.text);
  reply.set_checkpoint(checkpoint.value_or(""));
}

}  // namespace keyagent::gate
