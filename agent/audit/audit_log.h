// SPDX-License-Identifier: Apache-2.0
#pragma once
// The audit log: a hash chain of JSON lines with group commit and signed checkpoints. Format:
// agent/audit/README.md.

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/bytes.h"
#include "agent/base/clock.h"

namespace keyagent::audit {

// One thing that happened. All texts are names, kids, codes: never secrets. Control bytes are
// escaped on writing.
struct Event {
  std::string what;  // "open" "sign" "key.create" "refused" "start" "config.reload" …
  std::string who;   // Principal::text()
  std::int32_t pid = 0;
  std::string key;  // name
  std::string kid;
  std::string outcome;  // "ok" or a code name
  std::string rule;     // the policy rule that decided
  std::string detail;
};

// Signs checkpoint bytes with the audit key; returns the signature (JWS-style raw) and its kid and
// algorithm. Throws when it cannot.
struct CheckpointSignature {
  std::string kid, algorithm;
  Bytes signature;
};
using CheckpointSigner = std::function<CheckpointSignature(ByteView payload)>;

struct Options {
  std::filesystem::path folder;  // holds audit.log and checkpoint.json; created 0700
  const Clock* clock = nullptr;  // never null
  std::chrono::milliseconds commit_interval{5};  // group commit: what a crash may lose
  std::uint64_t checkpoint_records = 1000;       // a checkpoint after at most this many records …
  std::chrono::milliseconds checkpoint_interval{
      60000};  // … or this much time, if records were added
};

// Thread-safe. A dedicated thread writes the file.
class AuditLog {
 public:
  // Opens the log, verifies its tail, quarantines a torn last record (to audit.torn-SEQ, and
  // records that in an event), and continues the chain. Throws Error{kIntegrity} when the last
  // 1,000 records do not chain, or when the log is shorter than the newest checkpoint beside it. A
  // folder that cannot be written does not throw: fault() returns the reason, reserve() throws, and
  // the log is opened as soon as possible, with the events queued meanwhile (1,000 at most).
  explicit AuditLog(Options options);
  ~AuditLog();

  // Disk space for one record, reserved from before an operation begins until it is recorded, so
  // that every admitted operation can be recorded even if the disk fills up (RELIABILITY 166).
  // Released when destroyed. The log must outlive it.
  class Room {
   public:
    Room() = default;
    Room(Room&& other) noexcept : log_(std::exchange(other.log_, nullptr)) {}
    Room& operator=(Room&& other) noexcept {
      std::swap(log_, other.log_);
      return *this;
    }
    ~Room();

   private:
    friend class AuditLog;
    explicit Room(AuditLog* log) : log_(log) {}
    AuditLog* log_ = nullptr;
  };
  // Throws Error{kInternal} when the log cannot be written or its disk is full. It is asked again a
  // second later, so that service resumes when there is room.
  Room reserve();

  // Queues an event and returns: it is on disk within commit_interval. Never waits for a sync.
  // Throws Error{kInternal} when the log cannot be written anymore, its disk or its bounded queue
  // is full: the caller then refuses the operation (fail closed).
  void record(Event event);
  // With the room that was reserved for it; a longer text is cut to fit.
  void record(Event event, Room room);
  // Returns when all that was queued before is synced, or cannot be.
  void flush();
  // The same, and returns only when it is synced: refusals, changes of keys, start and stop.
  void record_now(Event event);

  // Set once the audit key is usable; a checkpoint is signed at once. The signer is called on the
  // log's own thread: it must not call this log.
  void set_signer(CheckpointSigner signer);
  // Signs a checkpoint now and returns it (the content of checkpoint.json), or nullopt without a
  // signer.
  std::optional<std::string> checkpoint();

  // The newest checkpoint, in the form of checkpoint.json; empty before the first.
  std::string newest_checkpoint() const;

  bool opened() const;
  bool healthy() const;
  // Why nothing is recorded at the moment; empty when it is.
  std::string fault() const;
  std::uint64_t size() const;  // records so far

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The newest checkpoint as it is known outside the folder: in the token, at the instance.
struct Anchor {
  std::string where;  // "the token"
  std::uint64_t size = 0;
  std::string hash, kid;
};

struct VerifyOptions {
  std::optional<std::string>
      external_checkpoint;  // JSON of a checkpoint that left the host: detects a cut tail
  // SPKI of audit keys by kid. A checkpoint by any other key does not verify.
  std::map<std::string, Bytes> keys = {};
  std::vector<Anchor> anchors = {};
  std::uint64_t records = UINT64_MAX;  // what is after them is still being written
  // At a start: a crash may have kept the first checkpoint from checkpoint.json.
  bool after_crash = false;
};
struct VerifyResult {
  bool ok = false;
  std::uint64_t records = 0, checkpoints = 0, checkpoints_verified = 0;
  std::optional<std::uint64_t> first_bad_seq;
  std::string text;  // one line: the problem, or what was verified
};
// Reads only. Verifies sequence, chain, checkpoints, checkpoint.json beside them, and the external
// checkpoint and anchors where given. What is unknown or missing does not verify.
VerifyResult verify(const std::filesystem::path& folder, const VerifyOptions& options);
// The last `count` records as JSON lines. Reads the end of the file only.
std::vector<std::string> tail(const std::filesystem::path& folder, std::size_t count);

}  // namespace keyagent::audit
