// SPDX-License-Identifier: Apache-2.0
// What an agent keeps beside its ledger and its audit log: link.json, the tasks' journal, the
// credentials' versions, and which PIN the token refused.

#include <fstream>
#include <functional>
#include <sstream>
#include <stdexcept>

#include "agent/link/credential_versions.h"
#include "agent/link/link_state.h"
#include "agent/link/task_journal.h"
#include "pkcs11/login.h"
#include "tests/crash/power_subject.h"
#include "tests/support/fake_clock.h"

namespace keyagent::test {
namespace {

namespace fs = std::filesystem;
using Steps = std::vector<std::function<void()>>;

class Listed : public PowerSubject {
 public:
  int steps() const override { return static_cast<int>(steps_.size()); }
  void step(int number) override { steps_.at(static_cast<std::size_t>(number))(); }

 protected:
  Steps steps_;
};

class LinkSubject final : public Listed {
 public:
  explicit LinkSubject(const fs::path& folder) : store_(folder) {
    link::LinkState pending;
    pending.url = "https://instance:8443";
    pending.agent = "web1";
    pending.auth_key = "identity";
    pending.transport_key = "credentials";
    pending.enrollment = std::string(64, 'e');
    link::LinkState trusted = pending;
    trusted.stage = link::LinkState::Stage::kTrusted;
    trusted.instance = "test-instance";
    trusted.certificates["kid-1"] = std::string(3000, 'c');
    const auto update = [this](std::function<void(link::LinkState&)> change) {
      steps_.emplace_back([this, change = std::move(change)] { store_.update(change); });
    };
    steps_ = {[this, pending] { store_.put(pending); }, [this, trusted] { store_.put(trusted); }};
    for (const std::string value : {"first", "second"}) {
      update([value](auto& s) { s.next_session = value; });
      update([value](auto& s) {
        s.session = value;
        s.next_session.clear();
      });
    }
    update([](auto& s) { s.certificates["kid-2"] = std::string(9000, 'd'); });
    update([](auto& s) { s.orders["order"] = 7; });
    update([](auto& s) { s.confirmation = std::string(500, 'j'); });
    update([](auto& s) { s.certificates.erase("kid-1"); });
    steps_.emplace_back([this] { store_.remove(); });
    steps_.emplace_back([this, trusted] { store_.put(trusted); });
  }
  std::string look() override {
    if (!store_.fault().empty()) throw std::runtime_error(store_.fault());
    return store_.get() ? link::to_text(*store_.get()) : "not enrolled";
  }

 private:
  link::LinkStore store_;
};

class JournalSubject final : public Listed {
 public:
  explicit JournalSubject(const fs::path& folder)
      : folder_(folder / "tasks"), journal_(folder_, clock_, {}) {
    start('a', 1);
    start('b', 1);
    end('a', "done");
    answer();
    start('c', 1);
    end('c', "failed");
    end('b', "retry");
    answer();
    answer();
    start('b', 2);
    end('b', "done");
    steps_.emplace_back([this] { journal_.deliver_again(id('a'), "another lease"); });
    answer();
    answer();
  }
  std::string look() override {
    std::ostringstream out;
    for (const auto& each : journal_.list()) {
      std::ifstream file(folder_ / (each.id + ".json"), std::ios::binary);
      const std::string text{std::istreambuf_iterator<char>(file), {}};
      const auto whole = link::parse_task_entry(text);
      out << each.id << " " << each.order << " " << link::name_of(each.stage) << " " << each.attempt
          << " " << each.lease << " " << each.end.outcome << " " << whole.end.result.size() << "\n";
    }
    std::error_code none;
    for (const auto& each : fs::directory_iterator(folder_, none)) {
      if (each.path().extension() == ".unreadable") throw std::runtime_error(each.path());
    }
    return out.str();
  }

 private:
  static std::string id(char letter) { return std::string(32, letter); }
  void start(char letter, std::uint32_t attempt) {
    steps_.emplace_back([this, letter, attempt] {
      link::TaskEntry entry;
      entry.id = id(letter);
      entry.handler = "deploy";
      entry.lease = "lease";
      entry.attempt = attempt;
      journal_.start(entry);
    });
  }
  void end(char letter, const std::string& outcome) {
    steps_.emplace_back([this, letter, outcome] {
      journal_.end(id(letter), {outcome, "said", std::string(20000, letter)});
    });
  }
  void answer() {
    steps_.emplace_back([this] { journal_.answered(journal_.next().value(), true); });
  }

  const fs::path folder_;
  FakeClock clock_;
  link::TaskJournal journal_;
};

class VersionsSubject final : public Listed {
 public:
  explicit VersionsSubject(const fs::path& folder) : versions_(folder) {
    const auto note = [this](const std::string& name, std::uint64_t version, bool bound) {
      steps_.emplace_back([=, this] { versions_.note("here", name, {version, bound}); });
    };
    note("a", 1, false);
    note("b", 3, true);
    note("a", 2, true);
    steps_.emplace_back([this] { versions_.forget_all(); });
    note("b", 1, true);
  }
  std::string look() override {
    std::string out;
    for (const std::string name : {"a", "b"}) {
      const auto seen = versions_.seen("here", name);
      out += seen ? name + std::to_string(seen->version) + (seen->bound ? "b " : " ") : "- ";
    }
    return out;
  }

 private:
  link::CredentialVersions versions_;
};

class PinSubject final : public Listed {
 public:
  explicit PinSubject(const fs::path& folder) : file_(folder / "refused-pin"), refused_(file_) {
    for (const std::string pin : {"1111", "2222"})
      steps_.emplace_back([this, pin] { refused_.remember(secret(pin), kToken); });
    steps_.emplace_back([this] { refused_.clear(kToken); });
    steps_.emplace_back([this] { refused_.remember(secret("3333"), kToken); });
  }
  // One that cannot be read is one that would be tried again.
  std::string look() override {
    const pkcs11::RefusedPin kept(file_);
    for (const std::string pin : {"1111", "2222", "3333"})
      if (kept.is(secret(pin), kToken)) return pin;
    if (fs::exists(file_)) throw std::runtime_error("the marker is of no PIN");
    return "none";
  }

 private:
  static constexpr const char* kToken = "a token";
  static pkcs11::SecretBytes secret(const std::string& pin) { return {pin.begin(), pin.end()}; }
  const fs::path file_;
  pkcs11::RefusedPin refused_;
};

}  // namespace

std::unique_ptr<PowerSubject> open_link_state(const fs::path& folder) {
  return std::make_unique<LinkSubject>(folder);
}
std::unique_ptr<PowerSubject> open_task_journal(const fs::path& folder) {
  return std::make_unique<JournalSubject>(folder);
}
std::unique_ptr<PowerSubject> open_versions(const fs::path& folder) {
  return std::make_unique<VersionsSubject>(folder);
}
std::unique_ptr<PowerSubject> open_refused_pin(const fs::path& folder) {
  return std::make_unique<PinSubject>(folder);
}

}  // namespace keyagent::test
