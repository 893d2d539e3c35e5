// SPDX-License-Identifier: Apache-2.0
// The recovery ladder: what is retried, what is reloaded, and what is left alone
// (RELIABILITY 2.1, 2.3).

#include <dlfcn.h>
#include <gmock/gmock.h>

#include <cmath>
#include <fstream>
#include <future>
#include <vector>

#include "pkcs11/module.h"
#include "pkcs11/token_folder.h"
#include "tests/pkcs11/token_fixture.h"
#include "tests/support/command.h"
#include "tests/support/small_disk.h"

namespace keyagent::pkcs11 {
namespace {

using ::testing::HasSubstr;

constexpr char kDead[] =
    "C_OpenSession:from=1:rv=0x30; C_SignInit:from=1:rv=0x30; C_Initialize:from=1:rv=0x30";

class RecoveryTest : public TokenTest {
 protected:
  void open_with_key() {
    open();
    spki_ = generate_key();
    sign_digest();
    shim::reset_counts();
  }
  Bytes spki_;
};

TEST_F(RecoveryTest, Fault001_ATokenThatComesBackIsUsedAgainWithoutARestart) {
  open_with_key();
  const auto epoch = token_->status().epoch;
  shim::set_faults(kDead);
  EXPECT_ANY_THROW(sign_digest());
  EXPECT_EQ(token_->status().state, TokenState::kDown);
  shim::clear();
  EXPECT_TRUE(eventually([&] { return token_->check_health(); }));
  EXPECT_TRUE(verifies(spki_, sign_digest()));
  EXPECT_EQ(token_->status().epoch, epoch + 1);
  EXPECT_EQ(shim::count("C_Login"), 1u);
}

TEST_F(RecoveryTest, Fault002_ABadSessionIsClosedNotPooled) {
  open_with_key();
  shim::set_faults("C_Sign:every=10:rv=0x32");
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(verifies(spki_, sign_digest()));
  EXPECT_GE(shim::count("C_CloseSession"), 10u);
  EXPECT_EQ(shim::count("C_Initialize"), 0u);
}

TEST_F(RecoveryTest, Fault003_AStaleHandleIsFoundAgain) {
  open_with_key();
  for (const char* code : {"0x82", "0x60"}) {
    shim::reset_counts();
    shim::set_faults(std::string("C_SignInit:n=1:rv=") + code);
    EXPECT_TRUE(verifies(spki_, sign_digest())) << code;
    EXPECT_EQ(shim::count("C_FindObjectsInit"), 1u) << code;
  }
}

TEST_F(RecoveryTest, Fault004_EveryCodeOfALostDeviceIsTreatedAlike) {
  open_with_key();
  for (const char* code : {"0x30", "0x32", "0xb0", "0xb3", "0xe0", "0xe1"}) {
    shim::set_faults(std::string("C_Sign:n=1:rv=") + code);
    EXPECT_TRUE(verifies(spki_, sign_digest())) << code;
  }
  EXPECT_EQ(token_->status().recoveries, 0u);
}

// What the module lists as it runs, without being started again.
bool lists_token(const std::filesystem::path& module, const std::string& label) {
  void* const handle = ::dlopen(module.c_str(), RTLD_NOW | RTLD_NOLOAD);
  CK_FUNCTION_LIST* c = nullptr;
  reinterpret_cast<CK_C_GetFunctionList>(::dlsym(handle, "C_GetFunctionList"))(&c);
  CK_ULONG count = 64;
  std::vector<CK_SLOT_ID> slots(count);
  check(c->C_GetSlotList(CK_TRUE, slots.data(), &count), "C_GetSlotList");
  bool found = false;
  for (CK_ULONG i = 0; i < count; ++i) {
    CK_TOKEN_INFO info{};
    check(c->C_GetTokenInfo(slots[i], &info), "C_GetTokenInfo");
    found = found || std::string(info.label, info.label + label.size()) == label;
  }
  ::dlclose(handle);
  return found;
}

TEST_F(RecoveryTest, Fault005_Fault006_ATokenThatComesLaterIsFoundThoughTheModuleCachesItsSlots) {
  open();
  token_.reset();
  options_.selector = {"born-later", ""};
  open();
  EXPECT_EQ(token_->status().state, TokenState::kAbsent);
  EXPECT_EQ(kind_of([&] { sign_digest(); }), Error::Kind::kTokenAbsent);
  test::run_command("SOFTHSM2_CONF='" + hsm_.conf().string() +
                    "' softhsm2-util --init-token --free --label born-later --pin '" + hsm_.pin() +
                    "' --so-pin 12345678");
  EXPECT_FALSE(lists_token(profile_.modules.front(), "born-later")) << "the module's old list";
  shim::reset_counts();
  EXPECT_TRUE(eventually([&] { return token_->check_health(); }));
  EXPECT_EQ(token_->status().label, "born-later");
  EXPECT_GE(shim::count("C_Initialize"), 1u);
  EXPECT_TRUE(lists_token(profile_.modules.front(), "born-later"));
}

TEST_F(RecoveryTest, Fault005_AModuleThatCannotStartYetDoesNotKeepUsFromStarting) {
  std::vector<TokenState> told;
  options_.on_state = [&](TokenState state, const std::string&) { told.push_back(state); };
  shim::set_faults("C_Initialize:n=1:rv=0x30");
  open();
  EXPECT_EQ(told, std::vector<TokenState>{TokenState::kDown});
  EXPECT_TRUE(eventually([&] { return token_->check_health(); }));
}

TEST_F(RecoveryTest, Fault007_TwoTokensOfOneLabelAreRefusedUntilTheSerialIsNamed) {
  test::run_command("SOFTHSM2_CONF='" + hsm_.conf().string() +
                    "' softhsm2-util --init-token --free --label '" + hsm_.label() +
                    "' --pin 1234567 --so-pin 12345678");
  options_.selector = {hsm_.label(), ""};
  open();
  EXPECT_EQ(token_->status().state, TokenState::kAbsent);
  EXPECT_EQ(kind_of([&] { sign_digest(); }), Error::Kind::kAmbiguousToken);
  options_.selector = {hsm_.label(), hsm_.serial()};
  restart();
  EXPECT_EQ(token_->status().state, TokenState::kUp);
  options_.selector = {"another-label", hsm_.serial()};
  restart();
  EXPECT_EQ(token_->status().state, TokenState::kAbsent);
}

TEST_F(RecoveryTest, Fault008_TheSerialOfAnotherTokenIsNotOurs) {
  options_.selector.serial = "0123456789abcdef";
  open();
  EXPECT_EQ(token_->status().state, TokenState::kAbsent);
  EXPECT_EQ(shim::count("C_Login"), 0u);
}

TEST_F(RecoveryTest, Fault015_AFullTokenIsReportedOnceAndNotAskedAgain) {
  open_with_key();
  shim::set_faults("C_GenerateKeyPair:from=1:rv=0x31");
  EXPECT_EQ(kind_of([&] { generate_key(2); }), Error::Kind::kRv);
  EXPECT_EQ(shim::count("C_GenerateKeyPair"), 1u);
  EXPECT_EQ(token_->status().state, TokenState::kUp);
  EXPECT_TRUE(verifies(spki_, sign_digest()));
}

TEST_F(RecoveryTest, Fault019_AFlappingTokenIsTakenUpEverMoreSlowly) {
  options_.backoff_first = std::chrono::milliseconds(50);
  options_.backoff_most = std::chrono::hours(1);
  std::atomic<unsigned> ups{0}, downs{0};
  options_.on_state = [&](TokenState state, const std::string&) {
    ++(state == TokenState::kUp ? ups : downs);
  };
  open_with_key();
  // Each time the token comes up at once and dies at its next use.
  shim::set_faults("C_SignInit:from=1:rv=0x30; C_GenerateRandom:from=1:rv=0x30");
  const auto started = std::chrono::steady_clock::now();
  for (int i = 0; i < 500; ++i) EXPECT_ANY_THROW(sign_digest());
  // Each pause is twice the one before, less its jitter: what fits into the time that this took.
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - started;
  const double doublings = std::log2(1 + took.count() / 25);
  const auto starts = shim::count("C_Initialize");
  EXPECT_LE(static_cast<double>(starts), 2 + doublings);
  EXPECT_LE(shim::count("C_Login"), starts) << "one login each";
  EXPECT_LE(ups, starts + 1);
  EXPECT_LE(downs, starts + 1) << "one change of state each, whatever was asked";
}

TEST_F(RecoveryTest, Fault021_AReplyLostInGenerationIsNotRepeated) {
  open_with_key();
  shim::set_faults("C_GenerateKeyPair:n=1:after:rv=0x30");
  EXPECT_ANY_THROW(generate_key(2));
  EXPECT_EQ(shim::count("C_GenerateKeyPair"), 1u);
  // The pair is there, once: anyone who chose the id finds it by the id.
  EXPECT_EQ(token_->run([&](Session& session) { return find_objects(session, id(2)); }).size(), 2u);
}

TEST_F(RecoveryTest, Fault038_AModuleThatAnotherLibraryOwnsIsNotShared) {
  shim::set_faults("C_Initialize:from=1:rv=0x191");
  open();
  EXPECT_EQ(token_->status().state, TokenState::kDown);
  EXPECT_THAT(token_->status().detail, HasSubstr("in use by another library"));
}

TEST_F(RecoveryTest, Fault039_AForeignFinalizeIsHealed) {
  open_with_key();
  token_->run([](Session& session) { session.c().C_Finalize(nullptr); });
  EXPECT_TRUE(verifies(spki_, sign_digest()));
  EXPECT_EQ(token_->status().recoveries, 1u);
}

TEST_F(RecoveryTest, Fault040_NoFinalizeWhileACallIsInside) {
  profile_.deadline = std::chrono::seconds(1);
  open_with_key();
  shim::set_faults("C_Sign:n=1:hang; C_SignInit:from=2:rv=0x30; C_GenerateRandom:from=1:rv=0x30");
  auto stuck = std::async(std::launch::async, [&] { return sign_digest(); });
  ASSERT_TRUE(eventually([&] { return shim::count("C_Sign") == 1; }));
  EXPECT_ANY_THROW(sign_digest());
  EXPECT_EQ(shim::count("C_Finalize"), 0u);
  shim::clear();
  shim::release_hangs();
  EXPECT_TRUE(verifies(spki_, stuck.get()));
  EXPECT_TRUE(eventually([&] { return token_->check_health(); }));
  EXPECT_TRUE(verifies(spki_, sign_digest()));
}

TEST_F(RecoveryTest, Fault043_AModuleThatCannotLockGetsOneCallAtATime) {
  shim::set_faults("C_Initialize:n=1:rv=0xa");
  open();
  shim::clear();
  ASSERT_EQ(token_->status().state, TokenState::kUp);
  std::atomic<int> inside{0}, most{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < 50; ++j) {
        token_->run([&](Session&) {
          const int now = ++inside;
          if (now > most) most = now;
          --inside;
        });
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(most, 1);
}

TEST_F(RecoveryTest, Fault046_AnOperationLeftActiveDoesNotReachTheNextCaller) {
  open_with_key();
  // C_SignInit succeeds and C_Sign is never seen by the token: its operation stays active.
  shim::set_faults("C_Sign:n=1:rv=0x5");
  EXPECT_ANY_THROW(sign_digest());
  EXPECT_TRUE(verifies(spki_, sign_digest()));
  EXPECT_EQ(token_->status().recoveries, 0u);
}

TEST_F(RecoveryTest, Fault072_AVendorCodeIsAskedOfTheCanary) {
  open_with_key();
  shim::set_faults("C_Sign:n=1:rv=0x80000384");
  try {
    sign_digest();
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("CKR_0x80000384"));
  }
  EXPECT_EQ(token_->status().canaries, 1u);
  EXPECT_EQ(token_->status().state, TokenState::kUp);
}

TEST_F(RecoveryTest, Fault050_AModuleThatOthersMayWriteIsNotLoaded) {
  const auto copy = hsm_.folder() / "module.so";
  std::filesystem::copy_file(profile_.modules.front(), copy);
  std::filesystem::permissions(copy, std::filesystem::perms(0775));
  profile_.modules = {copy};
  EXPECT_EQ(kind_of([&] { open(); }), Error::Kind::kModule);
  profile_.modules = {"libsofthsm2.so"};
  EXPECT_EQ(kind_of([&] { open(); }), Error::Kind::kModule);
}

TEST_F(RecoveryTest, Fault053_TwoKeysUnderOneIdAreRefused) {
  open_with_key();
  token_->run([&](Session& session) {
    return generate(session, {KeyKind::kEcP256, Usage::kSign, id(2), "first", false});
  });
  EXPECT_ANY_THROW(token_->run([&](Session& session) {
    return generate(session, {KeyKind::kEcP256, Usage::kSign, id(2), "second", false});
  }));
  EXPECT_EQ(kind_of([&] { sign_digest(2); }), Error::Kind::kObject);
}

TEST_F(RecoveryTest, Fault055_HalfAPairIsNotAKey) {
  open_with_key();
  token_->run([&](Session& session) {
    for (const auto& object : find_objects(session, id())) {
      if (object.object_class == CKO_PRIVATE_KEY)
        session.c().C_DestroyObject(session.handle(), object.handle);
    }
  });
  token_->renew_sessions();
  EXPECT_EQ(kind_of([&] { sign_digest(); }), Error::Kind::kObject);
  EXPECT_TRUE(token_->run([&](Session& session) { return destroy(session, id()); }));
}

TEST_F(RecoveryTest, Fault059_ManyOtherObjectsAreListedAndPassedOver) {
  open_with_key();
  token_->run([](Session& session) {
    for (int i = 0; i < 150; ++i)
      replace_data(session, "other", "object-" + std::to_string(i), Bytes(8, 1));
  });
  const auto all = token_->run([](Session& session) { return list_objects(session); });
  EXPECT_EQ(all.size(), 152u);
  EXPECT_TRUE(verifies(spki_, sign_digest()));
}

TEST_F(RecoveryTest, Fault023_AChangeOfStateIsReportedOnceForAnyNumberOfRequests) {
  options_.backoff_first = options_.backoff_most = std::chrono::hours(1);
  std::atomic<int> told{0};
  options_.on_state = [&](TokenState, const std::string&) { ++told; };
  open_with_key();
  EXPECT_EQ(told, 1);  // up
  shim::set_faults(kDead);
  for (int i = 0; i < 1000; ++i) EXPECT_ANY_THROW(sign_digest());
  EXPECT_EQ(told, 2);  // down, once
  EXPECT_LE(shim::count("C_Initialize"), 1u);
}

TEST_F(RecoveryTest, Fault164_AnUnexplainedAnswerToAWriteLeadsToAFreshRunOfTheModule) {
  options_.look_again = std::chrono::milliseconds(0);
  open_with_key();
  const auto write = [](Session& session) { replace_data(session, "other", "fact", Bytes(8, 1)); };
  for (const char* code : {"0x5", "0x6"}) {
    SCOPED_TRACE(code);
    const auto epoch = token_->status().epoch;
    shim::set_faults(std::string("C_CreateObject:n=1:rv=") + code);
    EXPECT_NO_THROW(token_->change(write));
    EXPECT_EQ(token_->status().epoch, epoch + 1);
  }
  shim::set_faults("C_CreateObject:n=1:rv=0x30");
  EXPECT_NO_THROW(token_->change(write));
  EXPECT_TRUE(verifies(spki_, sign_digest()));
}

TEST_F(RecoveryTest, Fault164_AMissingObjectIsLookedForInAFreshRunAndNotMoreOftenThanSaid) {
  options_.look_again = std::chrono::hours(1);
  std::atomic<int> told{0};
  options_.on_state = [&](TokenState, const std::string&) { ++told; };
  open_with_key();
  token_->renew_sessions();
  shim::set_faults("C_FindObjects:n=1:size=0");
  EXPECT_TRUE(verifies(spki_, sign_digest()));
  EXPECT_EQ(told, 1) << "the token was up all the time";
  shim::reset_counts();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(kind_of([&] { sign_digest(9); }), Error::Kind::kObject);
  EXPECT_EQ(shim::count("C_Initialize"), 0u) << "there was one a moment ago";
}

TEST_F(RecoveryTest, Fault079_Fault167_AFullDiskIsRefusedBeforeTheTokenActs) {
  const auto folder = hsm_.folder() / "small";
  const test::SmallDisk disk(folder);
  if (!disk.mounted()) GTEST_SKIP() << "only root may mount a file system";
  profile_.token_folder = folder.string();
  open_with_key();
  disk.fill();
  const KeySpec spec{KeyKind::kEcP256, Usage::kSign, id(7), "keyagent-test", false};
  const auto make = [&] {
    return token_->change([&](Session& session) { return generate(session, spec); }, true);
  };
  EXPECT_EQ(kind_of(make), Error::Kind::kFull);
  EXPECT_EQ(shim::count("C_GenerateKeyPair"), 0u);
  EXPECT_TRUE(verifies(spki_, sign_digest())) << "what is there is used";
  EXPECT_FALSE(token_->look_again()) << "no login for a mere look";
  EXPECT_EQ(shim::count("C_Login"), 0u);
  shim::set_faults(kDead);
  EXPECT_ANY_THROW(sign_digest());
  shim::clear();
  EXPECT_TRUE(eventually([&] {
    token_->check_health();
    return token_->status().detail.find(folder.string()) != std::string::npos;
  })) << token_->status().detail;
  EXPECT_EQ(shim::count("C_Login"), 0u) << "a C_Login would truncate the token's file";
  disk.make_room();
  EXPECT_TRUE(eventually([&] { return token_->check_health(); }));
  EXPECT_TRUE(verifies(spki_, sign_digest()));
  EXPECT_NO_THROW(make());
}

TEST(TokenFolder, Fault167_IsReadFromTheConfigurationThatTheModuleReads) {
  const test::SoftHsm hsm;
  EXPECT_EQ(token_folder(hsm.profile(), hsm.options().state_folder), hsm.folder() / "tokens");
  Profile profile;
  profile.token_folder = "${state}/store";
  EXPECT_EQ(token_folder(profile, "/var/lib/x"), "/var/lib/x/store");
  EXPECT_EQ(token_folder(Profile{}, "/var/lib/x"), "");
  EXPECT_NO_THROW(require_token_room(Profile{}, "/", "C_Login"));
}

TEST_F(RecoveryTest, ADestroyedKeyDiesInEveryPooledSessionToo) {
  open_with_key();
  token_->run([&](Session& session) { return destroy(session, id()); });
  token_->renew_sessions();
  EXPECT_EQ(kind_of([&] { sign_digest(); }), Error::Kind::kObject);
}

}  // namespace
}  // namespace keyagent::pkcs11
