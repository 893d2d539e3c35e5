// SPDX-License-Identifier: Apache-2.0
// The module as foreign code in our process: forks, hangs, meddling, leaks, replacement, wrong
// lengths (RELIABILITY 2.3).

#include "pkcs11/module.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <clocale>
#include <csignal>
#include <fstream>
#include <functional>
#include <set>
#include <vector>

#include "tests/pkcs11/token_fixture.h"
#include "tests/support/command.h"

namespace keyagent::pkcs11 {
namespace {

using ::testing::HasSubstr;

class ModuleTest : public TokenTest {
 protected:
  void open_with_key() {
    open();
    spki_ = generate_key();
    sign_digest();
    shim::reset_counts();
  }
  // The exit status of a forked child; 99 when it threw.
  static int in_child(const std::function<int()>& work) {
    const pid_t child = ::fork();
    if (child == 0) {
      int status = 99;
      try {
        status = work();
      } catch (const std::exception&) {
        // The exit status reports it.
      }
      ::_exit(status);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  static std::set<int> open_files() {
    std::set<int> files;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd"))
      files.insert(std::stoi(entry.path().filename()));
    return files;
  }
  Bytes spki_;
};

// What makes entry 36 a danger, shown on the bare token: the child signs with the parent's login.
TEST_F(ModuleTest, Fault036_ControlABareTokenSignsForAForkedChild) {
  open_with_key();
  token_->run([&](Session& session) {
    const int status = in_child([&] {
      CK_MECHANISM mechanism{CKM_ECDSA, nullptr, 0};
      const auto key = session.key({id(), CKO_PRIVATE_KEY});
      Bytes digest(32, 1), signature(64);
      CK_ULONG size = signature.size();
      check(session.c().C_SignInit(session.handle(), &mechanism, key), "C_SignInit");
      check(session.c().C_Sign(session.handle(), digest.data(), digest.size(), signature.data(),
                               &size),
            "C_Sign");
      return 7;
    });
    EXPECT_EQ(status, 7);
  });
}

TEST_F(ModuleTest, Fault036_AForkedChildIsRefusedAndTouchesNothingOfItsParents) {
  open_with_key();
  const int status = in_child([&] {
    try {
      sign_digest();
      return 1;
    } catch (const Error& error) {
      if (error.kind() != Error::Kind::kModule) return 2;
      if (std::string(error.what()).find("forked child") == std::string::npos) return 3;
    }
    if (token_->check_health()) return 4;
    token_.reset();
    if (shim::count("C_Sign") + shim::count("C_SignInit") + shim::count("C_Login") != 0) return 5;
    if (shim::count("C_CloseSession") + shim::count("C_Finalize") != 0) return 6;
    return 0;
  });
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(verifies(spki_, sign_digest()));
  EXPECT_EQ(token_->status().recoveries, 0u);
}

TEST_F(ModuleTest, Fault036_NoFileOfTheTokenIsInheritedByAProgramThatIsStarted) {
  const auto before = open_files();
  open_with_key();
  for (const int file : open_files()) {
    const int flags = ::fcntl(file, F_GETFD);
    if (before.contains(file) || flags < 0) continue;
    EXPECT_NE(flags & FD_CLOEXEC, 0)
        << std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(file));
  }
}

TEST_F(ModuleTest, Fault037_AModuleThatForksInInitializeIsStartedAllTheSame) {
  shim::set_faults("C_Initialize:every=1:fork; C_Login:every=1:fork");
  open();
  EXPECT_EQ(token_->status().state, TokenState::kUp) << token_->status().detail;
  const auto spki = generate_key();
  EXPECT_TRUE(verifies(spki, sign_digest()));
}

TEST_F(ModuleTest, Fault037_AModuleThatHangsInInitializeBlocksNoCallBeyondTheDeadline) {
  profile_.deadline = std::chrono::milliseconds(150);
  shim::set_faults("C_Initialize:n=1:hang");
  open();
  EXPECT_EQ(token_->status().state, TokenState::kStuck);
  EXPECT_EQ(kind_of([&] { sign_digest(); }), Error::Kind::kStuck);
  EXPECT_FALSE(token_->check_health());
  shim::release_hangs();
  EXPECT_TRUE(eventually([&] { return token_->check_health(); }));
  EXPECT_EQ(token_->status().state, TokenState::kUp);
  EXPECT_EQ(shim::count("C_Initialize"), 1u);
}

class MeddlingTest : public ModuleTest, public ::testing::WithParamInterface<const char*> {};

TEST_P(MeddlingTest, Fault048_WhatTheModuleChangesInTheProcessIsRestored) {
  const auto handler = [](int) {};
  std::signal(SIGTERM, handler);
  const mode_t mask = ::umask(0027);
  const auto folder = std::filesystem::current_path();
  const std::string locale = std::setlocale(LC_ALL, nullptr);
  ASSERT_NE(locale, "C.UTF-8");
  shim::set_faults(std::string(GetParam()) + ":every=1:meddle");
  open();
  ASSERT_EQ(token_->status().state, TokenState::kUp) << token_->status().detail;
  ASSERT_GE(shim::count(GetParam()), 1u);
  EXPECT_EQ(::umask(mask), 0027u);
  EXPECT_EQ(std::filesystem::current_path(), folder);
  EXPECT_EQ(std::setlocale(LC_ALL, nullptr), locale);
  EXPECT_EQ(std::signal(SIGPIPE, SIG_IGN), SIG_IGN) << "RELIABILITY 47";
  EXPECT_EQ(std::signal(SIGUSR1, SIG_DFL), SIG_DFL);
  EXPECT_EQ(std::signal(SIGTERM, SIG_DFL), handler);
}

INSTANTIATE_TEST_SUITE_P(Calls, MeddlingTest, ::testing::Values("C_Initialize", "C_Login"));

// 10 KiB and a file descriptor an operation: nothing here hides it from anyone who watches the
// process (the unit's limits; agent/daemon), and no operation fails of it.
TEST_F(ModuleTest, Fault049_ALeakingModuleIsSeenFromOutsideAndFailsNoOperation) {
  open_with_key();
  const auto files = open_files().size();
  shim::set_faults("C_Sign:every=1:leak=10240");
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(verifies(spki_, sign_digest()));
  EXPECT_GE(open_files().size(), files + 100);
  EXPECT_EQ(token_->status().recoveries, 0u);
}

TEST_F(ModuleTest, Fault051_AModuleWhoseFileIsReplacedKeepsRunningUnchanged) {
  const auto file = hsm_.folder() / "module.so";
  std::filesystem::copy_file(profile_.modules.front(), file);
  std::filesystem::permissions(file, std::filesystem::perms(0755));
  profile_.modules = {file};
  open();
  const auto spki = generate_key();
  const auto hash = token_->status().module_sha256;
  EXPECT_THAT(test::run_command("sha256sum " + file.string()), HasSubstr(hash));
  EXPECT_EQ(token_->status().module, file);
  std::ofstream(hsm_.folder() / "new.so") << "no module at all";
  std::filesystem::rename(hsm_.folder() / "new.so", file);
  EXPECT_TRUE(verifies(spki, sign_digest()));
  // The whole ladder: finalized and initialized, in the file that was loaded.
  token_->run([](Session& session) { session.c().C_Finalize(nullptr); });
  EXPECT_TRUE(verifies(spki, sign_digest()));
  EXPECT_EQ(token_->status().recoveries, 1u);
  EXPECT_EQ(token_->status().module_sha256, hash) << "of what runs, not of what lies there now";
}

// --- wrong lengths
// -------------------------------------------------------------------------------------------------

class WrongLengthTest : public ModuleTest, public ::testing::WithParamInterface<const char*> {
 protected:
  void spoil(const char* function) {
    shim::set_faults(std::string(function) + ":every=1:size=" + GetParam());
  }
};

TEST_P(WrongLengthTest, Fault052_ASignatureOfAnotherLengthIsRefused) {
  open_with_key();
  spoil("C_Sign");
  EXPECT_EQ(kind_of([&] { sign_digest(); }), Error::Kind::kOutput);
  shim::clear();
  EXPECT_TRUE(verifies(spki_, sign_digest()));
}

TEST_P(WrongLengthTest, Fault052_AnAttributeOfAnotherLengthIsRefused) {
  open_with_key();
  spoil("C_GetAttributeValue");
  EXPECT_ANY_THROW(token_->run([&](Session& session) { return read_public_key(session, id()); }));
  EXPECT_ANY_THROW(token_->run([](Session& session) { return list_objects(session); }))
      << "objects whose class cannot be read are not absent";
}

TEST_P(WrongLengthTest, Fault052_ASlotCountOfAnotherLengthIsIgnoredOrRefused) {
  spoil("C_GetSlotList");
  open();
  // One slot more than there is, is passed over; the rest is refused by name.
  if (token_->status().state != TokenState::kUp) {
    EXPECT_THAT(token_->status().detail, HasSubstr("invalid count"));
  }
  shim::clear();
  EXPECT_TRUE(eventually([&] { return token_->check_health(); }));
}

TEST_P(WrongLengthTest, Fault052_ADecryptedTextOfAnotherLengthIsNotGivenOut) {
  open();
  const KeySpec spec{KeyKind::kAes256, Usage::kEncrypt, id(3), "keyagent-test", false};
  token_->run([&](Session& session) { return generate(session, spec); }, true);
  const SecretBytes text(32, 0x11);
  const Bytes iv(12, 1);
  spoil("C_Encrypt");
  EXPECT_EQ(kind_of([&] {
              token_->run([&](Session& s) { return gcm_encrypt(s, id(3), iv, {}, text); });
            }),
            Error::Kind::kOutput);
  shim::clear();
  const auto sealed =
      token_->run([&](Session& session) { return gcm_encrypt(session, id(3), iv, {}, text); });
  const auto open_it = [&] {
    return token_->run([&](Session& session) {
      return gcm_decrypt(session, id(3), iv, {}, sealed.ciphertext, sealed.tag);
    });
  };
  spoil("C_Decrypt");
  try {
    // A shorter text is within the room it was given: the caller's check of the size ends it.
    EXPECT_NE(open_it(), text);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), Error::Kind::kOutput);
  }
  shim::clear();
  EXPECT_EQ(open_it(), text);
}

TEST_P(WrongLengthTest, Fault052_ARawRsaBlockOfAnotherLengthIsRejectedWithoutAWord) {
  open();
  const KeySpec spec{KeyKind::kRsa2048, Usage::kDecrypt, id(4), "keyagent-test", false};
  token_->run([&](Session& session) { return generate(session, spec); }, true);
  spoil("C_Decrypt");
  Bytes ciphertext(256, 0x42);
  ciphertext[0] = 0;
  try {
    const auto text = token_->run([&](Session& session) {
      return oaep_decrypt(session, id(4), Hash::kSha256, ciphertext, 32);
    });
    EXPECT_EQ(text.size(), 32u);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), Error::Kind::kOutput);
  }
}

TEST_P(WrongLengthTest, Fault052_ACountOfFoundObjectsIsNotBelieved) {
  open_with_key();
  token_->renew_sessions();
  spoil("C_FindObjects");
  EXPECT_ANY_THROW(sign_digest());
  EXPECT_ANY_THROW(token_->run([](Session& session) { return list_objects(session); }));
  shim::clear();
  EXPECT_TRUE(verifies(spki_, sign_digest()));
}

// Too few, more than there is room for, and CK_UNAVAILABLE_INFORMATION.
INSTANTIATE_TEST_SUITE_P(Lengths, WrongLengthTest,
                         ::testing::Values("3", "100000", "0xffffffffffffffff"));

}  // namespace
}  // namespace keyagent::pkcs11
