// SPDX-License-Identifier: Apache-2.0
#pragma once
// The whole: a real instance on its host's token, a real agent on another with its worker, and the
// commands of both.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/e2e/worker_process.h"
#include "tests/instance/instance_process.h"

namespace keyagent::test {

class WholeSystem : public testing::Test {
 protected:
  static constexpr std::chrono::seconds kLong{60};

  void bring_up() {
    instance_.start();
    instance_.add_user("alice", "admin");
    ASSERT_EQ(instance_.log_in("alice").status, 0);
    host_.start();
    host_.json("key create credentials --purpose transport --algorithm ec-p256");
  }
  // `more`: further words of `token`.
  void enrol(const std::string& more = {}) {
    ASSERT_EQ(instance_.keyagent("alice", "token -o " + host_.file("token").string() + more).status,
              0);
    const auto enrolled =
        host_.keyagent("enroll " + instance_.api_url() + " --token-file token --wait --timeout 60");
    ASSERT_EQ(enrolled.status, 0) << enrolled.output << host_.story() << read_text(instance_.log());
  }

  // A handler "note" of the host: each run is a line of `runs`, and ends when `go` is there, or
  // `go.ID`.
  // As another user than the one that asks for credentials: who runs handlers is given none then.
  void start_worker() {
    std::ofstream(host_.file("runs")).close();
    std::filesystem::permissions(host_.file("runs"), std::filesystem::perms(0666));
    worker_.handler("note",
                    "echo $KEYAGENT_TASK_ID >>runs\n"
                    "while ! [ -e go ] && ! [ -e go.$KEYAGENT_TASK_ID ]; do sleep 0.05; done\n"
                    "echo noted\n",
                    std::string(", parallel: 2") + (::geteuid() == 0 ? ", user: nobody" : ""));
    worker_.start();
  }
  std::string submit() { return instance_.json("alice", "task submit note --agent test").at("id"); }
  std::string task_state(const std::string& id) {
    return instance_.json("alice", "task show " + id).at("state");
  }
  bool task_becomes(const std::string& id, const std::string& state) {
    const bool reached = wait_until([&] { return task_state(id) == state; }, kLong);
    EXPECT_TRUE(reached) << id << " is " << task_state(id) << ", not " << state << "\n" << told();
    return reached;
  }
  int runs(const std::string& id) const { return Host::count(host_.read("runs"), id); }

  void put(const std::string& name, const std::string& secret, const std::string& more = {}) {
    std::ofstream(instance_.work.path() / "value.json") << "{\"token\":\"" << secret << "\"}";
    const auto result =
        instance_.keyagent("alice", "credential put " + name +
                                        " --type api-token --from value.json --agent test" + more);
    ASSERT_EQ(result.status, 0) << result.output;
  }
  // Its token, or what was said instead.
  std::string get(const std::string& name) {
    const auto result = host_.keyagent("credential get " + name);
    // A note to standard error may stand before it.
    const auto at = std::min(result.output.find('{'), result.output.size());
    const Json value = Json::parse(result.output.substr(at), nullptr, false);
    return result.status == 0 && value.is_object() ? value.value("token", "") : result.output;
  }
  bool gives(const std::string& name, const std::string& secret) {
    const bool given = wait_until([&] { return get(name) == secret; }, kLong);
    EXPECT_TRUE(given) << get(name) << told();
    return given;
  }

  Json agent() { return instance_.json("alice", "agents test").at("agents").at(0); }
  Json link() { return host_.json("status").at("link"); }
  bool link_becomes(const std::string& state) {
    const bool reached = wait_until([&] { return link().at("state") == state; }, kLong);
    EXPECT_TRUE(reached) << link().dump() << told();
    return reached;
  }
  std::string transport_kid() { return link().at("transport_kid"); }
  Json events() { return instance_.json("alice", "events --count 1000").at("events"); }
  int alarms(const std::string& action) {
    int found = 0;
    const Json all = events();
    for (const auto& each : all)
      found += each.at("action") == action && each.at("outcome") == "alarm" ? 1 : 0;
    return found;
  }
  std::string told() {
    return "\nagent:\n" + host_.story() + "\ninstance:\n" + read_text(instance_.log()) +
           "\nworker:\n" + worker_.log();
  }

  InstanceProcess instance_;
  Host host_;
  WorkerProcess worker_{host_};
};

}  // namespace keyagent::test
