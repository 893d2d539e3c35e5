// SPDX-License-Identifier: Apache-2.0
#include "agent/audit/audit_log.h"

#include <cerrno>
#include <deque>
#include <iterator>
#include <mutex>
#include <thread>
#include <utility>

#include "agent/audit/chain.h"
#include "agent/audit/log_tail.h"
#include "agent/base/disk.h"
#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/base/leftovers.h"
#include "agent/base/log.h"
#include "agent/base/mutex.h"

namespace keyagent::audit {
namespace {

constexpr std::size_t kMaxQueued = 65536;
constexpr std::size_t kMaxBeforeOpen = 1000;    // events that wait for a log that is not open yet
constexpr std::uint64_t kRoomOfOne = 4096;      // what is reserved for a record
constexpr std::uint64_t kRoomAtOnce = 1 << 20;  // … and how much of the disk at a time
constexpr std::uint64_t kRoomOfCheckpoint = 2048;
constexpr std::size_t kMaxCut = 256;  // of each text, where a record does not fit its room
constexpr std::chrono::seconds kAskAgain{1};

// An upper bound for the size of the event's line: an escaped byte takes six.
std::uint64_t room_of(const Event& event) {
  std::uint64_t room = 384;
  for (const auto* text : {&event.what, &event.who, &event.key, &event.kid, &event.outcome,
                           &event.rule, &event.detail}) {
    for (const char c : *text) room += c >= 0x20 && c < 0x7f && c != '"' && c != '\\' ? 1 : 6;
  }
  return room;
}

void cut_to_fit(Event& event) {
  if (room_of(event) <= kRoomOfOne) return;
  for (auto* text : {&event.detail, &event.key, &event.rule, &event.who, &event.kid}) {
    if (text->size() > kMaxCut) text->resize(kMaxCut);
    if (room_of(event) <= kRoomOfOne) return;
  }
  event.detail.clear();
}

// What a disk may recover from, unlike a sync that failed.
bool may_pass(int error) {
  return error == ENOSPC || error == EDQUOT || error == EFBIG || error == EROFS;
}

}  // namespace

struct AuditLog::Impl {
  struct Queued {
    Event event;
    WallTime time;
  };

  const Options options;
  const std::filesystem::path path;

  mutable Mutex mutex;
  CondVar wake, synced;
  std::deque<Queued> queue GUARDED_BY(mutex);
  std::uint64_t queued GUARDED_BY(mutex) = 0;   // events ever queued
  std::uint64_t written GUARDED_BY(mutex) = 0;  // events ever synced
  // Bytes of what is queued, and of what is being written.
  std::uint64_t pending GUARDED_BY(mutex) = 0;
  std::uint64_t promised GUARDED_BY(mutex) = 0;  // bytes of rooms that are out
  std::uint64_t room_end GUARDED_BY(mutex) = 0;  // as much of the file has its blocks
  std::uint64_t size GUARDED_BY(mutex) = 0;      // bytes that are synced
  std::string full GUARDED_BY(mutex);            // why there is no room; empty: there is
  SteadyTime ask_again GUARDED_BY(mutex){};
  bool urgent GUARDED_BY(mutex) = false, stopping GUARDED_BY(mutex) = false;
  bool failed GUARDED_BY(mutex) = false;
  bool broken GUARDED_BY(mutex) = false;  // failed, and not to be tried again
  // Not: the folder could not be written since the start.
  bool opened GUARDED_BY(mutex) = false;
  std::string why GUARDED_BY(mutex);  // it failed
  CheckpointSigner signer GUARDED_BY(mutex);
  std::string external GUARDED_BY(mutex);  // the last checkpoint
  bool checkpoint_wanted GUARDED_BY(mutex) = false;
  std::uint64_t checkpoint_done GUARDED_BY(mutex) = 0, checkpoint_asked GUARDED_BY(mutex) = 0;
  std::uint64_t records GUARDED_BY(mutex) = 0;  // in the log

  // The writer thread's own. It replaces `file` with the mutex held; who holds it may reserve().
  std::unique_ptr<AppendFile> file;
  Chain chain;
  std::string failure;  // of the last write
  std::thread writer;

  explicit Impl(Options options_in)
      : options(std::move(options_in)), path(options.folder / kLogName), chain(options) {
    remove_leftovers(options.folder, kCheckpointName);
    try {
      open();
    } catch (const std::exception& error) {
      const auto* fault = dynamic_cast<const Error*>(&error);
      if (fault != nullptr && fault->code() == Code::kIntegrity) throw;
      failed = true;
      why = error.what();
      log_error("audit", cannot_write());
    }
    writer = std::thread([this] { run(); });
  }

  // Takes up the log where it ends.
  void open() {
    make_private_folder(options.folder);
    const Tail tail = read_tail(path);
    auto fresh = std::make_unique<AppendFile>(path);
    std::optional<Event> torn;
    if (!tail.torn.empty()) {
      torn = quarantine(tail);
      fresh = std::make_unique<AppendFile>(path);
    }
    const MutexLock lock(mutex);
    records = tail.records;
    chain.continue_at(tail);
    file = std::move(fresh);
    size = room_end = file->size();
    opened = true;
    failed = false;
    if (!torn) return;
    pending += room_of(*torn);
    queue.push_front({std::move(*torn), options.clock->now()});
    ++queued;
  }

  // A record that a crash cut in two is kept as evidence and taken out of the chain, so that the
  // next one does not fuse with it.
  Event quarantine(const Tail& tail) const {
    const auto aside = options.folder / ("audit.torn-" + std::to_string(tail.records));
    replace_file(aside, as_bytes(tail.torn));
    const auto whole = std::filesystem::file_size(path) - tail.torn.size();
    std::filesystem::resize_file(path, whole);
    Event event;
    event.what = "audit.torn";
    event.who = "internal:audit";
    event.outcome = "ok";
    event.detail = std::to_string(tail.torn.size()) + " bytes of a cut record were moved to " +
                   aside.filename().string() + ", sha256 " + to_hex(sha256(as_bytes(tail.torn)));
    log_warning("audit", event.detail);
    return event;
  }

  std::string cannot_write() const REQUIRES(mutex) {
    return "the audit log cannot be written" + (why.empty() ? "" : ": " + why) +
           "; keys are not used unrecorded; " +
           (broken ? "run: keyagent doctor"
                   : "once it can be written the agent resumes without a restart: keyagent doctor "
                     "tells more");
  }

  void require_open() const REQUIRES(mutex) {
    if (failed) throw Error(Code::kInternal, cannot_write());
  }

  // Throws unless the disk has `bytes` more than it has promised already.
  void require_room(std::uint64_t bytes) REQUIRES(mutex) {
    const std::uint64_t end = size + pending + promised + kRoomOfCheckpoint + bytes;
    if (full.empty() && end <= room_end) return;
    const auto now = options.clock->now_steady();
    if (!full.empty() && now < ask_again) throw Error(Code::kInternal, full);
    // After a full disk, resume only with a larger reservation: a few KiB would admit about one
    // record per second.
    for (const std::uint64_t more : {kRoomAtOnce, kRoomAtOnce / 16, std::uint64_t{0}}) {
      if ((more == 0 && !full.empty()) || !file->reserve(size, end + more)) continue;
      room_end = end + more;
      if (!full.empty()) log_info("audit", "disk space is available again; key operations resume");
      full.clear();
      return;
    }
    if (full.empty()) {
      full = "the disk of the audit log " + path.string() +
             " is full: keys are not used unrecorded; free disk space, the agent resumes without a "
             "restart";
      log_error("audit", full);
    }
    ask_again = now + kAskAgain;
    throw Error(Code::kInternal, full);
  }

  void reserve() {
    const MutexLock lock(mutex);
    require_open();
    require_room(kRoomOfOne);
    promised += kRoomOfOne;
  }
  void give_back() {
    const MutexLock lock(mutex);
    promised -= kRoomOfOne;
  }

  std::uint64_t push(Event event, bool reserved = false) {
    if (reserved) cut_to_fit(event);
    const auto room = room_of(event);
    const MutexLock lock(mutex);
    // What is reported before the log could be opened is written then; nothing is used meanwhile.
    const bool early = !opened && !reserved && queue.size() < kMaxBeforeOpen;
    if (!early) require_open();
    if (!early && !reserved) require_room(room);
    if (queue.size() >= kMaxQueued)
      throw Error(Code::kInternal,
                  "the audit log's queue is full: keys are not used unrecorded; try again");
    pending += room;
    queue.push_back({std::move(event), options.clock->now()});
    if (queue.size() == 1) wake.notify_one();
    return ++queued;
  }

  void flush() {
    MutexLock lock(mutex);
    const auto upto = queued;
    urgent = true;
    wake.notify_one();
    synced.wait(mutex, [&]() REQUIRES(mutex) { return written >= upto || failed; });
  }

  void wait_until_synced(std::uint64_t number) {
    MutexLock lock(mutex);
    urgent = true;
    wake.notify_one();
    synced.wait(mutex, [&]() REQUIRES(mutex) { return written >= number || failed; });
    if (written < number) throw Error(Code::kInternal, cannot_write());
  }

  void run() {
    MutexLock lock(mutex);
    while (true) {
      // Asleep until there is something; then a moment more, so that one sync serves all that came
      // meanwhile.
      if (failed) {
        wake.wait_for(mutex, kAskAgain, [&]() REQUIRES(mutex) { return stopping; });
      } else {
        wake.wait_for(mutex, options.checkpoint_interval,
                      [&]() REQUIRES(mutex) { return !queue.empty() || urgent || stopping; });
      }
      if (!urgent && !stopping)
        wake.wait_for(mutex, options.commit_interval,
                      [&]() REQUIRES(mutex) { return urgent || stopping; });
      urgent = false;
      if (failed) {
        synced.notify_all();
        if (stopping) return;
        recover();
        continue;
      }
      std::deque<Queued> batch;
      batch.swap(queue);
      const auto taken = pending;
      const std::uint64_t upto = queued;
      const auto signer_now = signer;
      const bool wanted = std::exchange(checkpoint_wanted, false);
      const std::uint64_t asked = checkpoint_asked;
      const std::uint64_t seq = records;
      lock.unlock();
      const bool good =
          write(batch, seq, signer_now, wanted || chain.checkpoint_due(seq + batch.size()));
      lock.lock();
      failed = failed || !good;
      if (good) {
        written = upto;
        pending -= taken;
        size = file->size();
      } else {
        queue.insert(queue.begin(), std::make_move_iterator(batch.begin()),
                     std::make_move_iterator(batch.end()));
        broken = !may_pass(file->error());
        why = failure;
      }
      checkpoint_done = asked;
      synced.notify_all();
      if (stopping && queue.empty() && !checkpoint_wanted) return;
    }
  }

  // What could not be opened at the start is tried as a start does.
  void open_again() REQUIRES(mutex) {
    std::string fault;
    bool lasting = false;
    try {
      const MutexPause pause(mutex);
      open();
    } catch (const std::exception& error) {
      const auto* known = dynamic_cast<const Error*>(&error);
      lasting = known != nullptr && known->code() == Code::kIntegrity;
      fault = error.what();
    }
    broken = lasting;
    if (why != fault && !fault.empty()) log_error("audit", fault);
    why = fault;
    if (!opened) return;
    urgent = true;
    log_info("audit", "the log is open: keys are used");
  }

  // After a full or read-only disk: truncates what was not synced and writes it again in its place.
  void recover() REQUIRES(mutex) {
    if (broken) return;
    if (!opened) return open_again();
    const std::uint64_t whole = size, end = size + pending + kRoomAtOnce / 16;
    std::unique_ptr<AppendFile> fresh;
    try {
      const MutexPause pause(mutex);
      fresh = std::make_unique<AppendFile>(path);
      fresh->rewind(whole);
      if (!fresh->reserve(whole, end)) fresh.reset();
    } catch (const std::exception&) {
      fresh.reset();
    }
    if (!fresh) return;
    file = std::move(fresh);
    room_end = end;
    failed = false;
    why.clear();
    urgent = true;
    log_info("audit", "the log can be written again; key operations resume");
  }

  // One append and one sync for everything that waited; false when the disk refused.
  bool write(const std::deque<Queued>& batch, std::uint64_t seq, const CheckpointSigner& signer_now,
             bool with_checkpoint) {
    if (batch.empty() && !(with_checkpoint && signer_now)) return true;
    const auto before = chain.head();
    try {
      std::string lines;
      for (const auto& each : batch) chain.append(lines, seq++, each.time, each.event);
      std::string made;
      if (with_checkpoint && signer_now) made = chain.add_checkpoint(lines, seq, signer_now);
      if (lines.empty()) return true;
      file->append(as_bytes(lines));
      file->sync();
      {
        const MutexLock lock(mutex);
        records = seq;
        if (!made.empty()) external = made;
      }
      if (!made.empty()) publish(made);
      return true;
    } catch (const std::exception& error) {
      failure = error.what();
      log_error("audit", "the log cannot be written: " + failure);
      chain.go_back_to(before);
      return false;
    }
  }

  // The log already holds the checkpoint record, so a failed update of checkpoint.json is only
  // logged.
  void publish(const std::string& made) {
    try {
      replace_file(options.folder / kCheckpointName, as_bytes(made), 0644);
    } catch (const std::exception& error) {
      log_warning("audit", error.what());
    }
  }

  ~Impl() {
    {
      const MutexLock lock(mutex);
      stopping = true;
      wake.notify_one();
    }
    writer.join();
  }
};

AuditLog::AuditLog(Options options) : impl_(std::make_unique<Impl>(std::move(options))) {}
AuditLog::~AuditLog() = default;

AuditLog::Room::~Room() {
  if (log_ != nullptr) log_->impl_->give_back();
}

AuditLog::Room AuditLog::reserve() {
  impl_->reserve();
  return Room(this);
}

void AuditLog::record(Event event) {
  impl_->push(std::move(event));
}

// The room goes back when the event has its bytes: `pending` holds them from then on.
void AuditLog::record(Event event, Room room) {
  impl_->push(std::move(event), room.log_ != nullptr);
}

void AuditLog::flush() {
  impl_->flush();
}

std::string AuditLog::newest_checkpoint() const {
  const MutexLock lock(impl_->mutex);
  return impl_->external;
}

std::string AuditLog::fault() const {
  const MutexLock lock(impl_->mutex);
  return impl_->failed ? impl_->cannot_write() : impl_->full;
}

void AuditLog::record_now(Event event) {
  impl_->wait_until_synced(impl_->push(std::move(event)));
}

void AuditLog::set_signer(CheckpointSigner signer) {
  const MutexLock lock(impl_->mutex);
  impl_->signer = std::move(signer);
  impl_->checkpoint_wanted = true;
  impl_->urgent = true;
  impl_->wake.notify_one();
}

std::optional<std::string> AuditLog::checkpoint() {
  const MutexLock lock(impl_->mutex);
  if (!impl_->signer) return std::nullopt;
  const auto asked = ++impl_->checkpoint_asked;
  impl_->checkpoint_wanted = true;
  impl_->urgent = true;
  impl_->wake.notify_one();
  impl_->synced.wait(impl_->mutex, [&]() REQUIRES(impl_->mutex) {
    return impl_->checkpoint_done >= asked || impl_->failed;
  });
  if (impl_->external.empty()) return std::nullopt;
  return impl_->external;
}

bool AuditLog::opened() const {
  const MutexLock lock(impl_->mutex);
  return impl_->opened;
}

bool AuditLog::healthy() const {
  const MutexLock lock(impl_->mutex);
  return !impl_->failed && impl_->full.empty();
}

std::uint64_t AuditLog::size() const {
  const MutexLock lock(impl_->mutex);
  return impl_->records;
}

}  // namespace keyagent::audit
