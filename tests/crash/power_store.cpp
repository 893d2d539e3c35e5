// SPDX-License-Identifier: Apache-2.0
// What an instance keeps in its SQLite store.

#include <functional>
#include <sstream>
#include <stdexcept>

#include "agent/store/agents.h"
#include "agent/store/certificates.h"
#include "agent/store/credentials.h"
#include "agent/store/engine/database.h"
#include "agent/store/enrollments.h"
#include "agent/store/events.h"
#include "agent/store/rekeys.h"
#include "agent/store/sealed_copies.h"
#include "agent/store/settings.h"
#include "agent/store/store.h"
#include "agent/store/tasks.h"
#include "agent/store/users.h"
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
        for (int i = 0; i < 40; ++i) store_.events().add(happened(std::string(4000, 'x')));
      });
    });
    steps_.emplace_back([this] { must(store_.credentials().remove("backup"), "remove"); });
    steps_.emplace_back([this] { store_.tasks().forget(kThen + 1h); });
  }
  int steps() const override { return static_cast<int>(steps_.size()); }
  void step(int number) override { steps_.at(static_cast<std::size_t>(number))(); }

  std::string look() override {
    require_whole();
    std::ostringstream out;
    out << "setting " << store_.settings().get("id").value_or("-") << "\n";
    for (const auto& each : store_.users().all())
      out << "user " << each.name << " " << each.role << "\n";
    for (const auto& each : store_.agents().all())
      out << "agent " << each.id << " " << each.state << " " << each.revision << " "
          << each.auth_kid << "\n";
    for (const auto& each : store_.certificates().list({}))
      out << "certificate " << each.serial << " " << each.revoked.has_value() << "\n";
    for (const auto& each : store_.credentials().all())
      out << "credential " << each.name << " " << each.version << " "
          << store_.sealed_copies().all("web1", "transport").size() << "\n";
    for (const auto& each : store_.tasks().list({}))
      out << "task " << each.id << " " << each.state << " " << each.attempt << "\n";
    for (const auto& each : store_.rekeys().list({}, false))
      out << "rekey " << each.id << " " << each.state << "\n";
    out << "tokens " << store_.enrollments().count_tokens(kThen) << "\n";
    for (const auto& each : store_.events().list(0, 1000))
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
    steps_.emplace_back([this] { store_.settings().set("id", "test-instance"); });
    steps_.emplace_back([this] {
      must(store_.users().add({.name = "ada", .role = "admin", .password = "", .spki_sha256 = ""}),
           "user");
    });
    steps_.emplace_back([this] {
      store::EnrollmentToken token;
      token.hash = Bytes(32, 7);
      token.expires = kThen + 24h;
      store_.enrollments().add_token(token);
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
      must(store_.agents().add(agent), "agent");
    });
    steps_.emplace_back([this] {
      store_.certificates().add({.serial = "0a",
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
      auto agent = store_.agents().find("web1").value();
      agent.auth_kid = "auth-2";
      store::AgentChange with;
      with.event = happened("agent.renew");
      with.revoke = "superseded";
      must(store_.agents().update(agent, with), "update");
    });
    steps_.emplace_back([this] {
      store::Rekey rekey;
      rekey.batch = "batch";
      rekey.agent = "web1";
      rekey.key = "credentials";
      rekey.state = "ordered";
      rekey.ordered = rekey.changed = kThen;
      store_.rekeys().add(rekey);
    });
    steps_.emplace_back([this] {
      auto rekey = store_.rekeys().find(1).value();
      rekey.state = "sent";
      must(store_.rekeys().move(rekey, "ordered"), "rekey");
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
        store_.credentials().put(credential, nullptr);
      });
      steps_.emplace_back([this, version] {
        must(store_.sealed_copies().put({"backup", version, "web1", "transport", Bytes(6000, 3)}),
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
      must(store_.tasks().add(task, 10, happened("task.submit")).has_value(), "task");
    });
    steps_.emplace_back([this] {
      must(store_.tasks()
               .claim({.agent = "web1",
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
        auto task = store_.tasks().find("task").value();
        task.state = state;
        task.result = std::string(state == "done" ? 9000 : 0, 'r');
        must(store_.tasks().move(task, happened("task." + state)), "move");
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
