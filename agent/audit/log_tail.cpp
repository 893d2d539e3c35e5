// SPDX-License-Identifier: Apache-2.0
#include "agent/audit/log_tail.h"

#include <deque>
#include <fstream>
#include <optional>
#include <utility>

#include "agent/audit/record.h"
#include "agent/base/disk.h"
#include "agent/base/error.h"

namespace keyagent::audit {
namespace {

constexpr std::size_t kCheckedAtStart = 1000;

[[noreturn]] void refuse(const std::filesystem::path& path, const std::string& what) {
  const std::string folder = path.parent_path().string();
  throw Error(Code::kIntegrity, path.string() + ": " + what +
                                    "; keep it as evidence, run: keyagent audit verify --folder " +
                                    folder + ", and move " + folder + " aside to start a new log");
}

// The log is synced before its checkpoint is written, so one that is shorter has lost its end to
// something else than a crash. (Who can cut the log can delete the file too: the copy that left
// the host is what proves it.)
class CheckpointBeside {
 public:
  explicit CheckpointBeside(const std::filesystem::path& folder) {
    const auto path = folder / kCheckpointName;
    if (!std::filesystem::exists(path)) return;
    expected_ = parse_external(as_text(read_file(path)));
    if (!expected_) refuse(path, "not a checkpoint");
  }

  void look_at(std::uint64_t records, const std::string& line) {
    if (!expected_ || records != expected_->size + 1) return;
    const auto record = parse_line(line);
    found_ = record && record->hash_fits && record->is_checkpoint &&
             record->prev == expected_->hash && record->signature == expected_->signature;
  }

  void require_found(const std::filesystem::path& log, std::uint64_t records) const {
    if (!expected_ || found_) return;
    refuse(log, "its checkpoint covers " + std::to_string(expected_->size) + " records, and the " +
                    std::to_string(records) + " that are here are not those");
  }

 private:
  std::optional<External> expected_;
  bool found_ = false;
};

void require_chain(const std::filesystem::path& path, const std::deque<std::string>& last,
                   Tail& tail) {
  std::uint64_t seq = tail.records - last.size();
  std::string prev = seq == 0 ? std::string(kGenesis) : std::string();
  for (const auto& text : last) {
    const auto record = parse_line(text);
    const bool chains =
        record && record->hash_fits && record->seq == seq && (prev.empty() || record->prev == prev);
    if (!chains) refuse(path, "record " + std::to_string(seq) + " does not belong to its chain");
    prev = record->hash;
    ++seq;
  }
  if (!prev.empty()) tail.hash = prev;
}

}  // namespace

Tail read_tail(const std::filesystem::path& path) {
  Tail tail;
  CheckpointBeside checkpoint(path.parent_path());
  std::ifstream in(path, std::ios::binary);
  if (!in && std::filesystem::exists(path))
    throw Error(Code::kConfiguration, "cannot read " + path.string());
  std::deque<std::string> last;
  std::string line;
  while (std::getline(in, line)) {
    if (in.eof()) {  // no newline: the write was cut
      tail.torn = line;
      break;
    }
    checkpoint.look_at(++tail.records, line);
    last.push_back(std::move(line));
    if (last.size() > kCheckedAtStart) last.pop_front();
  }
  require_chain(path, last, tail);
  checkpoint.require_found(path, tail.records);
  return tail;
}

}  // namespace keyagent::audit
