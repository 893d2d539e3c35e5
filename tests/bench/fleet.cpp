// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/fleet.h"

#include <boost/asio/post.hpp>

#include "agent/tls/dial.h"

namespace keyagent::bench {

namespace asio = tls::asio;
using tls::error_code;

namespace {

constexpr std::size_t kDialledAtOnce = 64;
constexpr int kTries = 5;
constexpr std::chrono::seconds kPatience{60};  // the instance is meant to be busy

asio::ip::tcp::endpoint endpoint_of(const std::string& url) {
  const auto where = tls::parse_url(url);
  return {asio::ip::make_address(where.host), static_cast<std::uint16_t>(std::stoul(where.port))};
}

}  // namespace

FleetAgent::FleetAgent(Fleet& fleet, std::string name, const test::SimulatedAgent::Shared& shared)
    : agent(fleet, name, shared),
      id(std::move(name)),
      fleet_(fleet),
      socket_(fleet.io()),
      timer_(fleet.io()) {
  agent.tries = kTries;
  agent.keep = true;
}

// --- the link

void FleetAgent::dial() {
  socket_.async_connect(endpoint_of(fleet_.agents_url()), [this](error_code error) {
    if (error) return lost(error.message());
    const auto options = agent.mutual();
    tls::Expected expected;
    expected.host = tls::parse_url(options.url).host;
    stream_.emplace(std::move(socket_), tls::client_context(agent.library, options), expected);
    shake();
  });
}

void FleetAgent::shake() {
  const auto step = stream_->session().handshake();
  if (step == tls::Step::kDone) return open();
  if (step == tls::Step::kFault) return lost(stream_->session().fault().what());
  if (step == tls::Step::kEnd) return lost("the instance ended the handshake");
  stream_->socket().async_wait(
      step == tls::Step::kWantWrite ? asio::socket_base::wait_write : asio::socket_base::wait_read,
      [this](error_code error) {
        if (error) return lost(error.message());
        shake();
      });
}

void FleetAgent::open() {
  queue_ =
      std::make_shared<tls::LinkQueue>(stream_->session().peer(tls::address_of(stream_->socket())));
  tls::LinkSink sink;
  sink.message = [this](std::string text) {
    session_->handled();
    hear(Json::parse(text));
  };
  sink.ended = [this](const Error& why) { lost(why.what()); };
  tls::LinkLimits limits;
  limits.handshake = kPatience;
  session_ = std::make_shared<tls::LinkSession>(*std::move(stream_), queue_, limits, sink);
  stream_.reset();
  say({{"type", "hello"},
       {"version", "1"},
       {"host", id},
       {"auth_kid", agent.auth.kid.text()},
       {"transport_kid", agent.transport.kid.text()},
       {"busy", false}});
  session_->connect(tls::parse_url(fleet_.agents_url()).authority, "/v1/link");
}

void FleetAgent::lost(const std::string& why) {
  if (std::exchange(over_, true)) return;
  timer_.cancel();
  ++fleet_.ended;
  fleet_.failed(id + ": its link: " + why);
  if (!agent.welcome.is_object()) fleet_.dialled();
}

void FleetAgent::hear(const Json& message) {
  const auto& type = message.at("type").get_ref<const std::string&>();
  if (type == "welcome") {
    agent.welcome = message;
    ++fleet_.welcomed;
    fleet_.dialled();
    const std::chrono::milliseconds interval(1000 * message.at("heartbeat_s").get<int>());
    thread_local std::mt19937 random(std::random_device{}());
    beat_after(std::chrono::milliseconds(random() % static_cast<unsigned>(interval.count())));
  } else if (type == "heartbeat") {
    waiting_ = false;
    fleet_.answered(std::chrono::duration_cast<std::chrono::microseconds>(
        std::chrono::steady_clock::now() - beaten_));
  } else if (type == "rekey") {
    asio::post(fleet_.workers(),
               [this, order = message.at("id").get<std::string>()] { rotate(order); });
  } else if (type == "tasks" && calls_++ == 0) {
    asio::post(fleet_.workers(), [this] { work(); });
  }
}

void FleetAgent::beat_after(std::chrono::milliseconds wait) {
  timer_.expires_after(wait);
  timer_.async_wait([this](error_code error) {
    if (!error) beat();
  });
}

void FleetAgent::beat() {
  if (waiting_) ++fleet_.missed;
  waiting_ = true;
  beaten_ = std::chrono::steady_clock::now();
  ++fleet_.beats;
  // The transport key is changed in a worker.
  const Json key{
      {"kid", agent.auth.kid.text()}, {"name", "auth"}, {"state", "active"}, {"generation", 1}};
  say({{"type", "heartbeat"}, {"n", ++beats_}, {"keys", {key}}});
  beat_after(std::chrono::seconds(agent.welcome.at("heartbeat_s").get<int>()));
}

// --- orders of the instance

void FleetAgent::rotate(const std::string& order) {
  const auto report = [&](const std::string& step, const std::string& fresh,
                          const std::string& text) {
    say({{"type", "rekey"},
         {"id", order},
         {"step", step},
         {"old_kid", agent.transport.kid.text()},
         {"new_kid", fresh},
         {"text", text}});
  };
  try {
    agent.rotate([&](const std::string& step, const PublicKeyInfo& fresh) {
      report(step, fresh.kid.text(), {});
    });
    ++fleet_.rotated;
  } catch (const std::exception& error) {
    fleet_.failed(id + ": its rotation: " + error.what());
    report("failed", {}, error.what());
  }
  agent.hang_up();
}

// Called again meanwhile: it looks once more.
void FleetAgent::work() {
  for (int seen = calls_; seen > 0;) {
    run_tasks();
    if (calls_.compare_exchange_strong(seen, 0)) return;
  }
}

void FleetAgent::run_tasks() {
  try {
    for (;;) {
      const Json taken = agent.call("POST", "/v1/tasks/take", {{"handlers", {"bench"}}});
      if (taken.at("task").is_null()) break;
      const auto path = "/v1/tasks/" + taken.at("task").at("id").get<std::string>();
      const Json lease{{"lease", taken.at("lease")}};
      agent.call("POST", path + "/start", lease);
      Json end = lease;
      end.update({{"outcome", "done"}, {"text", ""}, {"result", ""}});
      agent.call("POST", path + "/end", end);
      ++fleet_.done;
    }
  } catch (const std::exception& error) {
    fleet_.failed(id + ": its task: " + error.what());
  }
  agent.hang_up();
}

// --- all of them

Fleet::Fleet(std::string api, std::string fingerprint_in, unsigned workers)
    : api_(std::move(api)), workers_(workers) {
  fingerprint = std::move(fingerprint_in);
  thread_ = std::thread([this] { io_.run(); });
}

Fleet::~Fleet() {
  workers_.join();
  io_.stop();
  thread_.join();
}

void Fleet::make(std::size_t count) {
  all_.resize(count);
  in_parallel(count, std::max(1U, std::thread::hardware_concurrency()), [&](std::size_t i) {
    all_[i] = std::make_unique<FleetAgent>(*this, "bench-" + std::to_string(i), shared_);
  });
}

void Fleet::connect() {
  asio::post(io_, [this] {
    for (std::size_t i = 0; i < kDialledAtOnce; ++i) dialled();
  });
}

void Fleet::dialled() {
  if (next_ < all_.size()) all_[next_++]->dial();
}

void Fleet::failed(const std::string& what) {
  ++failures;
  const std::lock_guard lock(mutex_);
  if (first_failure_.empty()) first_failure_ = what;
}

std::string Fleet::first_failure() const {
  const std::lock_guard lock(mutex_);
  return first_failure_;
}

void Fleet::answered(std::chrono::microseconds took) {
  const std::lock_guard lock(mutex_);
  answer_times_.push_back(static_cast<std::uint32_t>(took.count()));
}

std::vector<std::uint32_t> Fleet::take_answer_times() {
  const std::lock_guard lock(mutex_);
  return std::exchange(answer_times_, {});
}

void in_parallel(std::size_t count, unsigned threads,
                 const std::function<void(std::size_t)>& work) {
  std::atomic<std::size_t> next{0};
  std::mutex mutex;
  std::exception_ptr fault;
  std::vector<std::thread> running;
  for (unsigned i = 0; i < threads; ++i)
    running.emplace_back([&] {
      try {
        for (std::size_t at = next++; at < count; at = next++) work(at);
      } catch (...) {
        next = count;
        const std::lock_guard lock(mutex);
        if (!fault) fault = std::current_exception();
      }
    });
  for (auto& each : running) each.join();
  if (fault) std::rethrow_exception(fault);
}

}  // namespace keyagent::bench
