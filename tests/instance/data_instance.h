// SPDX-License-Identifier: Apache-2.0
#pragma once
// An instance with people, a specification "pay", and a look behind it: its store and its keys.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/base/error.h"
#include "agent/instance/data/data_keys.h"
#include "agent/instance/data/reencryption.h"
#include "agent/store/data_keys.h"
#include "agent/store/engine/database.h"
#include "agent/store/records.h"
#include "agent/store/reencryptions.h"
#include "agent/store/store.h"
#include "tests/instance/instance_process.h"
#include "tests/support/postgres.h"

namespace keyagent::test {

constexpr const char* kPayAccess =
    R"([{"rule":"app","effect":"allow","uses":["encrypt","decrypt"],"users":["app"]},
        {"rule":"desk","effect":"track","uses":["decrypt"],"roles":["operator"]}])";

class DataInstance {
 public:
  // `more`: people beside the manager of keys and the program that uses the data.
  explicit DataInstance(const std::string& store_url = {},
                        const std::map<std::string, std::string>& more = {}) {
    if (!store_url.empty()) process.store_url = store_url;
    process.start();
    auto people = more;
    people["crypto"] = "cryptographic-manager";
    people["app"] = "auditor";
    for (const auto& [name, role] : people) {
      process.add_user(name, role);
      if (process.log_in(name).status != 0) throw std::runtime_error("no login");
    }
    config.id = "test-instance";
    config.agent_socket = process.agent.socket();
    config.store_url = process.store_url;
    store.emplace(store::Options{process.store_url});
    keys.emplace(config);
  }

  void write(const std::string& name, const std::string& text) const {
    std::ofstream(process.work.path() / name, std::ios::binary) << text;
  }
  void specify(const std::string& name = "pay") {
    write("access.json", kPayAccess);
    const auto made =
        process.keyagent("crypto", "specification create " + name + " --access access.json");
    if (made.status != 0) throw std::runtime_error(made.output);
  }
  CommandResult run(const std::string& user, const std::string& words) const {
    return process.keyagent(user, words);
  }
  CommandResult put(const std::string& id, const std::string& value,
                    const std::string& more = {}) const {
    write("value", value);
    return run("app", "record put pay " + id + " --from value" + more);
  }
  CommandResult get(const std::string& id, const std::string& user = "app") const {
    return run(user, "record get pay " + id);
  }
  Json job() const { return process.json("app", "reencrypt status pay").at("reencryptions").at(0); }
  Json specification() const {
    return process.json("app", "specification show pay").at("specifications").at(0);
  }
  std::string active() const { return specification().at("active"); }
  // Returns the old and the new kid.
  std::pair<std::string, std::string> rekey() const {
    const Json done = process.json("crypto", "specification rekey pay --wait --timeout 60");
    return {done.at("old_kid"), done.at("active")};
  }
  std::map<std::string, std::int64_t> census() {
    const auto counts = store->records().count_by_kid("pay");
    return {counts.begin(), counts.end()};
  }
  std::int64_t reported(const std::string& kid) {
    for (const auto& each : keys->reported()) {
      if (each.kid == kid) return each.count;
    }
    return -1;
  }

  // What the agent says to the destruction of a key, confirmed.
  Code destroy(const std::string& kid) const {
    wire::Request request;
    request.mutable_key_destroy()->set_key(kid);
    request.mutable_key_destroy()->set_confirm_kid(kid);
    auto client = process.agent.client();
    try {
      client.call(request);
    } catch (const Error& error) {
      return error.code();
    }
    return Code::kOk;
  }

  static std::string value_of(int i) { return "value " + std::to_string(i); }
  static std::string id_of(int i) { return "r" + std::to_string(100000 + i); }
  static SecretBytes plaintext_of(int i) {
    const auto text = "keyagent record 2\npay\n" + id_of(i) + "\n1\n" + value_of(i);
    return {text.begin(), text.end()};
  }
  // As the instance would, in less time.
  void fill(int count, int from = 0) {
    for (int i = from; i < from + count; ++i) {
      const auto sealed = keys->seal("pay", plaintext_of(i));
      if (i == from) note(sealed.kid);
      store::Record record;
      record.specification = "pay";
      record.id = id_of(i);
      record.kid = sealed.kid;
      record.envelope = sealed.envelope;
      const auto done = store->records().put(record, 0);
      ASSERT_EQ(done.outcome, store::RecordPut::Outcome::kDone);
    }
  }
  void note(const std::string& kid) {
    keys->report(kid, 1);
    store->data_keys().add({kid, "pay", keys->source(), {}});
  }
  // Its value, read as from behind.
  bool holds(int i) {
    const auto record = store->records().find("pay", id_of(i));
    return record && keys->open(record->envelope) == plaintext_of(i);
  }
  void sql(const std::string& statement) const {
    store::Database database(store::Options{process.store_url});
    database.write([&](store::Sql& each) { each.run(statement); });
  }
  bool ends(const std::string& state, std::chrono::seconds limit = std::chrono::seconds(120)) {
    return wait_until([&] { return store->reencryptions().find("pay")->state == state; }, limit);
  }

  InstanceProcess process;
  instance::InstanceConfig config;
  std::optional<store::Store> store;
  std::optional<instance::DataKeys> keys;
};

// The services of an instance, next to the running one: for calls that no single request makes.
struct DataParts {
  explicit DataParts(DataInstance& of)
      : recorder(*of.store, system_clock()),
        specifications(*of.keys, *of.store, recorder, system_clock()),
        reencryption(*of.keys, *of.store, specifications, recorder, system_clock(), "beside") {}
  instance::Recorder recorder;
  instance::Specifications specifications;
  instance::Reencryption reencryption;
};

}  // namespace keyagent::test
