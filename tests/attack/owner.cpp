// SPDX-License-Identifier: Apache-2.0
// The program that the keys are for: 20 requests a second, of three kinds in turn, and how they
// went.
//   --socket PATH --seconds N --sign-key NAME --open-key NAME --credential NAME [--name TEXT]
#include <algorithm>
#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <thread>

#include "agent/client/client.h"
#include "agent/client/remote_keys.h"
#include "agent/envelope/envelope.h"
#include "agent/wire/messages.h"
#include "tests/attack/attempts.h"

namespace keyagent::attack {
namespace {

using namespace std::chrono_literals;
using SteadyClock = std::chrono::steady_clock;

constexpr auto kPace = 50ms;

std::vector<wire::Request> requests_of(client::Client& agent, const bench::Arguments& arguments) {
  std::vector<wire::Request> out(3);
  out[0].mutable_sign()->set_key(arguments.text("sign-key"));
  out[0].mutable_sign()->set_input(std::string(32, 'x'));
  const auto key = client::RemoteKeys(agent).find(arguments.text("open-key"));
  const auto jwe =
      envelope::seal_jwe(key, envelope::ContentEncryption::kA256Gcm, SecretBytes(32, 's'));
  out[1].mutable_open()->set_envelope(std::string(as_text(jwe)));
  out[2].mutable_credential_get()->set_name(arguments.text("credential"));
  return out;
}

double percentile(std::vector<double>& sorted, double share) {
  if (sorted.empty()) return 0;
  return sorted[static_cast<std::size_t>(share * static_cast<double>(sorted.size() - 1))];
}

}  // namespace

int owner(const bench::Arguments& arguments) {
  client::Client agent({arguments.text("socket"), 10s});
  const auto requests = requests_of(agent, arguments);
  const auto until = SteadyClock::now() + std::chrono::seconds(arguments.number("seconds", 60));
  std::vector<double> milliseconds;
  std::array<std::vector<double>, 3> of_each;
  std::uint64_t failures = 0;
  std::string first_failure;
  auto next = SteadyClock::now();
  for (std::size_t i = 0; SteadyClock::now() < until; ++i) {
    std::this_thread::sleep_until(next += kPace);
    const auto begin = SteadyClock::now();
    try {
      auto response = agent.call(requests[i % requests.size()]);
      wire::wipe(response);
      milliseconds.push_back(
          std::chrono::duration<double, std::milli>(SteadyClock::now() - begin).count());
      of_each[i % of_each.size()].push_back(milliseconds.back());
    } catch (const std::exception& error) {
      if (failures++ == 0) first_failure = error.what();
    }
  }
  std::sort(milliseconds.begin(), milliseconds.end());
  for (auto& each : of_each) std::sort(each.begin(), each.end());
  const auto total = milliseconds.size() + failures;
  const nlohmann::json line{
      {"role", "owner"},
      {"beside", arguments.text("name", "nobody")},
      {"requests", total},
      {"success",
       total == 0 ? 0 : static_cast<double>(milliseconds.size()) / static_cast<double>(total)},
      {"p50_ms", percentile(milliseconds, 0.5)},
      {"p99_ms", percentile(milliseconds, 0.99)},
      {"p99_ms_sign", percentile(of_each[0], 0.99)},
      {"p99_ms_open", percentile(of_each[1], 0.99)},
      {"p99_ms_credential", percentile(of_each[2], 0.99)},
      {"first_failure", first_failure}};
  std::puts(line.dump().c_str());
  return failures == 0 ? 0 : 7;
}

}  // namespace keyagent::attack
