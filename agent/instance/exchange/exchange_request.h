// SPDX-License-Identifier: Apache-2.0
#pragma once
// What may become of a request for keys, at both of its ends. A pure table (MISSION.md X8).

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/error.h"

namespace keyagent::instance {

// Who asks for keys is the target, who has them the source.
enum class ExchangeSide { kSource, kTarget };
enum class ExchangeState {
  kPending,   // until a person at the source, or its policy, decides
  kApproved,  // until the source's agent has wrapped the keys
  kExported,  // until the target's agent has taken them in
  kImported,  // until both ends have compared what was done
  kVerified,  // until data is under the new keys, where that was asked for
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
  kImport,  // target: every key has its result; source: it was told the results
  kVerify,  // the other end's transcript is this end's
  kFinish,  // target: nothing is left to do; source: it was told so
  kFail,    // what no other try would change
  kFault,   // what another try may change
  kExpire,
  kRetry,  // a person's decision
  kAgain   // source: the target begins again, after a person there has decided so
};

std::string_view name_of(ExchangeSide side);
std::string_view name_of(ExchangeState state);
std::string_view name_of(ExchangeEvent event);
std::optional<ExchangeSide> exchange_side_of(std::string_view name);
std::optional<ExchangeState> exchange_state_of(std::string_view name);

struct ExchangeFacts {
  ExchangeSide side = ExchangeSide::kTarget;
  bool approved = false;  // by someone or something of the source
  bool exported = false;  // packages were made
  bool told = false;      // the other end knows how it ended
  bool verified = false;  // keys were taken in, and both ends have one transcript of that
};
struct ExchangeStep {
  ExchangeState to{};
  bool now = false;  // what is to be done next is not waited for
  bool alarm = false;
  bool operator==(const ExchangeStep&) const = default;
};

// nullopt: not from there. Where it has been done already, the same state: everything may be said
// twice.
std::optional<ExchangeStep> after(ExchangeState state, ExchangeEvent event,
                                  const ExchangeFacts& facts);

// What an end does by itself in a state.
enum class ExchangeWork {
  kNone,    // it waits for the other end, for a person, or has ended
  kAsk,     // target: give the request to the source and see what became of it
  kExport,  // source: have the keys wrapped
  kFetch,   // target: the packages
  kImport,  // target: have the keys unwrapped
  kReport,  // target: tell the results, compare the transcripts
  kFinish,  // target: re-encryption, then tell the source that it is done
  kTell     // tell the other end that it has ended
};
ExchangeWork work_of(ExchangeState state, const ExchangeFacts& facts);

bool has_ended(ExchangeState state);

// How long the try after so many faults in a row (from 1) waits: 1 s doubled by each, an hour at
// most, a fifth more or less. `random`: 0 to 255.
std::chrono::milliseconds exchange_wait(std::int64_t faults, unsigned random);
// How long a request that no one has decided waits to be checked again: 2 s doubled, a minute at
// most.
std::chrono::milliseconds exchange_poll(std::int64_t looks);
// After so many faults in a row someone should know. Once.
constexpr std::int64_t kAlarmingFaults = 3;

// For a person: what to do about a request that is so. Empty: nothing.
std::string next_step(ExchangeState state, const ExchangeFacts& facts, Code code);

}  // namespace keyagent::instance
