// SPDX-License-Identifier: Apache-2.0
// keyagent rekey: begin, watch, abort.

#include <chrono>
#include <optional>
#include <thread>

#include "agent/base/error.h"
#include "agent/cli/cli.h"

namespace keyagent::cli {
namespace {

using namespace std::chrono_literals;

// How long the agent may be unreachable (restarting) while the command waits for its rekey.
constexpr auto kRekeyTimeout = 30s;

struct RekeyOptions {
  std::string name, algorithm, envelope, reason;
  bool beyond_limits = false, wait = false, status = false, abort = false, all = false;
  long timeout = 0;
};

Json rekey_json(const wire::Rekey& rekey) {
  return {{"id", rekey.id()},
          {"name", rekey.name()},
          {"step", rekey.step()},
          {"old_kid", rekey.old_kid()},
          {"new_kid", rekey.new_kid()},
          {"algorithm", rekey.algorithm()},
          {"envelope", rekey.envelope()},
          {"begun", rekey.begun()},
          {"changed", rekey.changed()},
          {"drain_ms", rekey.drain_ms()},
          {"drained_ms", rekey.drained_ms()},
          {"actor", rekey.actor()},
          {"reason", rekey.reason()},
          {"waits_for", rekey.waits_for()},
          {"failures", rekey.failures()}};
}

// planned > generated > PROVED > …: where it stands, at a glance.
std::string track_of(const std::string& step) {
  std::string track;
  for (const char* each : {"planned", "generated", "proved", "switched", "draining", "destroyed"}) {
    track += track.empty() ? "" : " > ";
    track += step == each ? "[" + step + "]" : std::string(each);
  }
  return step == "aborting" || step == "aborted" ? "[" + step + "]" : track;
}

std::string rekey_text(const wire::Rekey& rekey) {
  std::string text = rekey.name() + "  " + track_of(rekey.step()) + "\n  old  " + rekey.old_kid() +
                     "\n  new  " +
                     (rekey.new_kid().empty() ? "(" + rekey.algorithm() + ", not generated yet)"
                                              : rekey.new_kid() + " (" + rekey.algorithm() + ")") +
                     "\n  begun " + rekey.begun() + " by " + rekey.actor() + ": " + rekey.reason();
  if (!rekey.waits_for().empty()) {
    text += "\n  waits for " + rekey.waits_for();
    if (rekey.failures() > 0) text += " (" + std::to_string(rekey.failures()) + " attempts)";
  }
  return text + "\n";
}

std::optional<wire::Rekey> look_up(Session& session, const std::string& name, std::uint64_t id) {
  wire::Request request;
  request.mutable_rekey_status()->set_name(name);
  request.mutable_rekey_status()->set_all(true);
  const auto response = session.call(request);
  for (const auto& rekey : response.rekey_status().rekeys()) {
    if (rekey.id() == id) return rekey;
  }
  return std::nullopt;
}

bool is_settled(const wire::Rekey& rekey) {
  return rekey.step() == "draining" || rekey.step() == "destroyed" || rekey.step() == "aborted";
}

// Waits until the new key is active and its peer has been notified, or the rekey was aborted.
wire::Rekey wait_for(Session& session, wire::Rekey rekey, long timeout) {
  const auto begin = std::chrono::steady_clock::now();
  auto reached = begin;
  std::string told;
  for (;;) {
    const std::string news = rekey.step() + " " + rekey.waits_for();
    if (news != told) {
      session.note(rekey.name() + ": " + rekey.step() +
                   (rekey.waits_for().empty() ? "" : ", waits for " + rekey.waits_for()));
    }
    told = news;
    if (is_settled(rekey)) return rekey;
    const auto now = std::chrono::steady_clock::now();
    if (timeout > 0 && now - begin > std::chrono::seconds(timeout)) {
      throw Error(Code::kPartial,
                  "the rekey of " + rekey.name() + " is " + rekey.step() +
                      " and continues in the background; check: keyagent rekey --status " +
                      rekey.name(),
                  rekey.old_kid());
    }
    std::this_thread::sleep_for(100ms);
    try {
      if (auto fresh = look_up(session, rekey.name(), rekey.id())) rekey = *fresh;
      reached = std::chrono::steady_clock::now();
    } catch (const Error& error) {
      if (error.code() != Code::kPeer || now - reached > kRekeyTimeout) throw;
    }
  }
}

void tell_end(Session& session, const wire::Rekey& rekey) {
  if (rekey.step() == "aborted") {
    throw Error(
        Code::kKeyState,
        "the rekey of " + rekey.name() + " is aborted; the old key stays active: " + rekey.reason(),
        rekey.old_kid());
  }
  session.tell(rekey_json(rekey), "rekeyed " + rekey_text(rekey));
}

void run_begin(Session& session, const RekeyOptions& options) {
  wire::Request request;
  auto& rekey = *request.mutable_rekey();
  rekey.set_name(options.name);
  rekey.set_algorithm(options.algorithm);
  rekey.set_envelope(options.envelope);
  rekey.set_reason(options.reason);
  rekey.set_beyond_limits(options.beyond_limits);
  const auto response = session.call(request);
  const auto& begun = response.rekey().rekey();
  if (options.wait) return tell_end(session, wait_for(session, begun, options.timeout));
  session.tell(rekey_json(begun),
               "begun: " + rekey_text(begun) +
                   "It continues in the background; check: keyagent rekey --status " +
                   options.name);
}

void run_abort(Session& session, const RekeyOptions& options) {
  wire::Request request;
  request.mutable_rekey_abort()->set_name(options.name);
  request.mutable_rekey_abort()->set_reason(options.reason);
  const auto response = session.call(request);
  session.tell(rekey_json(response.rekey_abort().rekey()),
               "the rekey of " + options.name + " is aborted; the old key stays active");
}

void run_status(Session& session, const RekeyOptions& options) {
  wire::Request request;
  request.mutable_rekey_status()->set_name(options.name);
  request.mutable_rekey_status()->set_all(options.all);
  const auto response = session.call(request);
  Json list = Json::array();
  std::string text;
  for (const auto& rekey : response.rekey_status().rekeys()) {
    list.push_back(rekey_json(rekey));
    text += rekey_text(rekey);
  }
  session.tell({{"rekeys", list}},
               text.empty() ? "No rekey is in progress (--all shows finished ones)." : text);
}

void run(Session& session, const RekeyOptions& options) {
  if (options.status && options.abort)
    throw Error(Code::kUsage, "give either --status or --abort, not both");
  if (options.status) return run_status(session, options);
  if (options.name.empty()) throw Error(Code::kUsage, "no key given; usage: keyagent rekey NAME");
  options.abort ? run_abort(session, options) : run_begin(session, options);
}

}  // namespace

void add_rekey_command(CLI::App& app, Session& session) {
  auto options = std::make_shared<RekeyOptions>();
  auto* rekey = add_command(
      app, "rekey", "replace a key by its next generation, without downtime",
      "  keyagent rekey backup-credentials --wait\n"
      "  keyagent rekey backup-credentials --algorithm ec-p256 --reason 'smaller envelopes'\n"
      "  keyagent rekey --status\n"
      "  keyagent rekey backup-credentials --abort",
      [&session, options] { run(session, *options); });
  rekey->add_option("NAME", options->name, "name of the key; with --status: show only its rekeys");
  rekey->add_flag("--wait", options->wait,
                  "wait until the new key is active and confirmed by its peer");
  rekey
      ->add_option(
          "--timeout", options->timeout,
          "with --wait: seconds, then exit status 7; the rekey continues in the background")
      ->check(CLI::Range(1L, 86400L));
  rekey->add_option("--algorithm", options->algorithm,
                    "algorithm of the new key (default: unchanged): rsa-2048, rsa-3072, rsa-4096, "
                    "ec-p256, ec-p384, ed25519");
  rekey->add_option("--envelope", options->envelope, "how senders seal to the new key");
  rekey->add_option("--reason", options->reason, "reason for the ledger and the audit log");
  rekey->add_flag("--beyond-limits", options->beyond_limits,
                  "exceed the limit rekey.max-generations");
  rekey->add_flag("--status", options->status, "show rekeys in progress and what they wait for");
  rekey->add_flag("--all", options->all, "with --status: include finished rekeys");
  rekey->add_flag("--abort", options->abort, "abort the rekey, while the old key is active");
}

}  // namespace keyagent::cli
