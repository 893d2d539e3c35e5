// SPDX-License-Identifier: Apache-2.0
#include "tests/attack/attempts.h"

#include <cstdio>
#include <nlohmann/json.hpp>
#include <thread>

namespace keyagent::attack {

void Attempts::gained(const std::string& what) {
  ++gained_;
  const std::lock_guard lock(mutex_);
  if (first_gain_.empty()) first_gain_ = what;
}

void Attempts::attempt(const std::function<bool()>& action) {
  try {
    action() ? gained(name_) : refused();
  } catch (const std::exception& error) {
    refused();
    const std::lock_guard lock(mutex_);
    if (first_refusal_.empty()) first_refusal_ = error.what();
  }
}

std::uint64_t Attempts::print(const std::string& role) const {
  const std::lock_guard lock(mutex_);
  nlohmann::json line{
      {"role", role}, {"attack", name_}, {"refused", refused_.load()}, {"gained", gained_.load()}};
  if (!first_gain_.empty()) line["first_gain"] = first_gain_.substr(0, 200);
  if (!first_refusal_.empty()) line["first_refusal"] = first_refusal_.substr(0, 200);
  std::puts(line.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace).c_str());
  std::fflush(stdout);
  return gained_;
}

int run_attacks(const std::string& role, std::chrono::seconds duration,
                const std::vector<Attack>& attacks) {
  const auto until = std::chrono::steady_clock::now() + duration;
  std::vector<std::unique_ptr<Attempts>> counts;
  std::vector<std::jthread> threads;
  for (const auto& attack : attacks) {
    auto& count = *counts.emplace_back(std::make_unique<Attempts>(attack.name));
    for (unsigned i = 0; i < attack.threads; ++i) {
      threads.emplace_back([&count, &attack, until] {
        std::function<void(Attempts&)> run;
        while (std::chrono::steady_clock::now() < until) {
          try {
            if (!run) run = attack.make();
            run(count);
          } catch (const std::exception&) {
            count.refused();
            run = nullptr;  // its connection is gone: start again, without spinning
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
          }
        }
      });
    }
  }
  threads.clear();
  std::uint64_t gains = 0;
  for (const auto& count : counts) gains += count->print(role);
  return gains == 0 ? 0 : 6;
}

}  // namespace keyagent::attack
