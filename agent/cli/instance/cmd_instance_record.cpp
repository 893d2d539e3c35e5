// SPDX-License-Identifier: Apache-2.0
// keyagent instance record: encrypted values. keyagent instance reencrypt: all of them to the
// active key.

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/base/wiping.h"
#include "agent/cli/files.h"
#include "agent/cli/instance/cmd_instance.h"
#include "agent/cli/poll_until_timeout.h"
#include "agent/cli/table.h"

namespace keyagent::cli {
namespace {

constexpr std::size_t kMaxRecord = 64 * 1024, kRecordsPage = 1000;

struct RecordOptions {
  std::string specification, id, from, output = "-";
  long version = -1, rate = 0, timeout = 0;
  bool wait = false;
};

using RunOnRecord = void (*)(Session&, const InstanceOptions&, const RecordOptions&);

std::string record_target(const RecordOptions& options) {
  return "/v1/specifications/" + path_segment(options.specification) + "/records/" +
         path_segment(options.id);
}

void run_put(Session& session, const InstanceOptions& instance, const RecordOptions& options) {
  const SecretBytes value = read_input(options.from, kMaxRecord);
  Json body{{"value", to_base64url(value)}};
  const Wiping wiping(body);
  if (options.version >= 0) body["version"] = options.version;
  const Json answer = client_of(instance).call("PUT", record_target(options), body);
  session.tell(answer, options.id + " has version " + text_at(answer, "version") + ", under " +
                           text_at(answer, "kid"));
}

void run_get(Session& session, const InstanceOptions& instance, const RecordOptions& options) {
  Json answer = client_of(instance).call("GET", record_target(options));
  const Wiping wiping(answer);
  if (session.globals.json) return session.tell(answer, "");
  auto value = from_base64url(answer.at("value").get_ref<const std::string&>());
  if (!value) throw Error(Code::kPeer, "the instance's response has no value");
  write_output(options.output, *value);
  OPENSSL_cleanse(value->data(), value->size());
}

void run_list(Session& session, const InstanceOptions& instance, const RecordOptions& options) {
  auto client = client_of(instance);
  const auto target = "/v1/specifications/" + path_segment(options.specification) +
                      "/records?count=" + std::to_string(kRecordsPage) + "&after=";
  Json answer = client.call("GET", target);
  for (Json page = answer; page.at("records").size() == kRecordsPage;) {
    page = client.call("GET", target + path_segment(text_at(page.at("records").back(), "id")));
    for (const auto& each : page.at("records")) answer["records"].push_back(each);
  }
  Table table({"ID", "VERSION", "KID", "CHANGED", "BY", "FINDING"});
  for (const auto& each : answer.at("records"))
    table.add({text_at(each, "id"), text_at(each, "version"), text_at(each, "kid"),
               text_at(each, "changed"), text_at(each, "changed_by"),
               each.at("readable").get<bool>() ? "" : "UNREADABLE: its key is not usable here"});
  session.tell(answer, table.text_or("none\n"));
}

void run_remove(Session& session, const InstanceOptions& instance, const RecordOptions& options) {
  client_of(instance).call("DELETE", record_target(options));
  session.tell(Json::object(), options.id + " is removed");
}

std::string job_target(const RecordOptions& options, const char* verb = "") {
  return "/v1/reencryptions/" + path_segment(options.specification) + verb;
}

std::string job_text(const Json& job) {
  std::string out = text_at(job, "specification") + "  " + text_at(job, "state") + "  " +
                    text_at(job, "done") + " of " + text_at(job, "total") + " done, " +
                    text_at(job, "left") + " left";
  if (job.value("failed", 0) > 0) out += ", " + text_at(job, "failed") + " could not be opened";
  if (job.at("speed").is_number())
    out += "  " + std::to_string(static_cast<long>(job.at("speed").get<double>())) +
           "/s, until about " + text_at(job, "ends");
  out += "\n";
  for (const auto& each : job.at("census"))
    out += "  " + text_at(each, "records") + " under " + text_at(each, "kid") + " (" +
           text_at(each, "state") + ")\n";
  const auto text = text_at(job, "text");
  return out + (text.empty() ? "" : "  " + text + "\n");
}

void tell_jobs(Session& session, const Json& answer) {
  std::string text;
  for (const auto& each : answer.at("reencryptions")) text += job_text(each);
  session.tell(answer, text.empty() ? "none\n" : text);
}

void run_start(Session& session, const InstanceOptions& instance, const RecordOptions& options) {
  auto client = client_of(instance);
  Json answer = client.call("POST", job_target(options), {{"rate", options.rate}});
  const PollUntilTimeout patience(options.timeout);
  const auto state = [&] { return text_at(answer.at("reencryptions").at(0), "state"); };
  while (options.wait && (state() == "running" || state() == "paused")) {
    patience.rest("it is " + state() + " and continues: keyagent instance reencrypt status " +
                  options.specification);
    answer = client.call("GET", job_target(options));
  }
  if (options.wait && state() != "complete") session.exit_status = exit_code(Code::kPartial);
  tell_jobs(session, answer);
}

void run_status(Session& session, const InstanceOptions& instance, const RecordOptions& options) {
  tell_jobs(session, client_of(instance).call("GET", options.specification.empty()
                                                         ? std::string("/v1/reencryptions")
                                                         : job_target(options)));
}

void run_pause(Session& session, const InstanceOptions& instance, const RecordOptions& options) {
  tell_jobs(session, client_of(instance).call("POST", job_target(options, "/pause")));
}

void run_resume(Session& session, const InstanceOptions& instance, const RecordOptions& options) {
  tell_jobs(session, client_of(instance).call("POST", job_target(options, "/resume")));
}

}  // namespace

void add_instance_record_commands(CLI::App& instance, Session& session,
                                  const std::shared_ptr<InstanceOptions>& options) {
  auto* record =
      instance.add_subcommand("record", "manage encrypted values (records) of a specification");
  record->require_subcommand(1);
  const auto own = std::make_shared<RecordOptions>();
  auto& o = *own;
  const auto add = [&](CLI::App& group, const char* name, const char* what, const char* example,
                       RunOnRecord run) {
    auto* command = add_command(group, name, what, example,
                                [run, &session, options, own] { run(session, *options, *own); });
    return command;
  };
  auto* put = add(*record, "put", "encrypt a value: a new record or a new version",
                  "  keyagent instance record put payroll 4711 --from salary.json", run_put);
  auto* get = add(*record, "get", "the value",
                  "  keyagent instance record get payroll 4711 -o salary.json", run_get);
  auto* list = add(*record, "list", "list ids, versions and keys, never values",
                   "  keyagent instance record list payroll", run_list);
  auto* remove = add(*record, "remove", "remove a record",
                     "  keyagent instance record remove payroll 4711", run_remove);
  for (auto* each : {put, get, list, remove})
    each->add_option("SPECIFICATION", o.specification, "name of the specification")->required();
  for (auto* each : {put, get, remove})
    each->add_option("ID", o.id, "id of the record")->required();
  put->add_option("--from", o.from, "input file (64 KiB); - is standard input")->required();
  put->add_option("--version", o.version, "replace only this version; 0: only create")
      ->check(CLI::NonNegativeNumber);
  get->add_option("-o,--output", o.output, "output file (0600); - is standard output");

  auto* job = instance.add_subcommand(
      "reencrypt", "re-encrypt all records of a specification with its active key");
  job->require_subcommand(1);
  auto* start = add(*job, "start", "start; continues in the background, also after a restart",
                    "  keyagent instance reencrypt start payroll --rate 500 --wait", run_start);
  start->add_option("--rate", o.rate, "maximum records per second; 0: no limit")
      ->check(CLI::NonNegativeNumber);
  start->add_flag("--wait", o.wait, "wait until it has ended; exit status 7 unless all are done");
  start->add_option("--timeout", o.timeout, "seconds to wait; 0: no limit");
  auto* status = add(*job, "status", "show the progress, and the number of records per key",
                     "  keyagent instance reencrypt status payroll", run_status);
  status->add_option("SPECIFICATION", o.specification,
                     "show only the job of this specification (default: all)");
  auto* pause = add(*job, "pause", "pause a re-encryption",
                    "  keyagent instance reencrypt pause payroll", run_pause);
  auto* resume = add(*job, "resume", "resume a paused re-encryption",
                     "  keyagent instance reencrypt resume payroll", run_resume);
  for (auto* each : {start, pause, resume})
    each->add_option("SPECIFICATION", o.specification, "name of the specification")->required();
}

}  // namespace keyagent::cli
