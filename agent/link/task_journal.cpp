// SPDX-License-Identifier: Apache-2.0
#include "agent/link/task_journal.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "agent/base/disk.h"
#include "agent/base/error.h"
#include "agent/base/log.h"
#include "agent/base/strict_json.h"

namespace keyagent::link {
namespace {

using OrderedJson = nlohmann::ordered_json;
using Stage = TaskEntry::Stage;

constexpr int kJournalFormat = 1;
constexpr JsonLimits kJournalLimits{1 << 20, 2};
constexpr Stage kStages[] = {Stage::kStarted, Stage::kEnded, Stage::kAccepted, Stage::kRefused};

[[noreturn]] void refuse(const std::string& why) {
  throw Error(Code::kIntegrity, "the entry of a task cannot be read: " + why);
}

const OrderedJson& journal_member(const OrderedJson& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end()) refuse(std::string("'") + name + "' is missing");
  return *found;
}

std::string text_in(const OrderedJson& object, const char* name) {
  const OrderedJson& value = journal_member(object, name);
  if (!value.is_string()) refuse(std::string("'") + name + "' is not a string");
  return value.get<std::string>();
}

std::uint64_t number_in(const OrderedJson& object, const char* name,
                        std::uint64_t most = UINT64_MAX) {
  const OrderedJson& value = journal_member(object, name);
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > most)
    refuse(std::string("'") + name + "' is not a number in its range");
  return value.get<std::uint64_t>();
}

bool is_answered(Stage stage) {
  return stage == Stage::kAccepted || stage == Stage::kRefused;
}

}  // namespace

const char* name_of(Stage stage) {
  switch (stage) {
    case Stage::kStarted:
      return "started";
    case Stage::kEnded:
      return "ended";
    case Stage::kAccepted:
      return "accepted";
    case Stage::kRefused:
      break;
  }
  return "refused";
}

bool is_task_id(std::string_view id) {
  return id.size() == 32 && std::all_of(id.begin(), id.end(), [](unsigned char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

std::string to_text(const TaskEntry& entry) {
  const OrderedJson out{{"format", kJournalFormat},
                        {"order", entry.order},
                        {"id", entry.id},
                        {"handler", entry.handler},
                        {"stage", name_of(entry.stage)},
                        {"lease", entry.lease},
                        {"uid", entry.uid},
                        {"attempt", entry.attempt},
                        {"outcome", entry.end.outcome},
                        {"text", entry.end.text},
                        {"result", entry.end.result},
                        {"changed", entry.changed},
                        {"credential", entry.credential},
                        {"grant", entry.grant},
                        {"runs_as", entry.runs_as}};
  return out.dump(2, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
}

TaskEntry parse_task_entry(std::string_view text) {
  const auto parsed = parse_strict_object<OrderedJson>(text, kJournalLimits);
  if (!parsed) refuse("it is not a JSON object");
  const OrderedJson& object = *parsed;
  if (journal_member(object, "format") != kJournalFormat) refuse("its format is unknown");
  constexpr std::size_t kFields = 15, kOldFields = 12;  // until 0.1.0: no credential
  if (object.size() != kFields && object.size() != kOldFields) refuse("it has an unknown field");
  TaskEntry entry;
  entry.order = number_in(object, "order");
  entry.id = text_in(object, "id");
  if (!is_task_id(entry.id)) refuse("its id is invalid");
  entry.handler = text_in(object, "handler");
  const std::string stage = text_in(object, "stage");
  const auto* known = std::find_if(std::begin(kStages), std::end(kStages),
                                   [&](Stage each) { return stage == name_of(each); });
  if (known == std::end(kStages)) refuse("'stage' is unknown");
  entry.stage = *known;
  entry.lease = text_in(object, "lease");
  entry.uid = static_cast<std::uint32_t>(number_in(object, "uid", UINT32_MAX));
  entry.attempt = static_cast<std::uint32_t>(number_in(object, "attempt", UINT32_MAX));
  entry.end = {text_in(object, "outcome"), text_in(object, "text"), text_in(object, "result")};
  entry.changed = text_in(object, "changed");
  entry.runs_as = entry.uid;
  if (object.size() == kFields) {
    entry.credential = text_in(object, "credential");
    entry.grant = text_in(object, "grant");
    entry.runs_as = static_cast<std::uint32_t>(number_in(object, "runs_as", UINT32_MAX));
  }
  return entry;
}

TaskJournal::TaskJournal(std::filesystem::path folder, const Clock& clock, Limits limits)
    : folder_(std::move(folder)), clock_(clock), limits_(limits) {
  load();
}

// What a crash left of a file that was being written is removed; what cannot be read stays beside
// the journal, for a person.
void TaskJournal::load() {
  std::error_code none;
  for (const auto& file : std::filesystem::directory_iterator(folder_, none)) {
    const std::string id = file.path().stem(), name = file.path().filename();
    if (name.front() == '.') std::filesystem::remove(file.path(), none);
    if (name.front() == '.' || file.path().extension() != ".json") continue;
    try {
      TaskEntry entry = read(id);
      if (entry.id != id) refuse("it is the entry of another task");
      order_ = std::max(order_, entry.order);
      entry.end.result.clear();
      entries_[id] = {std::move(entry), clock_.now_steady(), file.file_size(none)};
    } catch (const Error& error) {
      log_error("link", file.path().string() + ": " + error.what() + "; set aside as " + name +
                            ".unreadable");
      std::filesystem::rename(file.path(), file.path().string() + ".unreadable", none);
    }
  }
  prune();
}

TaskEntry TaskJournal::read(const std::string& id) const {
  const Bytes bytes = read_trusted_file(path_of(id));
  return parse_task_entry(as_text(bytes));
}

std::optional<TaskEntry> TaskJournal::find(const std::string& id) const {
  const MutexLock lock(mutex_);
  const auto found = entries_.find(id);
  return found == entries_.end() ? std::nullopt : std::optional(found->second.entry);
}

std::vector<TaskEntry> TaskJournal::list() const {
  std::vector<TaskEntry> out;
  {
    const MutexLock lock(mutex_);
    for (const auto& [id, kept] : entries_) out.push_back(kept.entry);
  }
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.order < b.order; });
  return out;
}

std::size_t TaskJournal::count(Stage stage) const {
  const MutexLock lock(mutex_);
  return static_cast<std::size_t>(
      std::count_if(entries_.begin(), entries_.end(),
                    [stage](const auto& each) { return each.second.entry.stage == stage; }));
}

std::size_t TaskJournal::started() const {
  return count(Stage::kStarted);
}

std::size_t TaskJournal::waiting() const {
  return count(Stage::kEnded);
}

std::optional<TaskEntry> TaskJournal::next() {
  const MutexLock lock(mutex_);
  const Kept* first = nullptr;
  for (const auto& [id, kept] : entries_) {
    if (kept.entry.stage != Stage::kEnded) continue;
    if (first == nullptr || kept.entry.order < first->entry.order) first = &kept;
  }
  if (first == nullptr) return std::nullopt;
  // The file may be ahead: a write that failed in its last step is not known to have been done, and
  // is done again.
  TaskEntry entry = first->entry;
  entry.end.result = read(entry.id).end.result;
  return entry;
}

void TaskJournal::put(TaskEntry entry) {
  entry.order = order_ + 1;
  entry.changed = rfc3339(clock_.now());
  const std::string text = to_text(entry);
  make_private_folder(folder_);
  replace_file(path_of(entry.id), as_bytes(text), 0600);
  ++order_;
  entry.end.result.clear();
  const std::string id = entry.id;
  entries_[id] = {std::move(entry), clock_.now_steady(), text.size()};
  prune();
}

void TaskJournal::start(TaskEntry entry) {
  const MutexLock lock(mutex_);
  entry.stage = Stage::kStarted;
  entry.end = {};
  put(std::move(entry));
}

void TaskJournal::end(const std::string& id, const TaskOutcome& outcome) {
  const MutexLock lock(mutex_);
  const auto found = entries_.find(id);
  if (found == entries_.end() || found->second.entry.stage != Stage::kStarted)
    throw Error(Code::kKeyState, "task " + id + " is not running");
  TaskEntry entry = found->second.entry;
  entry.stage = Stage::kEnded;
  entry.end = outcome;
  put(std::move(entry));
}

void TaskJournal::deliver_again(const std::string& id, const std::string& lease) {
  const MutexLock lock(mutex_);
  const auto found = entries_.find(id);
  TaskEntry entry = found == entries_.end() ? read(id) : found->second.entry;
  entry.end = read(id).end;
  entry.stage = Stage::kEnded;
  entry.lease = lease;
  put(std::move(entry));
}

void TaskJournal::answered(const TaskEntry& delivered, bool accepted) {
  const MutexLock lock(mutex_);
  const auto found = entries_.find(delivered.id);
  if (found == entries_.end() || found->second.entry.order != delivered.order) return;
  TaskEntry entry = delivered;
  entry.stage = accepted ? Stage::kAccepted : Stage::kRefused;
  put(std::move(entry));
}

void TaskJournal::touch(const std::string& id) {
  const MutexLock lock(mutex_);
  if (const auto found = entries_.find(id); found != entries_.end())
    found->second.since = clock_.now_steady();
}

// Not synced: an entry that comes back with a crash is one that is known longer.
void TaskJournal::erase(Entries::iterator which) {
  std::error_code none;
  std::filesystem::remove(path_of(which->first), none);
  entries_.erase(which);
}

void TaskJournal::forget(const std::string& id) {
  const MutexLock lock(mutex_);
  if (const auto found = entries_.find(id); found != entries_.end()) erase(found);
}

void TaskJournal::forget_all() {
  const MutexLock lock(mutex_);
  while (!entries_.empty()) erase(entries_.begin());
}

// An outcome that is not delivered yet is never forgotten.
void TaskJournal::prune() {
  std::vector<Entries::iterator> answered, started;
  std::uintmax_t bytes = 0;
  const auto now = clock_.now_steady();
  for (auto each = entries_.begin(); each != entries_.end();) {
    const auto here = each++;
    const Stage stage = here->second.entry.stage;
    if (stage == Stage::kEnded) continue;
    if (now - here->second.since > limits_.kept) {
      erase(here);
    } else if (is_answered(stage)) {
      answered.push_back(here);
      bytes += here->second.size;
    } else {
      started.push_back(here);
    }
  }
  const auto older = [](const auto& a, const auto& b) {
    return a->second.entry.order < b->second.entry.order;
  };
  const bool few = answered.size() <= limits_.answered && bytes <= limits_.answered_bytes &&
                   started.size() <= limits_.started;
  if (few) return;
  std::sort(answered.begin(), answered.end(), older);
  std::sort(started.begin(), started.end(), older);
  std::size_t left = answered.size();
  for (const auto& each : answered) {
    if (left <= limits_.answered && bytes <= limits_.answered_bytes) break;
    bytes -= each->second.size;
    --left;
    erase(each);
  }
  for (std::size_t i = 0; i + limits_.started < started.size(); ++i) erase(started[i]);
}

}  // namespace keyagent::link
