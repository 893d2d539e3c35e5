// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/exchange/exchange_request.h"

#include <algorithm>
#include <utility>

namespace keyagent::instance {
namespace {

using enum ExchangeState;
using enum ExchangeEvent;

constexpr std::pair<ExchangeState, std::string_view> kStates[] = {
    {kPending, "pending"},    {kApproved, "approved"}, {kExported, "exported"},
    {kImported, "imported"},  {kVerified, "verified"}, {kComplete, "complete"},
    {kRejected, "rejected"},  {kExpired, "expired"},   {kFailed, "failed"},
    {kCancelled, "cancelled"}};
constexpr std::pair<ExchangeEvent, std::string_view> kEvents[] = {
    {kApprove, "approve"}, {kReject, "reject"}, {kCancel, "cancel"}, {kExport, "export"},
    {kImport, "import"},   {kVerify, "verify"}, {kFinish, "finish"}, {kFail, "fail"},
    {kFault, "fault"},     {kExpire, "expire"}, {kRetry, "retry"},   {kAgain, "again"}};

enum class When {
  kAlways,
  kApprovedOnce,    // it was approved before
  kAtTarget,        // this is the target, which alone restarts what has failed
  kVerifiedOnce,    // completed steps need not be repeated
  kVerifiedTarget,  // both
  kLate             // this is the source, and its packages have left
};

struct Rule {
  ExchangeState from;
  ExchangeEvent event;
  When when;
  ExchangeStep step;  // to, now, alarm
};

// The first that fits.
constexpr Rule kRules[] = {
    {kPending, kApprove, When::kAlways, {kApproved, true}},
    {kPending, kReject, When::kAlways, {kRejected}},
    {kPending, kCancel, When::kAlways, {kCancelled, true}},
    {kPending, kFail, When::kAlways, {kFailed, true, true}},
    {kPending, kFault, When::kAlways, {kPending}},
    {kPending, kExpire, When::kAlways, {kExpired}},
    {kPending, kRetry, When::kAlways, {kPending, true}},

    {kApproved, kApprove, When::kAlways, {kApproved}},
    {kApproved, kExport, When::kAlways, {kExported, true}},
    {kApproved, kCancel, When::kAlways, {kCancelled, true}},
    {kApproved, kFail, When::kAlways, {kFailed, true, true}},
    {kApproved, kFault, When::kAlways, {kApproved}},
    {kApproved, kExpire, When::kAlways, {kExpired}},
    {kApproved, kRetry, When::kAlways, {kApproved, true}},

    {kExported, kApprove, When::kAlways, {kExported}},
    {kExported, kExport, When::kAlways, {kExported}},
    {kExported, kImport, When::kAlways, {kImported, true}},
    {kExported, kCancel, When::kAlways, {kCancelled, true}},
    {kExported, kFail, When::kAlways, {kFailed, true, true}},
    {kExported, kFault, When::kAlways, {kExported}},
    {kExported, kExpire, When::kAlways, {kExpired}},
    {kExported, kRetry, When::kAlways, {kExported, true}},

    {kImported, kApprove, When::kAlways, {kImported}},
    {kImported, kImport, When::kAlways, {kImported}},
    {kImported, kVerify, When::kAlways, {kVerified, true}},
    {kImported, kFail, When::kAlways, {kFailed, true, true}},
    {kImported, kFault, When::kAlways, {kImported}},
    {kImported, kExpire, When::kAlways, {kExpired}},
    {kImported, kRetry, When::kAlways, {kImported, true}},

    {kVerified, kApprove, When::kAlways, {kVerified}},
    {kVerified, kImport, When::kAlways, {kVerified}},
    {kVerified, kVerify, When::kAlways, {kVerified}},
    {kVerified, kFinish, When::kAlways, {kComplete}},
    {kVerified, kFail, When::kAlways, {kFailed, true, true}},
    {kVerified, kFault, When::kAlways, {kVerified}},
    {kVerified, kRetry, When::kAlways, {kVerified, true}},

    {kComplete, kApprove, When::kAlways, {kComplete}},
    {kComplete, kImport, When::kAlways, {kComplete}},
    {kComplete, kVerify, When::kAlways, {kComplete}},
    {kComplete, kFinish, When::kAlways, {kComplete}},
    {kRejected, kReject, When::kAlways, {kRejected}},
    {kCancelled, kCancel, When::kAlways, {kCancelled}},
    {kCancelled, kFault, When::kAlways, {kCancelled}},  // the other end could not be notified
    // The source follows the target's result, even after it stopped waiting for it.
    {kCancelled, kImport, When::kLate, {kImported}},
    {kExpired, kImport, When::kLate, {kImported}},
    {kFailed, kFail, When::kAlways, {kFailed}},
    {kFailed, kFault, When::kAlways, {kFailed}},
    {kFailed, kCancel, When::kAlways, {kCancelled, true}},
    {kFailed, kFinish, When::kVerifiedOnce, {kComplete}},
    // At the source it would wait for a target that has given up: that one asks again (kAgain).
    {kFailed, kRetry, When::kVerifiedTarget, {kVerified, true}},
    {kFailed, kRetry, When::kAtTarget, {kPending, true}},

    {kApproved, kAgain, When::kApprovedOnce, {kApproved}},
    {kExported, kAgain, When::kApprovedOnce, {kApproved, true}},
    {kImported, kAgain, When::kApprovedOnce, {kApproved, true}},
    {kVerified, kAgain, When::kApprovedOnce, {kApproved, true}},
    {kFailed, kAgain, When::kApprovedOnce, {kApproved, true}},
    {kFailed, kAgain, When::kAlways, {kPending, true}},
};

bool fits(When when, const ExchangeFacts& facts) {
  switch (when) {
    case When::kAlways:
      return true;
    case When::kApprovedOnce:
      return facts.side == ExchangeSide::kSource && facts.approved;
    case When::kAtTarget:
      return facts.side == ExchangeSide::kTarget;
    case When::kVerifiedOnce:
      return facts.verified;
    case When::kVerifiedTarget:
      return facts.side == ExchangeSide::kTarget && facts.verified;
    case When::kLate:
      break;
  }
  return facts.side == ExchangeSide::kSource && facts.exported;
}

template <class Value, class Table>
std::string_view name_in(const Table& table, Value value) {
  for (const auto& [each, name] : table) {
    if (each == value) return name;
  }
  return "?";
}

ExchangeWork work_of_target(ExchangeState state) {
  switch (state) {
    case kPending:
      return ExchangeWork::kAsk;
    case kApproved:
      return ExchangeWork::kFetch;
    case kExported:
      return ExchangeWork::kImport;
    case kImported:
      return ExchangeWork::kReport;
    case kVerified:
      return ExchangeWork::kFinish;
    default:
      return ExchangeWork::kNone;
  }
}

std::string after_failure(const ExchangeFacts& facts, Code code) {
  const bool target = facts.side == ExchangeSide::kTarget;
  const std::string retry = std::string(target ? "then:" : "then at the target:") +
                            " keyagent instance exchange retry ID";
  switch (layer_of(code)) {
    case Layer::kIntegrity:
      return "verify the identity of the peer first; a new request needs its pinned identity "
             "(keyagent instance peer list)";
    case Layer::kPolicy:
      return "allow it in the policy of the side that refused, " + retry;
    case Layer::kKey:
      return "see which keys are affected (keyagent instance exchange show ID), " + retry;
    case Layer::kToken:
      return "repair the token (keyagent doctor), " + retry;
    default:
      return "fix the named problem, " + retry;
  }
}

}  // namespace

std::string_view name_of(ExchangeSide side) {
  return side == ExchangeSide::kSource ? "source" : "target";
}

std::string_view name_of(ExchangeState state) {
  return name_in(kStates, state);
}

std::string_view name_of(ExchangeEvent event) {
  return name_in(kEvents, event);
}

std::optional<ExchangeSide> exchange_side_of(std::string_view name) {
  for (const auto side : {ExchangeSide::kSource, ExchangeSide::kTarget}) {
    if (name_of(side) == name) return side;
  }
  return std::nullopt;
}

std::optional<ExchangeState> exchange_state_of(std::string_view name) {
  for (const auto& [state, text] : kStates) {
    if (text == name) return state;
  }
  return std::nullopt;
}

std::optional<ExchangeStep> after(ExchangeState state, ExchangeEvent event,
                                  const ExchangeFacts& facts) {
  for (const auto& rule : kRules) {
    if (rule.from == state && rule.event == event && fits(rule.when, facts)) return rule.step;
  }
  return std::nullopt;
}

ExchangeWork work_of(ExchangeState state, const ExchangeFacts& facts) {
  if (facts.side == ExchangeSide::kSource)
    return state == kApproved ? ExchangeWork::kExport : ExchangeWork::kNone;
  const bool to_tell = state == kCancelled || state == kFailed;
  if (to_tell && !facts.told) return ExchangeWork::kTell;
  return work_of_target(state);
}

bool has_ended(ExchangeState state) {
  return state >= ExchangeState::kComplete;
}

std::chrono::milliseconds exchange_wait(std::int64_t faults, unsigned random) {
  using namespace std::chrono;
  const auto doublings = std::clamp<std::int64_t>(faults - 1, 0, 12);
  const milliseconds wait = std::min<milliseconds>(1s * (std::int64_t{1} << doublings), 1h);
  return wait * 4 / 5 + wait * 2 / 5 * (random & 255U) / 255;
}

std::chrono::milliseconds exchange_poll(std::int64_t looks) {
  using namespace std::chrono;
  const auto doublings = std::clamp<std::int64_t>(looks, 0, 6);
  return std::min<milliseconds>(2s * (std::int64_t{1} << doublings), 1min);
}

std::string next_step(ExchangeState state, const ExchangeFacts& facts, Code code) {
  const bool source = facts.side == ExchangeSide::kSource;
  switch (state) {
    case kPending:
      return source ? "keyagent instance exchange approve ID, or reject ID"
                    : "a cryptographic-manager of the source must approve or reject it";
    case kRejected:
      return source ? std::string()
                    : "ask the source for the reason; a new request can be made at any time";
    case kExpired:
      if (facts.exported && source)
        return "the packages were delivered; only the target knows whether they were imported";
      return source ? std::string() : "make a new request, and have it approved in time";
    case kCancelled:
      return source ? std::string() : "make a new request if the keys are needed after all";
    case kFailed:
      return after_failure(facts, code);
    default:
      return {};
  }
}

}  // namespace keyagent::instance
