// SPDX-License-Identifier: Apache-2.0
#pragma once
// Thousands of simulated agents with keys in memory. Their live links are on one io thread; what
// they ask by HTTPS blocks, and is done by a few threads.

#define BOOST_ERROR_CODE_HEADER_ONLY
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <deque>
#include <random>

#include "agent/tls/link.h"
#include "tests/instance/simulated_agent.h"

namespace keyagent::bench {

using Json = nlohmann::json;
using SteadyTime = std::chrono::steady_clock::time_point;

class Fleet;

// One of them. Its link lives in the io thread.
class FleetAgent {
 public:
  FleetAgent(Fleet& fleet, std::string id, const test::SimulatedAgent::Shared& shared);
  // In one of the fleet's workers, or before it has a link.
  test::SimulatedAgent agent;
  const std::string id;

  // In the io thread.
  void dial();

 private:
  void shake();
  void open();
  void lost(const std::string& why);
  void hear(const Json& message);
  void beat_after(std::chrono::milliseconds wait);
  void beat();
  void say(const Json& message) { queue_->send(message.dump()); }

  // In a worker.
  void rotate(const std::string& order);
  void work();
  void run_tasks();

  Fleet& fleet_;
  tls::asio::ip::tcp::socket socket_;
  std::optional<tls::TlsStream> stream_;
  std::shared_ptr<tls::LinkQueue> queue_;
  std::shared_ptr<tls::LinkSession> session_;
  tls::asio::steady_timer timer_;
  SteadyTime beaten_{};
  std::int64_t beats_ = 0;
  bool waiting_ = false, over_ = false;
  std::atomic<int> calls_{0};  // to work, since it last looked for any
};

class Fleet final : public test::InstanceAddress {
 public:
  Fleet(std::string api, std::string fingerprint, unsigned workers);
  ~Fleet() override;
  std::string api_url() const override { return api_; }
  std::string agents_url() const override { return agents_; }
  void set_agents_url(const std::string& url) { agents_ = url; }

  // Their keys, made by all cores.
  void make(std::size_t count);
  // Opens the links, some at a time.
  void connect();
  // Counts a failure; the text of the first one is kept.
  void failed(const std::string& what);
  std::string first_failure() const;

  void dialled();  // one more may be
  void answered(std::chrono::microseconds took);
  std::vector<std::uint32_t> take_answer_times();

  std::vector<std::unique_ptr<FleetAgent>>& agents() { return all_; }
  tls::asio::io_context& io() { return io_; }
  tls::asio::thread_pool& workers() { return workers_; }

  std::atomic<std::uint64_t> welcomed{0}, ended{0}, beats{0}, missed{0}, rotated{0}, done{0},
      failures{0};

 private:
  const std::string api_;
  std::string agents_;
  test::SimulatedAgent::Shared shared_;
  tls::asio::io_context io_{1};
  tls::asio::executor_work_guard<tls::asio::io_context::executor_type> busy_{io_.get_executor()};
  tls::asio::thread_pool workers_;
  std::vector<std::unique_ptr<FleetAgent>> all_;
  std::size_t next_ = 0;  // to dial
  mutable std::mutex mutex_;
  std::string first_failure_;                // guarded by mutex_
  std::vector<std::uint32_t> answer_times_;  // guarded by mutex_; microseconds
  std::thread thread_;
};

// Calls `work` for each number below `count`, by `threads` threads.
void in_parallel(std::size_t count, unsigned threads, const std::function<void(std::size_t)>& work);

}  // namespace keyagent::bench
