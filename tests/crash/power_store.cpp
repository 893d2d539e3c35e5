// SPDX-License-Identifier: Apache-2.0
// What an instance keeps in its SQLite store.

#include <functional>
#include <sstream>
#include <stdexcept>

#include "agent/store/engine/database.h"
#include "agent/store/store.h"
#include "tests/crash/power_subject.h"

namespace keyagent::test {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

const WallTime kThen{std::chrono::milliseconds(1'795'257'296'789)};

store::Event happened(const std::string& action) {
  return {
      .at = kThen, .actor = "ada", .action = action, .subject = "", .outcome = "done", .text = ""};
}

void must(bool done, const char* what) {
  if (!done) throw std::runtime_error(std::string("not done: ") + what);
}

class StoreSubject final : public PowerSubject {
 public:
  StoreSubject(const fs::path& folder, bool used)
      : url_("sqlite://" + (folder / "instance.db").string()), store_({url_}) {
    people();
    if (!used) return;
    fleet();
    values();
    work();
    steps_.emplace_back([this] {  // more pages than SQLite keeps before it writes them
      store_.together([this] {
        for (int i = 0; i < 40; ++i) store_.add_event(happened(std::string(4000, 'x')));
      });
    });
    steps_.emplace_back([this] { must(store_.remove_credential("backup"), "remove"); });
    steps_.emplace_back([this] { store_.forget_tasks(kThen + 1h); });
  }
  int steps() const override { return static_cast<int>(steps_.size()); }
  void step(int number) override { steps_.at(static_cast<std::size_t>(number))(); }

  std::string look() override {
    require_whole();
    std::ostringstream out;
    out << "setting " << store_.setting("id").value_or("-") << "\n";
    for (const auto& each : store_.users()) out << "user " << each.name << " " << each.role << "\n";
    for (const auto& each : store_.agents())
      out << "agent " << each.id << " " << each.state << " " << each.revision << " "
          << each.auth_kid << "\n";
    for (const auto& each : store_.certificates({}))
      out << "certificate " << each.serial << " " << each.revoked.has_value() << "\n";
    for (const auto& each : store_.credentials())
      out << "credential " << each.name << " " << each.version << " "
          << store_.sealed_copies("web1", "transport").size() << "\n";
    for (const auto& each : store_.tasks({}))
      out << "task " << each.id << " " << each.state << " " << each.attempt << "\n";
    for (const auto& each : store_.rekeys({}, false))
      out << "rekey " << each.id << " " << each.state << "\n";
    out << "tokens " << store_.count_tokens(kThen) << "\n";
    for (const auto& each : store_.events(0, 1000))
      out << "event " << each.seq << " " << each.action.substr(0, 20) << "\n";
    return out.str();
  }

 private:
  void require_whole() const {
    store::Database database(store::Options{url_});
    database.read([](store::Sql& sql) {
      const auto said = sql.all<std::string>("PRAGMA integrity_check");
      if (said != std::vector<std::string>{"ok"})
        throw std::runtime_error("integrity_check: " + said.at(0));
    });
  }
  void people() {
    steps_.emplace_back([this] { store_.set_setting("id", "test-instance"); });
    steps_.emplace_back([this] {
      must(store_.add_user({.name = "ada", .role = "admin", .password = "", .spki_sha256 = ""}),
           "user");
    });
    steps_.emplace_back([this] {
      store::EnrollmentToken token;
      token.hash = Bytes(32, 7);
      token.expires = kThen + 24h;
      store_.add_enrolment_token(token);
    });
  }
  void fleet() {
    steps_.emplace_back([this] {
      store::Agent agent;
      agent.id = "web1";
      agent.state = "trusted";
      agent.auth_spki = agent.transport_spki = Bytes(91, 1);
      agent.auth_kid = "auth";
      agent.transport_kid = "transport";
      agent.enrolled = agent.changed = kThen;
      must(store_.add_agent(agent), "agent");
    });
    steps_.emplace_back([this] {
      store_.add_certificate({.serial = "0a",
                              .agent = "web1",
                              .kid = "auth",
                              .not_before = kThen,
                              .not_after = kThen + 24h,
                              .revoked = std::nullopt,
                              .reason = "",
                              .der = Bytes(800, 2)});
    });
    // The agent, its event and its certificates' end are one.
    steps_.emplace_back([this] {
      auto agent = store_.agent("web1").value();
      agent.auth_kid = "auth-2";
      store::AgentChange with;
      with.event = happened("agent.renew");
      with.revoke = "superseded";
      must(store_.update_agent(agent, with), "update");
    });
    steps_.emplace_back([this] {
      store::Rekey rekey;
      rekey.batch = "batch";
      rekey.agent = "web1";
      rekey.key = "credentials";
      rekey.state = "ordered";
      rekey.ordered = rekey.changed = kThen;
      store_.add_rekey(rekey);
    });
    steps_.emplace_back([this] {
      auto rekey = store_.rekey(1).value();
      rekey.state = "sent";
      must(store_.move_rekey(rekey, "ordered"), "rekey");
    });
  }
  void values() {
    for (int version = 1; version <= 2; ++version) {
      steps_.emplace_back([this] {
        store::Credential credential;
        credential.name = "backup";
        credential.type = "password";
        credential.blind = true;
        credential.agents = {"web1"};
        credential.changed = kThen;
        store_.put_credential(credential, nullptr);
      });
      steps_.emplace_back([this, version] {
        must(store_.put_sealed_copy({"backup", version, "web1", "transport", Bytes(6000, 3)}),
             "copy");
      });
    }
  }
  void work() {
    steps_.emplace_back([this] {
      store::Task task;
      task.id = "task";
      task.digest = "digest";
      task.handler = "deploy";
      task.target = "agent:web1";
      task.state = "queued";
      task.input = "{}";
      task.attempts = 2;
      task.not_before = task.submitted = task.changed = kThen;
      must(store_.add_task(task, 10, happened("task.submit")).has_value(), "task");
    });
    steps_.emplace_back([this] {
      must(store_
               .take_task({.agent = "web1",
                           .targets = {"agent:web1"},
                           .handlers = {"deploy"},
                           .lease = Bytes(32, 4),
                           .now = kThen,
                           .life = 60s})
               .has_value(),
           "take");
    });
    for (const std::string state : {"started", "done"}) {
      steps_.emplace_back([this, state] {
        auto task = store_.task("task").value();
        task.state = state;
        task.result = std::string(state == "done" ? 9000 : 0, 'r');
        must(store_.move_task(task, happened("task." + state)), "move");
      });
    }
  }

  const std::string url_;
  store::Store store_;
  std::vector<std::function<void()>> steps_;
};

}  // namespace

std::unique_ptr<PowerSubject> open_instance_store(const fs::path& folder, bool used) {
  return std::make_unique<StoreSubject>(folder, used);
}

}  // namespace keyagent::test
