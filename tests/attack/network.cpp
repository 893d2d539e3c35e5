// SPDX-License-Identifier: Apache-2.0
// Someone who reaches the instance's ports and has nothing: no certificate, no password, no token.
//   --api URL --agents URL --fingerprint TEXT --seconds N --user NAME --paths FILE (METHOD PATH
//   lines)
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>
#include <random>
#include <thread>

#include "agent/base/disk.h"
#include "agent/tls/dial.h"
#include "tests/attack/attempts.h"
#include "tests/instance/simulated_agent.h"

namespace keyagent::attack {
namespace {

using namespace std::chrono_literals;
using test::Json;

struct Target {
  std::string api, agents, fingerprint, user;
  std::vector<std::pair<std::string, std::string>> paths;  // method, path
};

class Address final : public test::InstanceAddress {
 public:
  explicit Address(const Target& target) : target_(target) { fingerprint = target.fingerprint; }
  std::string api_url() const override { return target_.api; }
  std::string agents_url() const override { return target_.agents; }

 private:
  const Target target_;
};

std::string random_name() {
  thread_local std::random_device random;
  return "stranger-" + std::to_string(random());
}

tls::ClientOptions anonymous(const std::string& url, const Target& target) {
  tls::ClientOptions options;
  options.url = url;
  options.trust.anchor_spki_sha256 = target.fingerprint;
  options.timeout = 10s;
  return options;
}

std::shared_ptr<tls::Library> library() {
  return std::make_shared<tls::Library>(std::make_shared<test::SoftwareBackend>());
}

// What the API gives to everyone: the CRL, an enrollment that waits for its approval, and the end
// of a session that there is not.
bool is_public(const std::string& path) {
  return path.find("/v1/crl") == 0 || path.find("/v1/enrol") == 0 || path == "/v1/logout";
}

Attack every_route(const Target& target) {
  return {"every route without a session", 2, [target] {
            auto client = std::make_shared<tls::Client>(library(), anonymous(target.api, target));
            auto next = std::make_shared<std::size_t>(0);
            return [client, next, target](Attempts& count) {
              const auto& route = target.paths[(*next)++ % target.paths.size()];
              const std::string &method = route.first, &path = route.second;
              count.attempt([&] {
                const auto answer = client->call(
                    method, path, method == "GET" ? "" : "{}",
                    *next % 2 == 0 ? std::map<std::string, std::string>{}
                                   : std::map<std::string, std::string>{
                                         {"authorization", "Bearer " + random_name()}});
                if (answer.status < 300 && !is_public(path)) count.gained(method + " " + path);
                return false;
              });
            };
          }};
}

Attack login(const std::string& name, const Target& target,
             const std::function<std::string()>& user) {
  return {name, 2, [target, user] {
            auto client = std::make_shared<tls::Client>(library(), anonymous(target.api, target));
            return [client, user](Attempts& count) {
              count.attempt([&] {
                const Json body{{"user", user()}, {"password", random_name()}};
                return client->call("POST", "/v1/login", body.dump()).status < 300;
              });
            };
          }};
}

// Unsolicited enrollments: each waits for an approval, none becomes an agent.
Attack enrollments(const Target& target) {
  return {"enrollments nobody asked for", 2, [target] {
            auto address = std::make_shared<Address>(target);
            return [address](Attempts& count) {
              count.attempt([&] {
                test::SimulatedAgent agent(*address, random_name());
                agent.enrol();
                agent.poll();
                return !agent.chain.empty();
              });
            };
          }};
}

Attack guessed_tokens(const Target& target) {
  return {"guessed enrollment tokens, for an id that exists", 1, [target] {
            auto address = std::make_shared<Address>(target);
            return [address](Attempts& count) {
              count.attempt([&] {
                test::SimulatedAgent agent(*address, "quickstart");
                agent.enrol("ke." + random_name(), true);
                return !agent.chain.empty();
              });
            };
          }};
}

Fd dial(const std::string& url) {
  const auto where = tls::parse_url(url);
  addrinfo* found = nullptr;
  if (::getaddrinfo(where.host.c_str(), where.port.c_str(), nullptr, &found) != 0)
    throw std::runtime_error("no such host");
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> list(found, freeaddrinfo);
  Fd fd(::socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::connect(fd.get(), list->ai_addr, list->ai_addrlen) != 0)
    throw std::runtime_error("not connected");
  return fd;
}

Attack idle_connections(const std::string& name, const std::string& url) {
  return {name, 1, [url] {
            auto held = std::make_shared<std::vector<Fd>>();
            return [held, url](Attempts& count) {
              if (held->size() < 2000) {
                held->push_back(dial(url));
                return;
              }
              count.refused();
              held->erase(held->begin(), held->begin() + 100);
              std::this_thread::sleep_for(50ms);
            };
          }};
}

Attack broken_handshakes(const std::string& url) {
  return {"handshakes that are none", 1, [url] {
            auto random = std::make_shared<std::minstd_rand>(std::random_device{}());
            return [random, url](Attempts& count) {
              const auto fd = dial(url);
              std::string bytes(1 + (*random)() % 2000, '\0');
              for (auto& each : bytes) each = static_cast<char>((*random)());
              if ((*random)() % 2 == 0) bytes.replace(0, 3, "\x16\x03\x01");
              ::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
              count.refused();
            };
          }};
}

std::vector<std::pair<std::string, std::string>> read_paths(const std::string& file) {
  std::vector<std::pair<std::string, std::string>> out;
  std::ifstream stream(file);
  for (std::string method, path; stream >> method >> path;) out.emplace_back(method, path);
  if (out.empty()) throw std::runtime_error(file + ": no routes");
  return out;
}

}  // namespace

int network_stranger(const bench::Arguments& arguments) {
  const Target target{arguments.text("api"), arguments.text("agents"),
                      arguments.text("fingerprint"), arguments.text("user"),
                      read_paths(arguments.text("paths"))};
  return run_attacks(
      "network stranger", std::chrono::seconds(arguments.number("seconds", 60)),
      {every_route(target),
       login("guessed passwords of an admin", target, [target] { return target.user; }),
       login("guessed passwords of made-up names", target, random_name), enrollments(target),
       guessed_tokens(target), idle_connections("idle connections to the API", target.api),
       idle_connections("idle connections to the agents' listener", target.agents),
       broken_handshakes(target.agents)});
}

}  // namespace keyagent::attack
