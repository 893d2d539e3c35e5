// SPDX-License-Identifier: Apache-2.0
// An instance with thousands of simulated agents connected: what one costs in memory, what their
// heartbeats cost, how long a rekey of all takes, how many tasks are done.
//   --api URL --fingerprint TEXT --user NAME --password-file FILE --pid N (of keyinstanced)
//   [--agents N] [--tasks N] [--threads N] [--milliseconds N (of heartbeats)] [--name PREFIX]
#include <algorithm>
#include <cstdio>
#include <fstream>

#include "tests/bench/fleet.h"
#include "tests/bench/measure.h"
#include "tests/bench/process_facts.h"

namespace keyagent::bench {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr auto kLongestPhase = 30min;
constexpr unsigned kSubmitters = 4;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

// Requests of people. One a thread.
class SignedInUser {
 public:
  explicit SignedInUser(const Fleet& fleet) : client_(library(), options(fleet)) {}
  Json call(const std::string& method, const std::string& target, const Json& body = nullptr) {
    std::map<std::string, std::string> headers;
    if (!session.empty()) headers["authorization"] = "Bearer " + session;
    const auto text = body.is_null() ? std::string() : body.dump();
    return Json::parse(client_.call(method, target, text, headers).body);
  }
  std::string session;

 private:
  static std::shared_ptr<tls::Library> library() {
    return std::make_shared<tls::Library>(std::make_shared<test::SoftwareBackend>());
  }
  static tls::ClientOptions options(const Fleet& fleet) {
    tls::ClientOptions options;
    options.url = fleet.api_url();
    options.trust.anchor_spki_sha256 = fleet.fingerprint;
    options.timeout = 10min;
    return options;
  }
  tls::Client client_;
};

class Run {
 public:
  explicit Run(const Arguments& arguments)
      : name_(arguments.text("name", "instance")),
        agents_(arguments.number("agents", 10000)),
        tasks_(arguments.number("tasks", 10000)),
        threads_(arguments.number("threads", 8)),
        heartbeats_(arguments.number("milliseconds", 20000)),
        process_(arguments.text("pid")),
        fleet_(arguments.text("api"), arguments.text("fingerprint"), threads_),
        person_(fleet_) {
    std::ifstream file(arguments.text("password-file"));
    std::string password;
    std::getline(file, password);
    session_ = person_.call("POST", "/v1/login",
                            {{"user", arguments.text("user")}, {"password", password}})["session"];
    person_.session = session_;
  }

  void all() {
    fleet_.make(agents_);
    enrol();
    connect();
    beat();
    rekey();
    tasks();
    if (fleet_.failures > 0)
      std::fprintf(stderr, "%s: %llu failures, the first: %s\n", name_.c_str(),
                   static_cast<unsigned long long>(fleet_.failures),
                   fleet_.first_failure().c_str());
  }

 private:
  // A phase: its time, and the instance's share of one core in it.
  struct Phase {
    Clock::time_point begin = Clock::now();
    double cpu = 0;
  };
  Phase begin() const { return {Clock::now(), process_.cpu()}; }
  void print(const std::string& what, const Phase& phase, std::uint64_t operations, Json fields) {
    const double seconds = seconds_since(phase.begin);
    nlohmann::ordered_json line{{"name", name_ + "-" + what},
                                {"agents", agents_},
                                {"operations", operations},
                                {"seconds", seconds},
                                {"per_second", static_cast<double>(operations) / seconds},
                                {"cpu_percent", 100 * (process_.cpu() - phase.cpu) / seconds}};
    for (auto& [key, value] : fields.items()) line[key] = std::move(value);
    std::printf("%s\n", line.dump().c_str());
    std::fflush(stdout);
  }
  void wait_for(const char* what, const std::function<bool()>& condition) const {
    const auto until = Clock::now() + kLongestPhase;
    while (!condition()) {
      if (Clock::now() > until)
        throw std::runtime_error(std::string(what) +
                                 " took too long; the first failure: " + fleet_.first_failure());
      std::this_thread::sleep_for(10ms);
    }
  }

  void enrol() {
    rss_before_ = process_.resident_kib();
    const auto phase = begin();
    std::mutex mutex;
    std::vector<std::unique_ptr<SignedInUser>> idle;
    in_parallel(agents_, threads_, [&](std::size_t i) {
      auto person = lend(idle, mutex);
      const Json made = person->call("POST", "/v1/tokens", {{"agent", fleet_.agents()[i]->id}});
      {
        const std::lock_guard lock(mutex);
        idle.push_back(std::move(person));
      }
      auto& agent = fleet_.agents()[i]->agent;
      const Json trusted = agent.enrol(made.at("token"));
      agent.hang_up();
      if (i == 0) fleet_.set_agents_url(trusted.at("agents_url"));
    });
    print("enrol", phase, agents_, Json::object());
  }
  std::unique_ptr<SignedInUser> lend(std::vector<std::unique_ptr<SignedInUser>>& idle,
                                     std::mutex& mutex) {
    const std::lock_guard lock(mutex);
    if (idle.empty()) {
      idle.push_back(std::make_unique<SignedInUser>(fleet_));
      idle.back()->session = session_;
    }
    auto person = std::move(idle.back());
    idle.pop_back();
    return person;
  }

  void connect() {
    const auto rss_enrolled = process_.resident_kib();
    const auto phase = begin();
    fleet_.connect();
    wait_for("connecting", [&] { return fleet_.welcomed + fleet_.ended >= agents_; });
    const auto rss = process_.resident_kib();
    print("connect", phase, fleet_.welcomed,
          {{"ended", fleet_.ended.load()},
           {"rss_before_kib", rss_before_},
           {"rss_enrolled_kib", rss_enrolled},
           {"rss_kib", rss},
           {"agent_kib", static_cast<double>(rss - rss_enrolled) / agents_}});
  }

  void beat() {
    fleet_.take_answer_times();
    const auto missed = fleet_.missed.load();
    const auto phase = begin();
    std::this_thread::sleep_for(heartbeats_);
    auto times = fleet_.take_answer_times();
    std::sort(times.begin(), times.end());
    const auto at = [&](double share) {
      return times.empty()
                 ? 0
                 : times[static_cast<std::size_t>(share * static_cast<double>(times.size() - 1))];
    };
    print("heartbeat", phase, times.size(),
          {{"p50_us", at(0.5)}, {"p99_us", at(0.99)}, {"unanswered", fleet_.missed - missed}});
  }

  void rekey() {
    const auto phase = begin();
    const Json ordered = person_.call(
        "POST", "/v1/rekeys",
        {{"all", true}, {"key", "transport"}, {"canary_percent", 1}, {"parallel", 64}});
    const auto order_seconds = seconds_since(phase.begin);
    const auto before = fleet_.failures.load();
    wait_for("the rekey", [&] {
      return fleet_.rotated >= agents_ || fleet_.failures > before || fleet_.ended > 0;
    });
    std::map<std::string, int> states;
    wait_for("the rekey's end", [&] {
      states.clear();
      const Json all =
          person_.call("GET", "/v1/rekeys?batch=" + ordered.at("batch").get<std::string>());
      for (const auto& each : all.at("rekeys")) ++states[each.at("state").get<std::string>()];
      return states["ordered"] + states["sent"] + states["staged"] == 0;
    });
    const auto confirmed = static_cast<std::uint64_t>(states["confirmed"]);
    print("rekey", phase, confirmed,
          {{"failures", agents_ - confirmed}, {"order_seconds", order_seconds}});
  }

  void tasks() {
    const auto before = fleet_.failures.load();
    const auto phase = begin();
    std::atomic<std::size_t> next{0};
    in_parallel(kSubmitters, kSubmitters, [&](std::size_t) {
      SignedInUser person(fleet_);
      person.session = session_;
      for (auto i = next++; i < tasks_; i = next++)
        person.call("POST", "/v1/tasks",
                    {{"handler", "bench"}, {"agent", fleet_.agents()[i % agents_]->id}});
    });
    const auto submit_seconds = seconds_since(phase.begin);
    wait_for("the tasks", [&] { return fleet_.done >= tasks_; });
    print("tasks", phase, fleet_.done,
          {{"submit_seconds", submit_seconds}, {"failures", fleet_.failures - before}});
  }

  const std::string name_;
  const unsigned agents_, tasks_, threads_;
  const std::chrono::milliseconds heartbeats_;
  const ProcessFacts process_;  // of the instance
  Fleet fleet_;
  SignedInUser person_;
  std::string session_;
  std::int64_t rss_before_ = 0;
};

int body(const Arguments& arguments) {
  Run(arguments).all();
  return 0;
}

}  // namespace
}  // namespace keyagent::bench

int main(int argc, char** argv) {
  return keyagent::bench::guarded(argc, argv, keyagent::bench::body);
}
