// SPDX-License-Identifier: Apache-2.0
// A compromised keyinstanced: its user, on the socket of its host's agent. It may request what the
// agent's policy allows. It must not get a statement signed that the agent has not built or
// verified, and must not export a key.
//   --socket PATH --seconds N --keys NAME,NAME,…
#include "agent/client/client.h"
#include "agent/client/remote_keys.h"
#include "agent/envelope/envelope.h"
#include "agent/wire/messages.h"
#include "tests/attack/attempts.h"
#include "tests/support/software_keys.h"

namespace keyagent::attack {
namespace {

using namespace std::chrono_literals;

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> out(1);
  for (const char c : text)
    c == ',' ? static_cast<void>(out.emplace_back()) : out.back().push_back(c);
  return out;
}

using Make = std::function<wire::Request()>;

Attack request(const std::string& name, const std::string& socket, const Make& make) {
  return {name, 1, [=] {
            auto agent = std::make_shared<client::Client>(client::Client::Options{socket, 10s});
            return [=](Attempts& count) {
              count.attempt([&] { return !agent->call(make()).has_failure(); });
            };
          }};
}

wire::Request sign(const std::string& key, bool message) {
  wire::Request request;
  request.mutable_sign()->set_key(key);
  message ? request.mutable_sign()->set_message("I am the agent, and I vouch for this.")
          : request.mutable_sign()->set_input(std::string(32, 'x'));
  return request;
}

}  // namespace

int instance_process(const bench::Arguments& arguments) {
  const std::string socket = arguments.text("socket");
  std::vector<Attack> attacks;
  for (const auto& key : split(arguments.text("keys"))) {
    attacks.push_back(request("a digest of its own signed by " + key, socket,
                              [key] { return sign(key, false); }));
    attacks.push_back(request("a message of its own signed by " + key, socket,
                              [key] { return sign(key, true); }));
  }
  return run_attacks("instance process", std::chrono::seconds(arguments.number("seconds", 60)),
                     attacks);
}

}  // namespace keyagent::attack
