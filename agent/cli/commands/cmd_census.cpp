// SPDX-License-Identifier: Apache-2.0
// keyagent census: what is sealed to which key. keyagent reseal: seal it again to the next one.

#include <chrono>
#include <span>

#include "agent/base/disk.h"
#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/cli/cli.h"
#include "agent/cli/commands/sealed_files.h"
#include "agent/cli/table.h"

namespace keyagent::cli {
namespace {

using Counts = std::map<std::string, std::uint64_t>;  // by kid; empty: not a key of this agent

struct CensusOptions {
  std::vector<std::string> paths;
  std::string list, source;
  bool dry_run = false;
};

// Prints the progress once a second.
class Ticker {
 public:
  Ticker(Session& session, std::string what, std::size_t all)
      : session_(session), what_(std::move(what)), all_(all) {}
  void tick() {
    ++done_;
    const auto now = std::chrono::steady_clock::now();
    if (now - last_ < std::chrono::seconds(1)) return;
    last_ = now;
    session_.note(what_ + " " + std::to_string(done_) + " of " + std::to_string(all_) + " files");
  }

 private:
  Session& session_;
  const std::string what_;
  const std::size_t all_;
  std::size_t done_ = 0;
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

std::string source_of(const CensusOptions& options) {
  if (!options.source.empty()) return options.source;
  if (options.paths.size() == 1 && options.list.empty())
    return std::filesystem::weakly_canonical(options.paths.front()).string();
  throw Error(Code::kUsage, "several paths or a list need a census name: --source NAME");
}

void report(Session& session, const std::string& source, const Counts& counts) {
  wire::Request request;
  auto& census = *request.mutable_census_report();
  census.set_source(source);
  for (const auto& [kid, count] : counts) {
    auto& entry = *census.add_entries();
    entry.set_kid(kid);
    entry.set_count(count);
  }
  const auto response = session.call(request);
  const auto& refused = response.census_report().refused();
  if (refused.empty()) return;
  session.note(std::to_string(refused.size()) +
               " keys are not counted: rekey or reseal permission is missing");
}

std::string counts_text(const Recipients& recipients, const Counts& counts) {
  std::string text;
  for (const auto& [kid, count] : counts) {
    const auto* key = recipients.key(kid);
    text += "  " + std::to_string(count) + " for " +
            (key == nullptr ? "keys unknown to this agent"
                            : key->name() + " generation " + std::to_string(key->generation()) +
                                  " (" + key->state() + ") " + kid) +
            "\n";
  }
  return text;
}

Json unreadable_json(const std::vector<UnreadableFile>& unreadable) {
  Json out = Json::array();
  for (const auto& [path, why] : unreadable) out.push_back({{"file", path}, {"text", why}});
  return out;
}

std::string unreadable_text(const std::vector<UnreadableFile>& unreadable) {
  std::string text;
  for (const auto& [path, why] : unreadable)
    text += "  cannot be read: " + escape_controls(path) + ": " + escape_controls(why) + "\n";
  return text.empty()
             ? text
             : text +
                   "The census is not complete and was not reported: the agent keeps the earlier "
                   "count. Make these readable, or leave them out, and repeat the command.\n";
}

Json counts_json(const Counts& counts) {
  Json out = Json::array();
  for (const auto& [kid, count] : counts) out.push_back({{"kid", kid}, {"count", count}});
  return out;
}

void run_scan(Session& session, const CensusOptions& options) {
  const std::string source = source_of(options);
  auto [files, unreadable] = files_under(options.paths, options.list);
  const Recipients recipients(session);
  Ticker ticker(session, "scanned", files.size());
  Counts counts;
  std::uint64_t sealed = 0;
  for (const auto& path : files) {
    if (const auto file = recipients.read(path, unreadable)) {
      ++counts[file->kid];
      ++sealed;
    }
    ticker.tick();
  }
  // Too low a count would let a key be destroyed that an unread file may need.
  const bool complete = unreadable.empty();
  if (complete) report(session, source, counts);
  if (!complete) session.exit_status = exit_code(Code::kPartial);
  session.tell({{"source", source},
                {"files", files.size()},
                {"envelopes", sealed},
                {"keys", counts_json(counts)},
                {"unreadable", unreadable_json(unreadable)},
                {"reported", complete}},
               source + ": " + std::to_string(sealed) + " envelopes in " +
                   std::to_string(files.size()) + " files\n" + counts_text(recipients, counts) +
                   unreadable_text(unreadable));
}

void run_list(Session& session) {
  wire::Request request;
  request.mutable_census_list();
  const auto response = session.call(request);
  Json list = Json::array();
  Table table({"SOURCE", "COUNT", "KID", "AT"});
  for (const auto& entry : response.census_list().entries()) {
    list.push_back({{"source", entry.source()},
                    {"kid", entry.kid()},
                    {"count", entry.count()},
                    {"at", entry.at()},
                    {"actor", entry.actor()}});
    table.add({entry.source(), std::to_string(entry.count()),
               entry.kid().empty() ? "(no key of this agent)" : entry.kid(), entry.at()});
  }
  const auto& reply = response.census_list();
  Json others = Json::array();
  for (const auto& entry : reply.others()) {
    others.push_back({{"kid", entry.kid()}, {"count", entry.count()}});
    table.add({"(other users)", std::to_string(entry.count()), entry.kid(), ""});
  }
  auto text = table.text_or("");
  if (reply.other_sources() > 0)
    text += std::to_string(reply.other_sources()) + " sources of other users are not shown\n";
  session.tell({{"census", list}, {"others", others}, {"other_sources", reply.other_sources()}},
               text.empty() ? "No census yet; run: keyagent census scan PATH" : text);
}

void run_forget(Session& session, const std::string& source) {
  wire::Request request;
  request.mutable_census_report()->set_source(source);
  request.mutable_census_report()->set_forget(true);
  session.call(request);
  session.tell({{"source", source}, {"forgotten", true}},
               "the census of " + source + " is removed; its keys may be destroyed");
}

struct CensusOutcome {
  std::uint64_t resealed = 0, current = 0, foreign = 0;
  std::vector<UnreadableFile> failed, unreadable;
  Counts counts;
};

// The agent opens every envelope, also one that is up to date, and the new one before it gives it
// out; the file is replaced as a whole.
void reseal_file(Session& session, const SealedFile& file, CensusOutcome& outcome) {
  wire::Request request;
  request.mutable_reseal()->set_envelope(file.envelope.data(), file.envelope.size());
  const auto response = session.call(request);
  const auto& reply = response.reseal();
  if (reply.changed()) {
    std::string fresh = reply.envelope();
    if (file.line) fresh += '\n';
    replace_file(file.path, as_bytes(fresh), owner_of(file.path));
  }
  // From here on the file names this key.
  ++outcome.counts[reply.kid()];
  ++(reply.changed() ? outcome.resealed : outcome.current);
}

void reseal_one(Session& session, const Recipients& recipients, const SealedFile& file,
                bool dry_run, CensusOutcome& outcome) {
  const auto* key = recipients.key(file.kid);
  if (key == nullptr) {
    ++outcome.foreign;
    ++outcome.counts[""];
  } else if (dry_run) {
    ++(key->state() == "active" ? outcome.current : outcome.resealed);
  } else {
    try {
      reseal_file(session, file, outcome);
    } catch (const Error& error) {
      // What one file has does not stop the others; an agent or token that is away does.
      const bool away = error.layer() == Layer::kPeer || error.layer() == Layer::kToken;
      if (away && error.code() != Code::kUnsupported) throw;
      ++outcome.counts[file.kid];
      outcome.failed.push_back({file.path.string(), error.what()});
    }
  }
}

void tell_outcome(Session& session, const std::string& source, const CensusOptions& options,
                  const CensusOutcome& outcome) {
  std::string text = source + ": " + std::to_string(outcome.resealed) +
                     (options.dry_run ? " to reseal, " : " resealed, ") +
                     std::to_string(outcome.current) + " up to date, " +
                     std::to_string(outcome.foreign) + " for keys unknown to this agent\n";
  for (const auto& [path, why] : outcome.failed)
    text += "  failed: " + escape_controls(path) + ": " + why + "\n";
  session.tell({{"source", source},
                {"resealed", outcome.resealed},
                {"current", outcome.current},
                {"foreign", outcome.foreign},
                {"failed", unreadable_json(outcome.failed)},
                {"unreadable", unreadable_json(outcome.unreadable)}},
               text + unreadable_text(outcome.unreadable));
  if (!outcome.failed.empty() || !outcome.unreadable.empty())
    session.exit_status = exit_code(Code::kPartial);
}

// The agent or its token is away: the files from `next` on stay as they are. What was resealed must
// be counted all the same, if the agent can be told.
[[noreturn]] void end_reseal(Session& session, const Recipients& recipients,
                             const std::string& source, std::span<const std::filesystem::path> left,
                             CensusOutcome& outcome, const Error& why) {
  for (const auto& path : left) {
    if (const auto file = recipients.read(path, outcome.unreadable)) ++outcome.counts[file->kid];
  }
  try {
    if (outcome.unreadable.empty()) report(session, source, outcome.counts);
  } catch (const Error&) {
    // The agent has the earlier count, which keeps the old keys.
  }
  throw Error(why.code(),
              std::string(why.what()) + "; " + std::to_string(outcome.resealed) +
                  " envelopes are resealed, " + std::to_string(left.size()) +
                  " files are left: repeat the command",
              why.kid());
}

void run_reseal(Session& session, const CensusOptions& options) {
  const std::string source = source_of(options);
  CensusOutcome outcome;
  auto found = files_under(options.paths, options.list);
  outcome.unreadable = std::move(found.unreadable);
  const std::span<const std::filesystem::path> files(found.files);
  const Recipients recipients(session);
  Ticker ticker(session, "resealed", files.size());
  for (std::size_t i = 0; i < files.size(); ++i) {
    try {
      if (const auto file = recipients.read(files[i], outcome.unreadable))
        reseal_one(session, recipients, *file, options.dry_run, outcome);
    } catch (const Error& error) {
      end_reseal(session, recipients, source, files.subspan(i), outcome, error);
    }
    ticker.tick();
  }
  if (!options.dry_run && outcome.unreadable.empty()) report(session, source, outcome.counts);
  tell_outcome(session, source, options, outcome);
}

void add_paths(CLI::App& command, CensusOptions& options) {
  command.add_option("PATH", options.paths, "files, or folders (recursive)");
  command.add_option("--list", options.list, "file with one path per line; - is standard input");
  command.add_option("--source", options.source,
                     "name of this census (default: the path, if there is one)");
}

}  // namespace

void add_census_commands(CLI::App& app, Session& session) {
  CLI::App* census = app.add_subcommand("census", "count which envelopes are sealed to which key");
  census->require_subcommand(1);
  census->footer("Examples:\n  keyagent census scan /srv/credentials\n  keyagent census list");
  auto scan = std::make_shared<CensusOptions>();
  auto* scan_command = add_command(
      *census, "scan",
      "count envelopes by key and report the counts to the agent, which keeps keys that are in use",
      "  keyagent census scan /srv/credentials\n"
      "  find /srv -name '*.jwe' | keyagent census scan --list - --source nightly",
      [&session, scan] { run_scan(session, *scan); });
  add_paths(*scan_command, *scan);
  add_command(*census, "list", "list the counts by source",
              "  keyagent census list\n  keyagent --json census list",
              [&session] { run_list(session); });
  auto source = std::make_shared<std::string>();
  auto* forget = add_command(*census, "forget", "remove a source that no longer exists",
                             "  keyagent census forget /srv/credentials",
                             [&session, source] { run_forget(session, *source); });
  forget->add_option("SOURCE", *source, "source name, as in census list")->required();

  auto reseal = std::make_shared<CensusOptions>();
  auto* reseal_command = add_command(
      app, "reseal", "reseal envelopes to the active key; the plaintext stays in the agent",
      "  keyagent reseal /srv/credentials\n  keyagent reseal /srv/credentials --dry-run",
      [&session, reseal] { run_reseal(session, *reseal); });
  add_paths(*reseal_command, *reseal);
  reseal_command->add_flag("--dry-run", reseal->dry_run,
                           "print what would be done, change nothing");
}

}  // namespace keyagent::cli
