// SPDX-License-Identifier: Apache-2.0
// Data keys from token to token through the agents of both, one after another as an instance does
// it: how many a second. Makes the keys before.
//   --source SOCKET --target SOCKET [--keys N] [--name NAME]
// REQUIRES that both have exchange-identity, and that each one's policy names the other's.
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "agent/instance/data/data_keys.h"
#include "agent/instance/exchange/agent_key_exchange.h"
#include "tests/bench/measure.h"

namespace keyagent::bench {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

instance::InstanceConfig host(const std::string& socket) {
  instance::InstanceConfig config;
  config.agent_socket = socket;
  return config;
}

int body(const Arguments& arguments) {
  const auto source_host = host(arguments.text("source")),
             target_host = host(arguments.text("target"));
  instance::AgentKeyExchange source(source_host, system_clock()),
      target(target_host, system_clock());
  source.make_keys();
  target.make_keys();
  const auto from = source.identity(), to = target.identity();
  const auto offer = target.offer();
  const unsigned count = arguments.number("keys", 200);
  instance::DataKeys keys(source_host);
  for (unsigned i = 0; i < count; ++i) keys.create("bench-exchange-" + std::to_string(i), true);
  const auto made = source.data_keys();
  if (made.size() < count) throw std::runtime_error("not all keys were made");

  const auto exporting = Clock::now();
  std::vector<instance::ImportOrder> orders;
  for (unsigned i = 0; i < count; ++i) {
    const auto& key = made[i];
    const std::string request = "request-" + std::to_string(i);
    const auto package =
        source.export_key({key.kid, request, key.specification, to.kid.text(), to.spki, offer});
    orders.push_back({package, request, key.specification, from.spki});
  }
  const double exported = seconds_since(exporting);
  const auto importing = Clock::now();
  unsigned imported = 0;
  for (const auto& order : orders) imported += target.import_key(order) ? 1 : 0;
  const double taken = seconds_since(importing);
  const nlohmann::ordered_json line{{"name", arguments.text("name", "exchange")},
                                    {"operations", imported},
                                    {"failures", count - imported},
                                    {"seconds", exported + taken},
                                    {"per_second", imported / (exported + taken)},
                                    {"export_per_second", count / exported},
                                    {"import_per_second", imported / taken}};
  std::printf("%s\n", line.dump().c_str());
  return imported == count ? 0 : 1;
}

}  // namespace
}  // namespace keyagent::bench

int main(int argc, char** argv) {
  return keyagent::bench::guarded(argc, argv, keyagent::bench::body);
}
