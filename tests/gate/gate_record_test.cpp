// SPDX-License-Identifier: Apache-2.0
// Nothing is used and nothing is answered that is not in the audit log, also when its disk fails
// while the token works; and how long an answer may take.

#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <string_view>

#include "tests/gate/gate_fixture.h"

namespace {

std::atomic<bool> g_audit_disk_fails{false};

bool is_audit_file(int fd) {
  char path[PATH_MAX] = {};
  const auto size =
      ::readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), path, sizeof path - 1);
  return size > 0 && std::string_view(path).find("/audit/") != std::string_view::npos;
}

}  // namespace

// Of this whole program: as the kernel's, but for the audit log while its disk fails.
extern "C" int fdatasync(int fd) {
  if (g_audit_disk_fails && is_audit_file(fd)) {
    errno = EIO;
    return -1;
  }
  return static_cast<int>(::syscall(SYS_fdatasync, fd));
}

namespace keyagent::gate {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

class GateRecordTest : public GateTest {
 protected:
  GateRecordTest() { options_.deadline = 10min; }
  ~GateRecordTest() override { g_audit_disk_fails = false; }

  // From here on the log has failed permanently.
  void break_the_log() {
    g_audit_disk_fails = true;
    audit::Event event;
    event.what = "mark";
    EXPECT_THROW(audit_.record_now(event), Error);
    EXPECT_FALSE(audit_.healthy());
  }

  // A request on its own thread, in whose token a call hangs until end().
  struct Hung {
    Hung(GateRecordTest& test, wire::Request request)
        : thread([this, &test, request = std::move(request)]() mutable {
            test.gate().handle(user(kAdmin), std::move(request), asked);
            done = true;
          }) {}
    void end() {
      while (!done) {
        test::shim::release_hangs();
        std::this_thread::sleep_for(1ms);
      }
      thread.join();
    }
    std::shared_ptr<Asked> asked = std::make_shared<Asked>();
    std::atomic<bool> done{false};
    std::thread thread;
  };

  // The answer to a request whose audit log fails while it is inside the token.
  wire::Response ask_and_break_the_log(wire::Request request, const std::string& call) {
    test::shim::reset_counts();
    test::shim::set_faults(call + ":n=1:hang");
    gate();  // made here, not by two threads at once
    Hung hung(*this, std::move(request));
    const auto end = std::chrono::steady_clock::now() + 1min;
    while (test::shim::count(call) == 0 && std::chrono::steady_clock::now() < end)
      std::this_thread::sleep_for(1ms);
    const bool began = test::shim::count(call) > 0;
    if (began) break_the_log();
    test::shim::set_faults("");
    hung.end();
    EXPECT_TRUE(began);
    return hung.asked->wait();
  }

  // Within twenty seconds, or not at all.
  static bool comes_soon(Asked& asked) {
    const auto end = std::chrono::steady_clock::now() + 20s;
    while (!asked.answered() && std::chrono::steady_clock::now() < end)
      std::this_thread::sleep_for(5ms);
    return asked.answered();
  }
  // Is a request to a hung token answered soon?
  bool is_answered(std::chrono::milliseconds ours, std::uint32_t callers) {
    options_.deadline = ours;
    create("data", "sign", "ec-p256");
    test::shim::set_faults("C_Sign:every=1:hang");
    auto request = sign_request("data");
    request.set_deadline_ms(callers);
    Hung hung(*this, std::move(request));
    const bool answered = comes_soon(*hung.asked);
    if (answered) EXPECT_EQ(hung.asked->wait().failure().code(), wire::DEADLINE);
    test::shim::clear();
    hung.end();
    return answered;
  }
};

TEST_F(GateRecordTest, Fault142_NoKeyIsUsedWhenTheUseCannotBeRecorded) {
  create("data", "sign", "ec-p256");
  break_the_log();
  test::shim::reset_counts();
  const auto refused = ask(kAdmin, sign_request("data"));
  EXPECT_EQ(refused.failure().code(), wire::INTERNAL);
  EXPECT_THAT(refused.failure().text(), HasSubstr("audit log"));
  EXPECT_EQ(test::shim::count("C_SignInit"), 0u);
  EXPECT_EQ(test::shim::count("C_Sign"), 0u);
}

TEST_F(GateRecordTest, Fault142_NoSignatureLeavesWithoutItsRecord) {
  create("data", "sign", "ec-p256");
  const auto response = ask_and_break_the_log(sign_request("data"), "C_Sign");
  EXPECT_EQ(response.failure().code(), wire::INTERNAL);
  EXPECT_TRUE(response.sign().signature().empty());
}

TEST_F(GateRecordTest, Fault142_NoChangeIsAnsweredWithoutItsRecord) {
  wire::Request request;
  request.mutable_key_create()->set_name("data");
  request.mutable_key_create()->set_purpose("sign");
  request.mutable_key_create()->set_algorithm("ec-p256");
  const auto response = ask_and_break_the_log(std::move(request), "C_GenerateKeyPair");
  EXPECT_EQ(response.failure().code(), wire::INTERNAL);
  EXPECT_FALSE(response.has_key_create());
}

TEST_F(GateRecordTest, Fault010_ACallersLongerDeadlineIsCutToTheAgents) {
  EXPECT_TRUE(is_answered(300ms, 3600 * 1000));
}

TEST_F(GateRecordTest, Fault010_ACallersShorterDeadlineIsKept) {
  EXPECT_TRUE(is_answered(10min, 300));
}

}  // namespace
}  // namespace keyagent::gate
