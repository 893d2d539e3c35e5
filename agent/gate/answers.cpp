// SPDX-License-Identifier: Apache-2.0
#include "agent/gate/answers.h"

#include "agent/base/encoding.h"
#include "agent/base/shell_argument.h"
#include "agent/policy/policy.h"

namespace keyagent::gate {
namespace {

// How long a caller should wait when the queue is full: by then part of it has been processed.
constexpr std::uint32_t kRetryAfterMs = 50;
// Not the uid of any user: (uid_t)-1 means "no user".
constexpr std::uint32_t kNoUid = 0xffffffff;

}  // namespace

wire::Response failure(const Call& call, const Error& error) {
  wire::Response response;
  response.set_id(call.request.id());
  auto& fault = *response.mutable_failure();
  fault.set_code(static_cast<wire::ErrorCode>(error.code()));
  fault.set_text(error.what());
  fault.set_kid(error.kid());
  if (error.code() == Code::kBusy)
    fault.set_retry_after_ms(call.retry_after_ms > 0 ? call.retry_after_ms : kRetryAfterMs);
  return response;
}

// The same text for a missing key and for one that the caller may not see.
Error denied(const Call& call) {
  const std::string action(policy::name_of(call.query.action));
  // "-": the caller may open nothing at all, so the envelope was not even read.
  const std::string which = call.which == "-" ? "" : escape_controls(call.which);
  if (call.query.action == policy::Action::kCredential) {
    return Error(Code::kDenied, call.principal.text() + " may not have credential " + which +
                                    "; the deciding rule: keyagent why credential " +
                                    as_argument(which));
  }
  if (!call.query.credential.empty()) {
    const auto credential = escape_controls(call.query.credential);
    return Error(Code::kDenied, "tasks of handler " + which + " may not have credential " +
                                    credential + "; to allow it: 'credentials: [" + credential +
                                    "]' in the policy's rule that allows work as " + which +
                                    "; the deciding rule: keyagent why work --credential=" +
                                    credential + " " + as_argument(which));
  }
  if (call.query.action == policy::Action::kWork) {
    return Error(Code::kDenied, call.principal.text() + " may not work as handler " + which +
                                    "; the deciding rule: keyagent why work " + as_argument(which));
  }
  const std::string peer = escape_controls(call.query.peer);
  const auto kid = Kid::parse(call.which);
  return Error(
      Code::kDenied,
      call.principal.text() + " may not " + action + (which.empty() ? "" : " with key " + which) +
          (peer.empty() ? "" : ", peer " + peer) + "; the deciding rule: keyagent why " + action +
          (peer.empty() ? "" : " --peer=" + peer) + (which.empty() ? "" : " " + as_argument(which)),
      kid ? kid->text() : "");
}

Error not_present(const Call& call) {
  const auto kid = Kid::parse(call.which);
  const std::string which = escape_controls(call.which);
  return Error(Code::kKeyNotPresent,
               "KEY_NOT_PRESENT " + std::string(kid ? "kid=" : "name=") + which +
                   ": this agent has no such key (see keyagent key list)",
               kid ? which : "");
}

std::string caller_of(const policy::Principal& principal) {
  using Voucher = policy::Principal::Voucher;
  if (principal.voucher == Voucher::kKernel) return "uid " + std::to_string(principal.uid);
  if (principal.voucher == Voucher::kInternal && !principal.subject.empty())
    return principal.subject;
  return principal.text();
}

std::uint32_t queue_of(const policy::Principal& principal) {
  return principal.voucher == policy::Principal::Voucher::kKernel ? principal.uid : kNoUid;
}

}  // namespace keyagent::gate
