// SPDX-License-Identifier: Apache-2.0
#pragma once
// What may become of a request for keys, at both of its ends. A pure table (MISSION.md X8).

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/error.h"

namespace keyagent::instance {

// The target requests keys, the source has them.
enum class ExchangeSide { kSource, kTarget };
enum class ExchangeState {
  kPending,   // until an administrator at the source, or its policy, decides
  kApproved,  // until the source's agent has wrapped the keys
  kExported,  // until the target's agent has taken them in
  kImported,  // until both ends have compared what was done
  kVerified,  // until data is re-encrypted to the new keys, if requested
  kComplete,
  kRejected,
  kExpired,
  kFailed,
  kCancelled
};
enum class ExchangeEvent {
  kApprove,
  kReject,
  kCancel,
  kExport,  // source: the packages are made; target: it has them
  kImport,  // target: every key has its result; source: it received the results
  kVerify,  // the other end's transcript is this end's
  kFinish,  // target: nothing is left to do; source: it was notified of that
  kFail,    // permanent error
  kFault,   // temporary error: try again
  kExpire,
  kRetry,  // decided by an administrator
  kAgain   // source: the target starts again, by decision of its administrator
};

std::string_view name_of(ExchangeSide side);
std::string_view name_of(ExchangeState state);
std::string_view name_of(ExchangeEvent event);
std::optional<ExchangeSide> exchange_side_of(std::string_view name);
std::optional<ExchangeState> exchange_state_of(std::string_view name);

struct ExchangeFacts {
  ExchangeSide side = ExchangeSide::kTarget;
  bool approved = false;  // by an administrator or the policy of the source
  bool exported = false;  // packages were made
  bool told = false;      // the other end has been notified of the end
  bool verified = false;  // keys were imported, and both ends have the same transcript
};
struct ExchangeStep {
  ExchangeState to{};
  bool now = false;  // what is to be done next is not waited for
  bool alarm = false;
  bool operator==(const ExchangeStep&) const = default;
};

// nullopt: not allowed in this state. When it was applied already, the same state: messages may be
// repeated.
std::optional<ExchangeStep> after(ExchangeState state, ExchangeEvent event,
                                  const ExchangeFacts& facts);

// What an end does automatically in a state.
enum class ExchangeWork {
  kNone,    // waits for the other end or an administrator, or has ended
  kAsk,     // target: send the request to the source and query its state
  kExport,  // source: have the keys wrapped
  kFetch,   // target: the packages
  kImport,  // target: have the keys unwrapped
  kReport,  // target: send the results, compare the transcripts
  kFinish,  // target: re-encryption, then notify the source
  kTell     // notify the other end that it has ended
};
ExchangeWork work_of(ExchangeState state, const ExchangeFacts& facts);

bool has_ended(ExchangeState state);

// The pause after this many consecutive faults (from 1): 1 s, doubled by each, an hour at most, a
// fifth more or less. `random`: 0 to 255.
std::chrono::milliseconds exchange_wait(std::int64_t faults, unsigned random);
// The interval between polls of an undecided request: 2 s, doubled by each poll, a minute at most.
std::chrono::milliseconds exchange_poll(std::int64_t looks);
// After this many consecutive faults an alarm is raised, once.
constexpr std::int64_t kAlarmingFaults = 3;

// The next step for an administrator; empty: none.
std::string next_step(ExchangeState state, const ExchangeFacts& facts, Code code);

}  // namespace keyagent::instance
