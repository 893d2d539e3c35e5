// SPDX-License-Identifier: Apache-2.0
// The agent through its socket: N clients, each with its own connection, one request at a
// time.
//   --socket PATH --op sign|open|status --key NAME [--algorithm ES256] [--clients N]
//   [--milliseconds N] [--name NAME]
//   [--hold N: N idle connections, then wait for the end of standard input]
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <vector>

#include "agent/client/channel.h"
#include "agent/client/remote_keys.h"
#include "agent/envelope/envelope.h"
#include "agent/wire/messages.h"
#include "measure.h"

namespace keyagent::bench {
namespace {

wire::Request request_of(const Arguments& arguments) {
  wire::Request request;
  const std::string op = arguments.text("op");
  if (op == "status") {
    request.mutable_status();
  } else if (op == "sign") {
    request.mutable_sign()->set_key(arguments.text("key"));
    request.mutable_sign()->set_algorithm(arguments.text("algorithm", "ES256"));
    request.mutable_sign()->set_input(std::string(32, 'Z'));
  } else if (op == "open") {
    client::Client agent({arguments.text("socket")});
    const auto key = client::RemoteKeys(agent).find(arguments.text("key"));
    const auto jwe =
        envelope::seal_jwe(key, envelope::ContentEncryption::kA256Gcm, SecretBytes(32, 's'));
    request.mutable_open()->set_envelope(std::string(as_text(jwe)));
  } else {
    throw std::runtime_error("--op sign|open|status");
  }
  return request;
}

int hold(const Arguments& arguments, unsigned count) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  std::vector<Fd> connections;
  for (unsigned i = 0; i < count; ++i)
    connections.push_back(client::connect_agent(arguments.text("socket"), deadline));
  std::puts("held");
  std::fflush(stdout);
  while (std::getchar() != EOF) {
  }
  return 0;
}

int body(const Arguments& arguments) {
  if (const unsigned count = arguments.number("hold", 0); count > 0) return hold(arguments, count);
  const unsigned clients = arguments.number("clients", 8);
  const wire::Request request = request_of(arguments);
  const auto load = run(clients, std::chrono::milliseconds(arguments.number("milliseconds", 2000)),
                        [&](unsigned) -> Work {
                          auto agent = std::make_shared<client::Client>(client::Client::Options{
                              arguments.text("socket"), std::chrono::seconds(10)});
                          return [agent, request] {
                            auto response = agent->call(request);
                            wire::wipe(response);
                          };
                        });
  return print(arguments.text("name", "socket-" + arguments.text("op")), clients, load);
}

}  // namespace
}  // namespace keyagent::bench

int main(int argc, char** argv) {
  return keyagent::bench::guarded(argc, argv, keyagent::bench::body);
}
