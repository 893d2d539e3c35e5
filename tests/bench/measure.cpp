// SPDX-License-Identifier: Apache-2.0
#include "measure.h"

#include <algorithm>
#include <atomic>
#include <barrier>
#include <cstdio>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

namespace keyagent::bench {

using Clock = std::chrono::steady_clock;

Arguments::Arguments(int argc, char** argv) {
  for (int i = 1; i < argc; i += 2) {
    const std::string name = argv[i];
    if (name.rfind("--", 0) != 0 || i + 1 == argc)
      throw std::runtime_error("expected --name value, got " + name);
    values_[name.substr(2)] = argv[i + 1];
  }
}

std::string Arguments::text(const std::string& name) const {
  const auto found = values_.find(name);
  if (found == values_.end()) throw std::runtime_error("--" + name + " is missing");
  return found->second;
}

std::string Arguments::text(const std::string& name, const std::string& otherwise) const {
  const auto found = values_.find(name);
  return found == values_.end() ? otherwise : found->second;
}

unsigned Arguments::number(const std::string& name, unsigned otherwise) const {
  const auto found = values_.find(name);
  return found == values_.end() ? otherwise : static_cast<unsigned>(std::stoul(found->second));
}

namespace {

struct Shared {
  explicit Shared(unsigned threads) : start(threads + 1) {}
  std::barrier<> start;
  std::atomic<bool> counting{false}, stop{false};
  std::mutex mutex;
  std::vector<std::uint32_t> times_ns;  // guarded by mutex, as all below
  std::uint64_t failures = 0;
  std::string first_failure;
};

void loop(Shared& shared, const Work& work) {
  std::vector<std::uint32_t> times;
  std::uint64_t failures = 0;
  std::string first;
  while (!shared.stop) {
    const auto begin = Clock::now();
    try {
      work();
    } catch (const std::exception& error) {
      if (failures++ == 0) first = error.what();
      if (failures > 1000) break;
      continue;
    }
    const auto took = std::chrono::nanoseconds(Clock::now() - begin).count();
    if (shared.counting)
      times.push_back(static_cast<std::uint32_t>(std::min<std::int64_t>(took, UINT32_MAX)));
  }
  std::lock_guard lock(shared.mutex);
  shared.times_ns.insert(shared.times_ns.end(), times.begin(), times.end());
  shared.failures += failures;
  if (shared.first_failure.empty()) shared.first_failure = first;
}

// Prepares, then loops. A failed preparation still meets the others at the barrier.
void one_thread(Shared& shared, unsigned number, const std::function<Work(unsigned)>& prepare) {
  Work work;
  std::string failure;
  try {
    work = prepare(number);
  } catch (const std::exception& error) {
    failure = error.what();
  }
  shared.start.arrive_and_wait();
  if (work) return loop(shared, work);
  std::lock_guard lock(shared.mutex);
  ++shared.failures;
  shared.first_failure = failure;
}

double microseconds(const std::vector<std::uint32_t>& sorted, double share) {
  if (sorted.empty()) return 0;
  const auto index = static_cast<std::size_t>(share * static_cast<double>(sorted.size() - 1));
  return sorted[index] / 1000.0;
}

}  // namespace

Load run(unsigned threads, std::chrono::milliseconds duration,
         const std::function<Work(unsigned)>& prepare) {
  Shared shared(threads);
  std::vector<std::thread> workers;
  for (unsigned i = 0; i < threads; ++i)
    workers.emplace_back([&, i] { one_thread(shared, i, prepare); });
  shared.start.arrive_and_wait();
  std::this_thread::sleep_for(duration / 10);
  shared.counting = true;
  const auto begin = Clock::now();
  std::this_thread::sleep_for(duration);
  shared.counting = false;
  const std::chrono::duration<double> took = Clock::now() - begin;
  shared.stop = true;
  for (auto& worker : workers) worker.join();
  auto& times = shared.times_ns;
  std::sort(times.begin(), times.end());
  Load load;
  load.operations = times.size();
  load.failures = shared.failures;
  load.first_failure = shared.first_failure;
  load.seconds = took.count();
  load.per_second = static_cast<double>(times.size()) / took.count();
  load.p50_us = microseconds(times, 0.5);
  load.p99_us = microseconds(times, 0.99);
  return load;
}

int print(const std::string& name, unsigned threads, const Load& load) {
  std::printf(
      "{\"name\":\"%s\",\"threads\":%u,\"operations\":%llu,\"failures\":%llu,\"seconds\":%.3f,"
      "\"per_second\":%.1f,\"p50_us\":%.1f,\"p99_us\":%.1f}\n",
      name.c_str(), threads, static_cast<unsigned long long>(load.operations),
      static_cast<unsigned long long>(load.failures), load.seconds, load.per_second, load.p50_us,
      load.p99_us);
  if (load.failures > 0)
    std::fprintf(stderr, "%s: %llu failures, the first: %s\n", name.c_str(),
                 static_cast<unsigned long long>(load.failures), load.first_failure.c_str());
  return load.operations > 0 ? 0 : 1;
}

int guarded(int argc, char** argv, const std::function<int(const Arguments&)>& body) {
  try {
    return body(Arguments(argc, argv));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", argv[0], error.what());
    return 2;
  }
}

}  // namespace keyagent::bench
