// SPDX-License-Identifier: Apache-2.0
// No branch and no array index depends on a secret: the test marks secrets as uninitialized memory,
// and valgrind reports each branch and index that uses them (A. Langley's ctgrind).

#include <gtest/gtest.h>
#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#else
#define VALGRIND_MAKE_MEM_UNDEFINED(at, size) (void)(at)
#define VALGRIND_MAKE_MEM_DEFINED(at, size) (void)(at)
#endif

#include <filesystem>

#include "agent/base/encoding.h"
#include "agent/envelope/secrets.h"
#include "pkcs11/oaep.h"
#include "tests/support/command.h"
#include "tests/support/sanitized.h"

namespace keyagent::envelope {
namespace {

SecretBytes secret(std::size_t size) {
  SecretBytes bytes = random_secret(size);
  VALGRIND_MAKE_MEM_UNDEFINED(bytes.data(), bytes.size());
  return bytes;
}
template <class Container>
void tell(Container& bytes) {
  VALGRIND_MAKE_MEM_DEFINED(bytes.data(), bytes.size());
}

// --- run by the tests below, in a separate process under valgrind
// -------------------------------------------------------------------------------------------------

TEST(SecretFlow, DISABLED_Work) {
  for (const auto hash : {pkcs11::Hash::kSha1, pkcs11::Hash::kSha256}) {
    auto result = pkcs11::oaep_decode(hash, secret(256), 32);
    VALGRIND_MAKE_MEM_DEFINED(&result.valid, 1);
    tell(result.message);
    EXPECT_EQ(result.message.size(), 32u);
  }
  for (const std::size_t size : {16u, 32u}) {
    auto wrapped = aes_kw_wrap(secret(32), secret(size));
    tell(wrapped);
    auto key = aes_kw_unwrap(secret(32), wrapped);  // it fails, as it must
    tell(key);
    EXPECT_EQ(key.size(), size);
  }
  const Bytes info(16, 'i');
  auto concat = concat_kdf(secret(32), info, 32);
  tell(concat);
  for (const auto hash : {KdfHash::kSha1, KdfHash::kSha256, KdfHash::kSha384, KdfHash::kSha512}) {
    auto derived = x963_kdf(hash, secret(66), info, 48);
    tell(derived);
    EXPECT_EQ(derived.size(), 48u);
  }
}

TEST(SecretFlow, DISABLED_BranchOnASecret) {
  const auto bytes = secret(32);
  int zeros = 0;
  for (const auto byte : bytes)
    if (byte == 0) ++zeros;
  VALGRIND_MAKE_MEM_DEFINED(&zeros, sizeof zeros);
  EXPECT_LE(zeros, 32);
}

// --- the tests
// -------------------------------------------------------------------------------------------------

constexpr int kComplained = 9;

test::CommandResult under_valgrind(const std::string& name) {
  const auto program = std::filesystem::read_symlink("/proc/self/exe").string();
  return test::try_command("valgrind --quiet --error-exitcode=" + std::to_string(kComplained) +
                           " --leak-check=no --track-origins=yes '" + program +
                           "' --gtest_also_run_disabled_tests --gtest_filter=SecretFlow.DISABLED_" +
                           name + " 2>&1");
}

std::string missing() {
  if (test::is_sanitized())
    return "the sanitizer's watch over memory leaves no room for valgrind's";
#if !__has_include(<valgrind/memcheck.h>)
  return "built without valgrind/memcheck.h";
#endif
  if (test::try_command("valgrind --version 2>&1").status != 0) return "valgrind is not installed";
  return {};
}

TEST(SecretFlow, Fault109_Control_ABranchOnASecretIsSeen) {
  if (!missing().empty()) GTEST_SKIP() << missing();
  const auto seen = under_valgrind("BranchOnASecret");
  EXPECT_EQ(seen.status, kComplained) << seen.output;
}

TEST(SecretFlow, Fault109_NoBranchAndNoIndexOfOursDependsOnASecret) {
  if (!missing().empty()) GTEST_SKIP() << missing();
  const auto worked = under_valgrind("Work");
  EXPECT_EQ(worked.status, 0) << worked.output;
  EXPECT_NE(worked.output.find("1 test"), std::string::npos) << worked.output;
}

}  // namespace
}  // namespace keyagent::envelope
