// SPDX-License-Identifier: Apache-2.0
#pragma once
// Two real instances, each on its host's token, that give each other keys.

#include <gtest/gtest.h>

#include "agent/store/data_keys.h"
#include "agent/store/engine/database.h"
#include "agent/store/records.h"
#include "agent/store/specifications.h"
#include "agent/store/store.h"
#include "tests/instance/instance_process.h"
#include "tests/instance/simulated_agent.h"

namespace keyagent::test {

class ExchangePair : public testing::Test {
 protected:
  // Two that do not know each other; on these databases, empty: on SQLite.
  static void start(const std::string& source_url = {}, const std::string& target_url = {}) {
    source_ = make(source_url);
    target_ = make(target_url);
  }
  static void end() {
    delete source_;
    delete target_;
  }
  // Makes each the other's peer, and allows it in their agents' policies.
  static void introduce() {
    const auto source = identity(*source_), target = identity(*target_);
    ASSERT_EQ(add(*target_, "source", *source_, source).status, 0);
    ASSERT_EQ(add(*source_, "target", *target_, target).status, 0);
    source_->allow_exchange_with(target);
    target_->allow_exchange_with(source);
  }

  static std::string identity(const InstanceProcess& instance) {
    return instance.json("crypto", "exchange identity").at("identity");
  }
  static CommandResult add(const InstanceProcess& to, const std::string& name,
                           const InstanceProcess& peer, const std::string& identity) {
    return to.keyagent("crypto", "peer add " + name + " --identity=" + identity + " --url " +
                                     peer.api_url() + " --ca=" + peer.fingerprint);
  }
  static std::string make_key(const std::string& specification,
                              const std::string& words = "--exchangeable",
                              const std::string& approver = "cryptographic-manager") {
    std::ofstream(source_->work.path() / "access.json") << Json{
        {{"rule", "out"}, {"effect", "allow"}, {"uses", {"exchange"}}, {"roles", {approver}}},
        {{"rule", "use"},
         {"effect", "allow"},
         {"uses", {"encrypt", "decrypt"}},
         {"roles", {"operator"}}}}.dump();
    return source_
        ->json("crypto", "specification create " + specification + " --access access.json " + words)
        .at("specifications")
        .at(0)
        .at("active");
  }
  static std::string seal(const std::string& specification, const std::string& text) {
    wire::Request request;
    request.mutable_seal()->set_key("data." + specification);
    request.mutable_seal()->set_plaintext(text);
    auto connection = source_->agent.client();
    return connection.call(request).seal().envelope();
  }
  static std::string open(const InstanceProcess& at, const std::string& envelope) {
    wire::Request request;
    request.mutable_open()->set_envelope(envelope);
    auto connection = at.agent.client();
    return connection.call(request).open().plaintext();
  }
  static std::string ask(const std::string& words) {
    return target_->json("crypto", "exchange request source " + words).at("id");
  }
  // As a clone of the source has it: everything of a specification but its keys.
  static void copy(const std::string& specification, const std::string& record) {
    store::Store from({source_->store_url}), to({target_->store_url});
    to.specifications().add(from.specifications().find(specification).value(), {});
    for (const auto& each : from.data_keys().list(specification)) to.data_keys().add(each);
    ASSERT_EQ(to.records().put(from.records().find(specification, record).value(), 0).outcome,
              store::RecordPut::Outcome::kDone);
  }
  static Json show(const InstanceProcess& at, const std::string& id) {
    return at.json("crypto", "exchange show " + id);
  }
  // The next request of a series: it is due now.
  static std::string next_of(const std::string& series) {
    store::Database database(store::Options{target_->store_url});
    database.write([&](store::Sql& sql) {
      return sql.run("UPDATE exchanges SET next_at = 1 WHERE id = :id", {{"id", series}});
    });
    std::string newest;
    EXPECT_TRUE(wait_until([&] {
      const Json all = target_->json("crypto", "exchange list").at("exchanges");
      newest = all.at(0).at("id");
      return newest != series;
    })) << read_text(target_->log());
    return newest;
  }
  // Once the request is known at the source.
  static CommandResult approve(const std::string& id) {
    CommandResult result;
    wait_until([&] {
      result = source_->keyagent("crypto", "exchange approve " + id);
      return result.status == 0;
    });
    return result;
  }

  static inline InstanceProcess *source_ = nullptr, *target_ = nullptr;

 private:
  static InstanceProcess* make(const std::string& url) {
    auto* made = new InstanceProcess;
    if (!url.empty()) made->store_url = url;
    made->start();
    for (const auto& [name, role] :
         {std::pair{"crypto", "cryptographic-manager"}, {"ops", "operator"}}) {
      made->add_user(name, role);
      EXPECT_EQ(made->log_in(name).status, 0);
    }
    return made;
  }
};

}  // namespace keyagent::test
