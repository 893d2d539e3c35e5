// SPDX-License-Identifier: Apache-2.0
// scripts/crash-test: stops the agent at every point of a rekey, in every way that a host can stop
// it, and checks what is left.
//
// usage: crash_test [--token softhsm|tpm] [--mode kill|power|torn|enospc|eio|call] [--act
// rekey|retire]
//                   [--from N] [--step N] [--verbose]
//
// Prints one line: the points, those that were reached, and the violations of what R8 promises.

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <random>
#include <sstream>
#include <thread>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/envelope/envelope.h"
#include "agent/keys/ledger.h"
#include "tests/crash/place.h"

namespace keyagent::test {
namespace {

using namespace std::chrono_literals;

constexpr const char* kName = "credentials";
// So long something is asked of an agent whose disk may refuse: not a promise, a share of the run.
constexpr auto kActing = 3s;

struct Options {
  Place::Kind token = Place::Kind::kSoftHsm;
  std::string mode = "kill", act = "rekey";
  long from = 1, step = 1;
  bool verbose = false;
};

struct Sealed {
  std::string envelope, plaintext;
};

// What the client knows: every envelope that was sealed before the agent stopped.
struct Knowledge {
  std::vector<Sealed> sealed;
};

wire::Key show(client::Client& agent, const std::string& key) {
  wire::Request request;
  request.mutable_key_show()->set_key(key);
  return agent.call(request).key_show().key();
}

Sealed seal(client::Client& agent) {
  const auto key = show(agent, kName);
  const PublicKeyInfo info{Kid(key.kid()),
                           key.name(),
                           *key_algorithm_of(key.algorithm()),
                           *purpose_of(key.purpose()),
                           *envelope_algorithm_of(key.envelope()),
                           Bytes(key.spki().begin(), key.spki().end())};
  const std::string text = "secret " + to_hex(random_bytes(8));
  const auto sealed = envelope::seal_jwe(info, envelope::ContentEncryption::kA256Gcm,
                                         SecretBytes(text.begin(), text.end()));
  return {std::string(sealed.begin(), sealed.end()), text};
}

std::string open(client::Client& agent, const std::string& envelope) {
  wire::Request request;
  request.mutable_open()->set_envelope(envelope);
  return agent.call(request).open().plaintext();
}

std::string create(client::Client& agent, const std::string& name, const std::string& purpose,
                   const std::string& algorithm) {
  wire::Request request;
  request.mutable_key_create()->set_name(name);
  request.mutable_key_create()->set_purpose(purpose);
  request.mutable_key_create()->set_algorithm(algorithm);
  return agent.call(request).key_create().key().kid();
}

std::vector<wire::Rekey> rekeys(client::Client& agent) {
  wire::Request request;
  request.mutable_rekey_status()->set_all(true);
  const auto answer = agent.call(request);
  return {answer.rekey_status().rekeys().begin(), answer.rekey_status().rekeys().end()};
}

bool at_rest(const std::vector<wire::Rekey>& all, bool retired) {
  return std::all_of(all.begin(), all.end(), [&](const auto& rekey) {
    return rekey.step() == "destroyed" || rekey.step() == "aborted" ||
           (!retired && rekey.step() == "draining");
  });
}

bool wait_until(const std::function<bool()>& condition, std::chrono::milliseconds limit) {
  const auto until = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(2ms);
  }
  return true;
}

// --- what is done while the agent may stop
// -------------------------------------------------------------------------------------------------

// A key made, a rekey asked for and done up to the drain, something sealed and opened meanwhile, a
// key destroyed.
void rekey_act(Place& place, Knowledge& known) {
  auto agent = place.client();
  const std::string passing = create(agent, "passing", "sign", "ec-p256");
  wire::Request request;
  request.mutable_rekey()->set_name(kName);
  agent.call(request);
  wait_until(
      [&] {
        known.sealed.push_back(seal(agent));
        open(agent, known.sealed.back().envelope);
        return at_rest(rekeys(agent), false);
      },
      kActing);
  wire::Request destroy;
  destroy.mutable_key_destroy()->set_key(passing);
  destroy.mutable_key_destroy()->set_confirm_kid(passing);
  agent.call(destroy);
}

// The drain is over: the old generation goes at the start.
void retire_act(Place& place, Knowledge& known) {
  auto agent = place.client();
  known.sealed.push_back(seal(agent));
  open(agent, known.sealed.back().envelope);
  wait_until([&] { return at_rest(rekeys(agent), true); }, kActing);
}

void act(const Options& options, Place& place, Knowledge& known, bool stops) {
  try {
    options.act == "rekey" ? rekey_act(place, known) : retire_act(place, known);
  } catch (const Error&) {
    // It stopped, or refuses what it cannot write: that is what this is about.
    if (!stops) throw;
  }
}

void prepare(const Options& options, Place& place, Knowledge& known) {
  if (options.mode == "call") place.use_shim();
  place.start();
  {
    auto agent = place.client();
    create(agent, kName, "transport", options.token == Place::Kind::kTpm ? "rsa-2048" : "ec-p256");
    known.sealed.push_back(seal(agent));
    if (options.act == "retire") {
      wire::Request request;
      request.mutable_rekey()->set_name(kName);
      agent.call(request);
      if (!wait_until([&] { return at_rest(rekeys(agent), false); }, 30s))
        throw std::runtime_error("the rekey to start from does not end");
      known.sealed.clear();
    }
  }
  place.stop();
  if (options.act == "retire") {
    keys::Ledger ledger(place.state() / "ledger.db");
    for (const auto& rekey : ledger.load().rekeys) ledger.note_drained(rekey.id, rekey.drain);
  }
  std::filesystem::remove(place.state() / "calls");
  place.save();
}

// --- what must hold after it
// -------------------------------------------------------------------------------------------------

class Judge {
 public:
  Judge(const Options& options, Place& place, const Knowledge& known)
      : options_(options), place_(place), known_(known) {}

  std::vector<std::string> violations() {
    place_.start();
    if (!place_.serving()) {
      found_.push_back("the agent does not start (" + std::to_string(place_.status()) + ")");
      return found_;
    }
    try {
      look();
    } catch (const std::exception& error) {
      found_.push_back(std::string("it answers: ") + error.what());
    }
    return found_;
  }

 private:
  void look() {
    auto agent = place_.client();
    if (!wait_until([&] { return at_rest(rekeys(agent), false); }, 120s))
      found_.push_back("the rekey does not go on");
    if (show(agent, kName).state() != "active") found_.push_back("no active key");
    for (const auto& sealed : known_.sealed) {
      if (open(agent, sealed.envelope) != sealed.plaintext)
        found_.push_back("an envelope opens to something else");
    }
    const auto fresh = seal(agent);
    if (open(agent, fresh.envelope) != fresh.plaintext) found_.push_back("the key in force fails");
    count_keys(agent);
    wire::Request verify;
    verify.mutable_audit_verify();
    const auto verified = agent.call(verify).audit_verify();
    if (!verified.ok()) found_.push_back("the audit log: " + verified.text());
    wire::Request doctor;
    doctor.mutable_doctor();
    const auto answer = agent.call(doctor);
    for (const auto& finding : answer.doctor().findings()) {
      // Expected: the leftovers of a crash that the start removed, and a key that SoftHSM reported
      // as destroyed although it could not remove the file.
      const bool told = (finding.severity() == "info" && finding.code() != "FOREIGN") ||
                        (fails() && finding.code() == "GHOST");
      if (!told)
        found_.push_back("doctor: " + finding.code() + " " + finding.subject() + ": " +
                         finding.text());
    }
  }

  bool fails() const { return options_.mode == "enospc" || options_.mode == "eio"; }

  void count_keys(client::Client& agent) {
    wire::Request request;
    request.mutable_key_list()->set_all(true);
    const auto answer = agent.call(request);
    int active = 0, live = 0;
    for (const auto& key : answer.key_list().keys()) {
      if (key.name() != kName || key.state() == "destroyed") continue;
      ++live;
      if (key.state() == "active") ++active;
    }
    if (active != 1) found_.push_back(std::to_string(active) + " active keys of one name");
    if (live > 2) found_.push_back(std::to_string(live) + " generations after one rekey");
  }

  const Options& options_;
  Place& place_;
  const Knowledge& known_;
  std::vector<std::string> found_;
};

// --- the points
// -------------------------------------------------------------------------------------------------

struct Tally {
  long points = 0, reached = 0, violated = 0, token_lost = 0;
};

void judge(const Options& options, Place& place, const Knowledge& known, const std::string& where,
           Tally& tally) {
  ++tally.reached;
  if (place.token_lost()) {
    ++tally.token_lost;
    if (options.verbose) std::cout << "  SoftHSM lost its token at " << where << "\n";
    return;
  }
  Judge judge(options, place, known);
  const auto violations = judge.violations();
  tally.violated += violations.empty() ? 0 : 1;
  for (const auto& each : violations) std::cout << "  " << where << ": " << each << "\n";
  if (!violations.empty() && options.verbose) std::cout << place.log();
  std::cout.flush();
}

// Runs with the agent stopped at one point each; stop_at() is false past the last point.
class Points {
 public:
  Points(const Options& options, Place& place, const Knowledge& known)
      : options_(options), place_(place), known_(known) {}

  // How many there are in a run that nothing stops.
  long count() {
    run({});
    std::ifstream report(place_.state() / "points");
    return std::count(std::istreambuf_iterator<char>(report), {}, '\n');
  }
  bool stop_at(long point, Tally& tally) {
    const auto known = run({"--at", std::to_string(point), "--do", options_.mode});
    std::ifstream report(place_.state() / "points");
    std::string reached;
    if (!std::getline(report, reached)) return false;
    judge(options_, place_, known, std::to_string(point) + " " + reached, tally);
    return true;
  }

 private:
  Knowledge run(const std::vector<std::string>& how) {
    place_.restore();
    Knowledge known = known_;
    std::vector<std::string> launcher{STOP_AT,
                                      "--root",
                                      place_.state().string(),
                                      "--report",
                                      (place_.state() / "points").string(),
                                      "--keep",
                                      place_.store().string()};
    launcher.insert(launcher.end(), how.begin(), how.end());
    launcher.emplace_back("--");
    place_.start(launcher);
    act(options_, place_, known, !how.empty());
    place_.stop();
    return known;
  }
  const Options& options_;
  Place& place_;
  const Knowledge& known_;
};

Tally stop_everywhere(const Options& options, Place& place, const Knowledge& known) {
  Tally tally;
  Points points(options, place, known);
  tally.points = points.count();
  // The number varies a little with the threads' turns: on until one is not reached.
  for (long n = options.from; points.stop_at(n, tally); n += options.step) {
  }
  return tally;
}

// Inside each call into the token: before it is made, and when its answer is lost.
Tally stop_in_calls(const Options& options, Place& place, const Knowledge& known) {
  Tally tally;
  const auto run = [&](const std::string& rule) {
    place.restore();
    place.set_faults(rule);
    Knowledge now = known;
    place.start();
    act(options, place, now, !rule.empty());
    place.stop();
    place.set_faults("");
    constexpr int kKilled = 128 + SIGKILL;
    return std::pair(place.status() == kKilled, now);
  };
  run("");
  std::istringstream calls(place.shim_calls());
  std::vector<std::string> rules;
  std::map<std::string, int> seen;
  for (std::string name; calls >> name;) {
    const std::string rule = name + ":n=" + std::to_string(++seen[name]);
    rules.push_back(rule + ":kill");
    rules.push_back(rule + ":after:kill");
  }
  tally.points = static_cast<long>(rules.size());
  for (std::size_t i = static_cast<std::size_t>(options.from - 1); i < rules.size();
       i += static_cast<std::size_t>(options.step)) {
    const auto [reached, now] = run(rules[i]);
    if (reached) judge(options, place, now, rules[i], tally);
    if (!reached && options.verbose) std::cout << "  not reached: " << rules[i] << "\n";
  }
  return tally;
}

Options parse(int argc, char** argv) {
  Options options;
  CLI::App app;
  app.add_flag("--verbose", options.verbose);
  app.add_option_function<std::string>("--token",
                                       [&](const std::string& token) {
                                         options.token = token == "tpm" ? Place::Kind::kTpm
                                                                        : Place::Kind::kSoftHsm;
                                       })
      ->check(CLI::IsMember({"softhsm", "tpm"}));
  app.add_option("--mode", options.mode);
  app.add_option("--act", options.act);
  app.add_option("--from", options.from)->check(CLI::PositiveNumber);
  app.add_option("--step", options.step)->check(CLI::PositiveNumber);
  app.parse(argc, argv);
  return options;
}

int run(int argc, char** argv) {
  constexpr int kSkipped = 77;  // of ctest
  const Options options = parse(argc, argv);
  std::string missing;
  if (options.token == Place::Kind::kTpm) missing = Swtpm::missing();
  if (::geteuid() != 0)
    missing = "stop_at reads the files of a process that only root may look into";
  if (!missing.empty()) {
    std::cout << "skipped: " << missing << "\n";
    return kSkipped;
  }
  Place place(options.token);
  Knowledge known;
  prepare(options, place, known);
  const Tally tally = options.mode == "call" ? stop_in_calls(options, place, known)
                                             : stop_everywhere(options, place, known);
  std::printf("%-8s %-7s %-7s %5ld points, %5ld stopped at, %ld violations",
              options.token == Place::Kind::kTpm ? "tpm" : "softhsm", options.act.c_str(),
              options.mode.c_str(), tally.points, tally.reached, tally.violated);
  if (tally.token_lost > 0) std::printf(", %ld tokens lost by SoftHSM (X1)", tally.token_lost);
  std::printf("\n");
  if (tally.reached == 0) throw std::runtime_error("no point was reached");
  return tally.violated == 0 ? 0 : 1;
}

}  // namespace
}  // namespace keyagent::test

int main(int argc, char** argv) {
  try {
    return keyagent::test::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "crash_test: %s\n", error.what());
    return 2;
  }
}
