// SPDX-License-Identifier: Apache-2.0
// keyagent audit verify | tail

#include "agent/audit/audit_log.h"
#include "agent/audit/record.h"
#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/cli/cli.h"
#include "agent/cli/commands/public_file.h"
#include "agent/cli/files.h"

namespace keyagent::cli {
namespace {

struct AuditOptions {
  std::string folder, checkpoint, save;
  std::vector<std::string> keys;
  unsigned count = 10;
};

struct Outcome {
  bool ok = false;
  std::uint64_t records = 0, checkpoints = 0, verified = 0;
  std::optional<std::uint64_t> first_bad;
  std::string text, checkpoint;
};

std::string read_checkpoint(const AuditOptions& options) {
  if (options.checkpoint.empty()) return {};
  const auto bytes = read_input(options.checkpoint, 64 * 1024);
  return std::string(as_text(bytes));
}

Outcome verify_offline(const AuditOptions& options) {
  audit::VerifyOptions wanted;
  if (!options.checkpoint.empty()) wanted.external_checkpoint = read_checkpoint(options);
  for (const auto& file : options.keys) {
    const auto info = read_public_file(file, Purpose::kSign);
    wanted.keys[info.kid.text()] = info.spki;
  }
  const auto result = audit::verify(options.folder, wanted);
  return {result.ok,
          result.records,
          result.checkpoints,
          result.checkpoints_verified,
          result.first_bad_seq,
          result.text,
          {}};
}

Outcome verify_by_agent(Session& session, const AuditOptions& options) {
  wire::Request request;
  request.mutable_audit_verify()->set_external_checkpoint(read_checkpoint(options));
  const auto response = session.call(request);
  const auto& reply = response.audit_verify();
  Outcome outcome{reply.ok(),   reply.records(), reply.checkpoints(), reply.checkpoints_verified(),
                  std::nullopt, reply.text(),    reply.checkpoint()};
  if (reply.has_first_bad()) outcome.first_bad = reply.first_bad_seq();
  return outcome;
}

void run_verify(Session& session, const AuditOptions& options) {
  const Outcome outcome =
      options.folder.empty() ? verify_by_agent(session, options) : verify_offline(options);
  if (!options.save.empty()) {
    if (outcome.checkpoint.empty())
      throw Error(Code::kUsage, "no new checkpoint to save: ask the agent (omit --folder)");
    write_output(options.save, as_bytes(outcome.checkpoint));
  }
  Json out{{"ok", outcome.ok},
           {"records", outcome.records},
           {"checkpoints", outcome.checkpoints},
           {"checkpoints_verified", outcome.verified},
           {"text", outcome.text}};
  out["first_bad_seq"] = outcome.first_bad ? Json(*outcome.first_bad) : Json(nullptr);
  session.tell(out, (outcome.ok ? "the audit log verifies: " : "THE AUDIT LOG DOES NOT VERIFY: ") +
                        outcome.text);
  if (!outcome.ok) session.exit_status = exit_code(Code::kIntegrity);
}

struct Tail {
  std::vector<std::string> lines;
  std::uint64_t omitted = 0, shortened = 0;
};

// Longer lines are cut before they are parsed and shown.
constexpr std::size_t kMaxLine = 16 * 1024;

Tail read_tail(Session& session, const AuditOptions& options) {
  Tail tail;
  if (options.folder.empty()) {
    wire::Request request;
    request.mutable_audit_tail()->set_count(options.count);
    const auto response = session.call(request);
    const auto& reply = response.audit_tail();
    tail = {{reply.records().begin(), reply.records().end()}, reply.omitted(), reply.shortened()};
  } else {
    tail.lines = audit::tail(options.folder, options.count);
    for (auto& line : tail.lines) {
      if (line.size() <= kMaxLine) continue;
      line = audit::shorten_line(line, kMaxLine);
      ++tail.shortened;
    }
  }
  return tail;
}

// The file may have been written by anybody: nothing in it reaches a terminal raw.
std::string record_text(const Json& record) {
  const auto field = [&](const char* name) {
    const auto found = record.find(name);
    return found != record.end() && found->is_string() ? escape_controls(found->get<std::string>())
                                                       : std::string();
  };
  const auto part = [&](const char* before, const char* name) {
    return field(name).empty() ? std::string() : before + field(name);
  };
  std::string text = field("time") + "  " +
                     (field("outcome").empty() ? field("what") : field("outcome")) + "  " +
                     field("what") + part("  ", "who") + part("  key ", "key") +
                     part("  by rule ", "rule") + part("  ", "detail");
  if (const auto cut = record.find("cut"); cut != record.end() && cut->is_number_unsigned())
    text += "  (cut: the record has " + std::to_string(cut->get<std::uint64_t>()) + " bytes)";
  return text + "\n";
}

// The members that an instance's events have, beside those of the log.
Json with_event_names(Json record) {
  static constexpr std::pair<const char*, const char*> kNames[] = {
      {"time", "at"}, {"who", "actor"}, {"what", "action"}, {"key", "subject"}};
  for (const auto& [before, name] : kNames) {
    if (!record.contains(before) || record.contains(name)) continue;
    const Json value = record[before];  // a copy: the object may move when it grows
    record[name] = value;
  }
  return record;
}

void run_tail(Session& session, const AuditOptions& options) {
  const Tail tail = read_tail(session, options);
  Json records = Json::array();
  std::string text;
  std::uint64_t unreadable = 0;
  for (const auto& line : tail.lines) {
    const Json record = Json::parse(line, nullptr, false);
    if (record.is_object()) {
      records.push_back(with_event_names(record));
      text += record_text(record);
    } else {
      ++unreadable;
    }
  }
  const auto note = [&](std::uint64_t count, const std::string& what) {
    if (count > 0) text += "(" + std::to_string(count) + " " + what + ")\n";
  };
  note(tail.omitted, "older records did not fit into the response: request fewer with --count");
  note(tail.shortened, "records are shown truncated; the log contains them complete");
  note(unreadable, "lines are not records; run: keyagent audit verify");
  session.tell({{"records", records},
                {"omitted", tail.omitted},
                {"shortened", tail.shortened},
                {"unreadable", unreadable}},
               text.empty() ? "The audit log is empty." : text);
}

}  // namespace

void add_audit_commands(CLI::App& app, Session& session) {
  CLI::App* audit = app.add_subcommand("audit", "read and verify the audit log");
  audit->require_subcommand(1);
  audit->footer("Examples:\n  keyagent audit verify\n  keyagent audit tail --count 20");
  auto verify = std::make_shared<AuditOptions>();
  auto* verify_command = add_command(
      *audit, "verify",
      "verify the chain and the checkpoints; exit status 6 if the log was changed",
      "  keyagent audit verify --save-checkpoint /mnt/other-host/checkpoint.json\n"
      "  keyagent audit verify --folder /var/lib/keyagent/hsm1/audit --checkpoint checkpoint.json "
      "--public audit.pem",
      [&session, verify] { run_verify(session, *verify); });
  verify_command->add_option("--folder", verify->folder, "audit folder to read without an agent");
  verify_command->add_option(
      "--checkpoint", verify->checkpoint,
      "checkpoint kept elsewhere; shows whether the end of the log was removed");
  verify_command->add_option("--public", verify->keys,
                             "public keys that sign checkpoints (with --folder)");
  verify_command->add_option("--save-checkpoint", verify->save,
                             "write the newest checkpoint to this file; keep it off this host");
  auto tail = std::make_shared<AuditOptions>();
  auto* tail_command =
      add_command(*audit, "tail", "show the last records",
                  "  keyagent audit tail\n  keyagent --json audit tail --count 100",
                  [&session, tail] { run_tail(session, *tail); });
  tail_command->add_option("--folder", tail->folder, "audit folder to read without an agent");
  tail_command->add_option("-n,--count", tail->count, "how many")->check(CLI::Range(1, 500));
}

}  // namespace keyagent::cli
