// SPDX-License-Identifier: Apache-2.0
// One login, and no PIN attempt that could lock a token (RELIABILITY 2.2).

#include "pkcs11/login.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <fstream>
#include <iterator>
#include <vector>

#include "pkcs11/slot.h"
#include "tests/pkcs11/token_fixture.h"
#include "tests/support/command.h"

namespace keyagent::pkcs11 {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class LoginTest : public TokenTest {
 protected:
  void use_pin(const std::string& pin) {
    options_.pin = [pin] { return SecretBytes(pin.begin(), pin.end()); };
  }
  // Attempts to bring the token up, until the module was initialized `runs` times more.
  void keep_trying(std::uint64_t runs) {
    const auto before = shim::count("C_Initialize");
    ASSERT_TRUE(eventually([&] {
      token_->check_health();
      return shim::count("C_Initialize") >= before + runs;
    }));
  }
  // log_in() on a bare session, with the token's flags as the test wants them.
  Error::Kind log_in_with_flags(CK_FLAGS flags) {
    profile_.pin_flags = true;
    const auto until = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    const auto module = Module::open(profile_, options_.state_folder);
    module->reload(module->epoch(), until);
    const auto entry = module->enter(until);
    auto match = find_slot(*module->functions(), options_.selector);
    match.info.flags |= flags;
    Session session(module, match.slot, profile_);
    RefusedPin refused({});
    return kind_of([&] {
      log_in(*module->functions(), session.handle(), match.info, profile_, options_.pin, refused);
    });
  }
};

TEST_F(LoginTest, Fault024_WrongPinIsTriedOnceHoweverOftenRestarted) {
  options_.refused_pin_file = hsm_.folder() / "refused-pin";
  use_pin("wrong-canary");
  for (int i = 0; i < 10; ++i) {
    restart();
    EXPECT_EQ(token_->status().state, TokenState::kPinRefused);
    EXPECT_EQ(kind_of([&] { sign_digest(); }), Error::Kind::kPinRefused);
  }
  EXPECT_EQ(shim::count("C_Login"), 1u);
  use_pin(hsm_.pin());
  restart();
  EXPECT_EQ(token_->status().state, TokenState::kUp);
  EXPECT_EQ(shim::count("C_Login"), 2u);
}

TEST_F(LoginTest, Fault024_Fault167_AFailedAttemptThatCannotBeRecordedIsTheOnlyOne) {
  options_.refused_pin_file = hsm_.folder() / "absent/refused-pin";  // not even root can write it
  shim::set_faults("C_GetTokenInfo:every=1:flags=0x10000");          // CKF_USER_PIN_COUNT_LOW
  for (int i = 0; i < 3; ++i) {
    restart();
    EXPECT_EQ(token_->status().state, TokenState::kPinRefused);
  }
  EXPECT_EQ(shim::count("C_Login"), 0u);
  options_.refused_pin_file = hsm_.folder() / "refused-pin";
  restart();
  EXPECT_EQ(token_->status().state, TokenState::kUp);
}

// A cluster whose members answer in turn names another token at each start.
TEST_F(LoginTest, Fault024_AfterAFailedAttemptAPinThatAnotherTokenRefusedIsNotTried) {
  options_.refused_pin_file = hsm_.folder() / "refused-pin";
  const std::string right = hsm_.pin();
  RefusedPin(options_.refused_pin_file).remember({right.begin(), right.end()}, "another");
  shim::set_faults("C_GetTokenInfo:every=1:flags=0x10000");  // CKF_USER_PIN_COUNT_LOW
  restart();
  EXPECT_EQ(token_->status().state, TokenState::kPinRefused);
  EXPECT_EQ(shim::count("C_Login"), 0u);
  shim::set_faults("");
  restart();
  EXPECT_EQ(token_->status().state, TokenState::kUp);
}

TEST_F(LoginTest, Fault024_ARecordThatIsNoneIsNotBelieved) {
  const auto file = hsm_.folder() / "refused-pin";
  std::ofstream(file) << std::string(32, 'z') + ":" + std::string(64, 'z') + "\nshort\n";
  EXPECT_FALSE(RefusedPin(file).is({'1', '2', '3', '4'}));
}

TEST_F(LoginTest, Fault024_TheMemoryOfARefusedPinIsPrivateAndHashed) {
  options_.refused_pin_file = hsm_.folder() / "refused-pin";
  use_pin("wrong-canary");
  open();
  struct stat info {};
  ASSERT_EQ(::stat(options_.refused_pin_file.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  std::ifstream in(options_.refused_pin_file);
  const std::string text(std::istreambuf_iterator<char>(in), {});
  EXPECT_THAT(text, Not(HasSubstr("wrong-canary")));
  EXPECT_THAT(token_->status().detail, Not(HasSubstr("wrong-canary")));
}

// The agent names its token by the label, as scripts/provision-token writes it.
class NewTokenTest : public LoginTest {
 protected:
  NewTokenTest() {
    options_.selector.serial.clear();
    options_.refused_pin_file = hsm_.folder() / "refused-pin";
  }
  std::string module() const { return hsm_.profile().modules.front().string(); }
  void tool(const std::string& words) const {
    test::run_command("SOFTHSM2_CONF='" + hsm_.conf().string() + "' " + words);
  }
  void delete_token() const { tool("softhsm2-util --delete-token --token " + hsm_.label()); }
};

TEST_F(NewTokenTest, Fault024_APinThatOneTokenRefusedIsTriedWithTheTokenThatReplacedIt) {
  use_pin("new-pin-canary");
  open();
  EXPECT_EQ(token_->status().state, TokenState::kPinRefused);
  token_.reset();
  delete_token();
  tool("softhsm2-util --init-token --free --label " + hsm_.label() +
       " --pin new-pin-canary --so-pin " + hsm_.so_pin());
  open();
  EXPECT_EQ(token_->status().state, TokenState::kUp) << token_->status().detail;
  EXPECT_EQ(shim::count("C_Login"), 2u);
}

TEST_F(NewTokenTest, Fault034_ATokenThatIsProvisionedUnderARunningAgentIsUsedOnceItHasItsPin) {
  delete_token();
  tool("pkcs11-tool --module " + module() + " --slot-index 0 --init-token --label " + hsm_.label() +
       " --so-pin " + hsm_.so_pin());
  open();
  keep_trying(3);
  EXPECT_EQ(token_->status().state, TokenState::kPinRefused) << token_->status().detail;
  EXPECT_EQ(shim::count("C_Login"), 1u);
  tool("pkcs11-tool --module " + module() + " --token-label " + hsm_.label() +
       " --login --login-type so --so-pin " + hsm_.so_pin() + " --init-pin --new-pin " +
       hsm_.pin());
  EXPECT_TRUE(eventually([&] { return token_->check_health(); })) << token_->status().detail;
  EXPECT_EQ(token_->status().state, TokenState::kUp);
  EXPECT_FALSE(std::filesystem::exists(options_.refused_pin_file)) << "nothing of it is left";
}

TEST_F(NewTokenTest, Fault024_EachTokenRefusesForItself) {
  const SecretBytes pin{'1', '2', '3', '4'}, other{'5', '6', '7', '8'};
  {
    RefusedPin refused(options_.refused_pin_file);
    refused.remember(pin, "one");
    refused.remember(pin, "two");
    refused.note_here(other, "three");
    EXPECT_TRUE(refused.is(other, "three"));
  }
  RefusedPin refused(options_.refused_pin_file);
  EXPECT_TRUE(refused.is(pin, "one")) << "the second token's does not replace it";
  EXPECT_TRUE(refused.is(pin, "two"));
  EXPECT_FALSE(refused.is(pin, "three"));
  EXPECT_FALSE(refused.is(other, "one"));
  EXPECT_FALSE(refused.is(other, "three")) << "of that process alone";
  refused.clear("two");
  EXPECT_TRUE(RefusedPin(options_.refused_pin_file).is(pin, "one"));
  EXPECT_FALSE(RefusedPin(options_.refused_pin_file).is(pin, "two"));
  for (int number = 0; number < 20; ++number)
    refused.remember(pin, "token-" + std::to_string(number));
  EXPECT_LT(std::filesystem::file_size(options_.refused_pin_file), 2000u);
  refused.clear("token-19");
  EXPECT_FALSE(refused.is(pin, "token-19"));
}

// Version 0.1.0 did not write whose it was.
TEST_F(NewTokenTest, Fault024_ARefusedPinOfAnOlderAgentIsOfAnyToken) {
  const SecretBytes pin{'1', '2', '3', '4'};
  RefusedPin(options_.refused_pin_file).remember(pin, "");
  std::filesystem::resize_file(options_.refused_pin_file, 2 * 16 + 1 + 2 * 32);
  RefusedPin refused(options_.refused_pin_file);
  EXPECT_TRUE(refused.is(pin, "one"));
  refused.clear("one");
  EXPECT_FALSE(std::filesystem::exists(options_.refused_pin_file));
}

TEST_F(LoginTest, Fault025_ATokenAtItsLastPinTryIsNotLoggedInToByAnyNumberOfStarts) {
  options_.refused_pin_file = hsm_.folder() / "refused-pin";
  profile_.pin_flags = true;
  shim::set_faults("C_GetTokenInfo:every=1:flags=0x20000");  // CKF_USER_PIN_FINAL_TRY
  for (int i = 0; i < 5; ++i) {
    restart();
    EXPECT_NE(token_->status().state, TokenState::kUp);
    EXPECT_EQ(kind_of([&] { sign_digest(); }), Error::Kind::kPinLastTry) << "the PIN is right";
    keep_trying(3);
  }
  EXPECT_EQ(shim::count("C_Login"), 0u);
  EXPECT_THAT(token_->status().detail, HasSubstr("only one more PIN attempt"));
  shim::clear();  // its person logged in
  restart();
  EXPECT_EQ(token_->status().state, TokenState::kUp);
}

TEST_F(LoginTest, Fault025_TheLastTryIsLeftToThePerson) {
  EXPECT_EQ(log_in_with_flags(CKF_USER_PIN_FINAL_TRY), Error::Kind::kPinLastTry);
  EXPECT_EQ(log_in_with_flags(CKF_USER_PIN_LOCKED), Error::Kind::kPinLocked);
  EXPECT_EQ(shim::count("C_Login"), 0u);
}

TEST_F(LoginTest, Fault026_ATokenThatNeverCountsGetsNoSecondTryEither) {
  use_pin("wrong-canary");
  open();
  keep_trying(4);
  EXPECT_EQ(shim::count("C_Login"), 1u);
  EXPECT_EQ(token_->status().state, TokenState::kPinRefused);
}

TEST_F(LoginTest, Fault027_ALockedPinIsAFinalStateThatNamesTheFix) {
  profile_.unlock_hint = "unlock it with: tool --unlock";
  shim::set_faults("C_Login:from=1:rv=0xa4");
  open();
  keep_trying(3);
  EXPECT_EQ(token_->status().state, TokenState::kPinLocked);
  EXPECT_THAT(token_->status().detail, HasSubstr("tool --unlock"));
  EXPECT_EQ(shim::count("C_Login"), 1u);
  EXPECT_EQ(kind_of([&] { sign_digest(); }), Error::Kind::kPinLocked);
}

TEST_F(LoginTest, Fault028_AColdStartOfManyThreadsLogsInOnce) {
  options_.backoff_first = options_.backoff_most = std::chrono::milliseconds(0);
  shim::set_faults("C_GetSlotList:n=1:rv=0x5");
  open();
  ASSERT_NE(token_->status().state, TokenState::kUp);
  std::atomic<int> done{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 32; ++i) {
    threads.emplace_back([&] {
      token_->run([&](Session& session) {
        CK_SESSION_INFO info{};
        check(session.c().C_GetSessionInfo(session.handle(), &info), "C_GetSessionInfo");
        done += info.state == CKS_RW_USER_FUNCTIONS ? 1 : 0;
      });
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(done, 32);
  EXPECT_EQ(shim::count("C_Login"), 1u);
}

TEST_F(LoginTest, Fault028_AlreadyLoggedInCountsOnlyInTheUserState) {
  options_.backoff_first = options_.backoff_most = std::chrono::hours(1);
  shim::set_faults("C_Login:n=1:rv=0x100");
  open();
  EXPECT_NE(token_->status().state, TokenState::kUp);
  shim::set_faults("C_Login:n=1:after:rv=0x100");
  restart();
  EXPECT_EQ(token_->status().state, TokenState::kUp);
}

TEST_F(LoginTest, Fault029_SomeonesLogoutIsHealedWithOneLogin) {
  open();
  generate_key();
  sign_digest();
  token_->run([](Session& session) { session.c().C_Logout(session.handle()); });
  EXPECT_NO_THROW(sign_digest());
  EXPECT_EQ(shim::count("C_Login"), 2u);
  EXPECT_EQ(token_->status().recoveries, 1u);
}

TEST_F(LoginTest, Fault030_AKeyIsCalledMissingInTheUserStateOnly) {
  options_.backoff_first = options_.backoff_most = std::chrono::milliseconds(0);
  open();
  generate_key();
  // The key was not looked for yet, so that its handle is in no cache when the login is lost.
  token_->run([](Session& session) { session.c().C_Logout(session.handle()); });
  EXPECT_NO_THROW(sign_digest());
  EXPECT_EQ(kind_of([&] { sign_digest(7); }), Error::Kind::kObject);
  token_->run([](Session& session) { session.c().C_Logout(session.handle()); });
  EXPECT_EQ(token_->run([](Session& session) { return find_objects(session, id()); }).size(), 2u);
}

TEST_F(LoginTest, Fault029_ClosingEveryPooledSessionKeepsTheLogin) {
  open();
  generate_key();
  token_->renew_sessions();
  EXPECT_EQ(token_->status().sessions_open, 0u);
  EXPECT_NO_THROW(sign_digest());
  EXPECT_EQ(shim::count("C_Login"), 1u);
}

TEST_F(LoginTest, Fault033_APinChangedOutsideCostsOneAttemptAtTheNextLogin) {
  open();
  generate_key();
  test::run_command("SOFTHSM2_CONF='" + hsm_.conf().string() + "' pkcs11-tool --module " +
                    hsm_.profile().modules.front().string() + " --token-label " + hsm_.label() +
                    " --login --pin " + hsm_.pin() + " --change-pin --new-pin changed-canary");
  EXPECT_NO_THROW(sign_digest());
  token_->run([](Session& session) { session.c().C_Logout(session.handle()); });
  EXPECT_EQ(kind_of([&] { sign_digest(); }), Error::Kind::kPinRefused);
  keep_trying(3);
  EXPECT_EQ(shim::count("C_Login"), 2u);
}

TEST_F(LoginTest, Fault034_EveryFinalStateHasItsOwnName) {
  const std::pair<const char*, const char*> states[] = {
      {"0x102", "CKR_USER_PIN_NOT_INITIALIZED"},
      {"0xa3", "CKR_PIN_EXPIRED"},
      {"0x104", "CKR_USER_ANOTHER_ALREADY_LOGGED_IN"}};
  for (const auto& [code, name] : states) {
    shim::reset_counts();
    shim::set_faults(std::string("C_Login:from=1:rv=") + code);
    restart();
    keep_trying(2);
    EXPECT_THAT(shim::count("C_Login"), 1u) << name;
    EXPECT_EQ(token_->status().state, TokenState::kPinRefused);
    token_.reset();
    open();
    EXPECT_THAT(token_->status().detail, HasSubstr(name));
  }
}

TEST_F(LoginTest, Fault035_ThePinIsReadOnceForALogin) {
  int reads = 0;
  const auto real = options_.pin;
  options_.pin = [&] {
    ++reads;
    return real();
  };
  open();
  EXPECT_EQ(reads, 1);
}

TEST_F(LoginTest, APinSourceThatFailsIsAStateNotACrash) {
  options_.pin = []() -> SecretBytes { throw std::runtime_error("pin file is not there"); };
  open();
  EXPECT_EQ(token_->status().state, TokenState::kPinRefused);
  EXPECT_THAT(token_->status().detail, HasSubstr("pin file is not there"));
  EXPECT_EQ(shim::count("C_Login"), 0u);
}

TEST_F(LoginTest, Fault045_AHangInLoginBlocksNoCallBeyondTheDeadline) {
  profile_.deadline = std::chrono::milliseconds(150);
  shim::set_faults("C_Login:n=1:hang");
  open();
  EXPECT_EQ(token_->status().state, TokenState::kStuck);
  EXPECT_EQ(kind_of([&] { sign_digest(); }), Error::Kind::kStuck);
  shim::release_hangs();
  EXPECT_TRUE(eventually([&] { return token_->check_health(); }));
  EXPECT_EQ(token_->status().state, TokenState::kUp);
  EXPECT_EQ(shim::count("C_Login"), 1u);
}

}  // namespace
}  // namespace keyagent::pkcs11
