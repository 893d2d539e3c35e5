// SPDX-License-Identifier: Apache-2.0
#pragma once
// The gate: authorize → audit → run → count, for every request of every face. There is no other way
// to a key.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "agent/audit/audit_log.h"
#include "agent/base/clock.h"
#include "agent/gate/refusals.h"
#include "agent/gate/surroundings.h"
#include "agent/keys/key_store.h"
#include "agent/keys/rekey_runner.h"
#include "agent/wire/keyagent.pb.h"

namespace keyagent::gate {

// What the operations work on. All thread-safe, and there until stop() has returned.
struct Services {
  keys::KeyStore& keys;
  keys::RekeyRunner& rekeys;
  vault::TokenVault& vault;
  audit::AuditLog& audit;
  const Clock& clock;
  std::filesystem::path audit_folder;
  Surroundings& around;
  InstanceLink& link;
};

struct GateOptions {
  std::size_t token_operations = 4;          // concurrent token operations (= sessions)
  std::size_t queue = 256;                   // waiting token operations before BUSY
  std::chrono::milliseconds deadline{5000};  // for a request that names none; also the longest
  std::chrono::microseconds failure_quantum{
      5000};  // failed opens are answered at the next multiple after their start
  // Failed envelopes after which a caller is paused with a key.
  std::size_t failures_per_key_per_day = 1000;
  keys::CensusLimits census;
  RefusalLimits refusals;
  std::uint32_t proofs_per_minute = 6;  // attempts of a caller to take a key out (key show --prove)
  // Blocks until then: a failed decryption keeps its token slot until its fixed time.
  std::function<void(SteadyTime)> wait_until = [](SteadyTime when) {
    std::this_thread::sleep_until(when);
  };
};

struct GateCounters {
  std::atomic<std::uint64_t> requests{0}, refused{0}, failed{0}, busy{0}, deadline{0};
  std::atomic<std::uint32_t> queued{0}, running{0};
};

// How the gate gives its answer, and how it asks to be called later; implemented over
// net::Responder and net::UnixServer by the daemon, and by a plain struct in tests.
class Reply {
 public:
  virtual ~Reply() = default;
  virtual bool answer(const wire::Response& response) = 0;  // false: an answer was given before
  virtual void answer_at(SteadyTime when, const wire::Response& response) = 0;
};
using Timer = std::function<void(SteadyTime, std::function<void()>)>;

// Thread-safe. handle() runs a token operation on the calling thread when one of the
// `token_operations` is free; otherwise the request is queued, round robin by uid, and the thread
// returns: the thread that finishes an operation takes the next one. So at most `token_operations`
// threads are inside the token, and a caller with two more threads always has one to read, refuse
// and report. A request that passes its deadline, running or waiting, is answered DEADLINE by the
// timer.
class Gate {
 public:
  Gate(GateOptions options, Services services, Timer timer);
  ~Gate();
  void handle(const policy::Principal& principal, wire::Request request,
              std::shared_ptr<Reply> reply);
  const GateCounters& counters() const;
  // Records what another part of the agent refused to this caller: on disk when this returns, or
  // counted when the caller is over its budget of records.
  void record_refusal(const policy::Principal& principal, audit::Event event);
  // After a reload: callers that were paused for too many failed envelopes open again.
  void forgive(std::size_t failures_per_key_per_day);
  // After a reload.
  void set_budgets(const RefusalLimits& refusals, std::uint32_t proofs_per_minute);
  // Usage of the limits.
  std::vector<LimitUsage> usage() const;
  // Stops calling deadlines and records counted refusals. Call it before the objects that `timer`
  // uses are destroyed.
  void stop();

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace keyagent::gate
