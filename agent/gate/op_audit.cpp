// Reading and verifying the audit log.

#include <algorithm>

#include "agent/gate/operation.h"

namespace keyagent::gate {
namespace {

constexpr std::uint32_t kMostRecords = 1000;
constexpr std::size_t kMostBytes = 200 * 1024;  // an answer is one frame

}  // namespace

void run_audit_tail(Call& call) {
  const auto wanted = std::clamp(call.request.audit_tail().count(), 1u, kMostRecords);
  auto records = audit::tail(call.state.services.audit_folder, wanted);
  std::size_t bytes = 0;
  auto first = records.end();
  while (first != records.begin() && bytes + std::prev(first)->size() < kMostBytes)
    bytes += (--first)->size();
  auto& reply = *call.response.mutable_audit_tail();
  for (; first != records.end(); ++first) reply.add_records(std::move(*first));
}

void run_audit_verify(Call& call) {
  const std::unique_lock lock(call.state.verify_mutex, std::try_to_lock);
  if (!lock) throw Error(Code::kBusy, "the audit log is being verified already; try again");
  auto& services = call.state.services;
  audit::VerifyOptions options;
  const auto& external = call.request.audit_verify().external_checkpoint();
  if (!external.empty()) options.external_checkpoint = external;
  for (const auto& record : services.keys->list()) {
    if (record.purpose == Purpose::kAudit) options.keys[record.kid.text()] = record.spki;
  }
  // A checkpoint now covers all that is there: without a signer the chain alone is verified.
  const auto checkpoint = services.audit->checkpoint();
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
