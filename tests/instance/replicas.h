// SPDX-License-Identifier: Apache-2.0
#pragma once
// Two replicas of an instance: one PostgreSQL, one keyagentd, and one address in front of them.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/instance/instance_process.h"
#include "tests/instance/simulated_agent.h"
#include "tests/support/lossy_proxy.h"
#include "tests/support/postgres.h"

namespace keyagent::test {

class Replicas {
 public:
  // Started at the same moment, on an empty database.
  Replicas() {
    for (auto* each : {&a, &b}) {
      each->store_url = database;
      each->listen_extra = "  agents-url: https://127.0.0.1:" + std::to_string(proxy.port()) + "\n";
    }
    std::exception_ptr fault;
    std::thread other([&] {
      try {
        b.start();
      } catch (...) {
        fault = std::current_exception();
      }
    });
    a.start();
    other.join();
    if (fault) std::rethrow_exception(fault);
    proxy.set_servers({a.agents_port(), b.agents_port()});
    for (const auto& [name, role] :
         {std::pair{"root", "admin"}, {"crypto", "cryptographic-manager"}, {"ops", "operator"}})
      a.add_user(name, role);
    // Users of A log in at B as well.
    for (const std::string name : {"root", "crypto", "ops"}) {
      std::filesystem::copy(a.work.path() / (name + ".pw"), b.work.path());
      for (auto* each : {&a, &b}) {
        const auto result = each->log_in(name);
        EXPECT_EQ(result.status, 0) << result.output;
      }
    }
  }

  // A trusted agent, enrolled at `replica`.
  static std::unique_ptr<SimulatedAgent> trusted(InstanceProcess& replica, const std::string& id) {
    auto agent = std::make_unique<SimulatedAgent>(replica, id);
    const std::string token = replica.json("crypto", "token").at("token");
    EXPECT_EQ(agent->enrol(token).at("state"), "trusted");
    return agent;
  }
  static Json agent(InstanceProcess& replica, const std::string& id) {
    return replica.json("root", "agents " + id).at("agents").at(0);
  }
  static std::string events(InstanceProcess& replica) {
    return replica.keyagent("root", "events --count 1000").output;
  }
  // How many orders of a batch are in each state.
  static std::map<std::string, int> states(InstanceProcess& replica, const std::string& batch) {
    std::map<std::string, int> out;
    const Json now = replica.json("root", "rekeys " + batch);
    for (const auto& each : now.at("rekeys")) ++out[each.at("state").get<std::string>()];
    return out;
  }
  static void put(InstanceProcess& replica, const std::string& name, const std::string& secret,
                  const std::string& words) {
    std::ofstream(replica.work.path() / "value.json") << "{\"token\":\"" << secret << "\"}";
    const auto result = replica.keyagent(
        "ops", "credential put " + name + " --type api-token --from value.json " + words);
    ASSERT_EQ(result.status, 0) << result.output;
  }

  Postgres& server = Postgres::shared();
  const std::string database = server.new_database();
  LossyProxy proxy;
  InstanceProcess a;
  InstanceProcess b{a.agent};
};

// Why a link ended.
inline std::string end_of(tls::LinkClient& link) {
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  try {
    while (std::chrono::steady_clock::now() < limit) link.receive(std::chrono::seconds(1));
  } catch (const Error& error) {
    return error.what();
  }
  return "it has not ended";
}

}  // namespace keyagent::test
