// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "agent/base/error.h"
#include "tests/audit/audit_folder.h"

namespace keyagent::audit {
namespace {

using ::testing::HasSubstr;

std::string checkpoint_file(const AuditFolder& folder) {
  return std::string(as_text(read_file(folder.folder() / "checkpoint.json")));
}

TEST(Checkpoint, SignedAtOnceVerifiedAndWrittenBesideTheLog) {
  for (const auto algorithm :
       {KeyAlgorithm::kEcP256, KeyAlgorithm::kEd25519, KeyAlgorithm::kRsa2048}) {
    AuditFolder folder;
    Auditor auditor(algorithm);
    std::string external;
    {
      AuditLog log(folder.options());
      EXPECT_EQ(log.checkpoint(), std::nullopt) << "without a signer";
      log.record_now(event("open"));
      log.set_signer(auditor.signer());
      external = log.checkpoint().value_or("");
    }
    EXPECT_EQ(checkpoint_file(folder), external);
    const auto result = verify(folder.folder(), {external, auditor.public_keys()});
    EXPECT_TRUE(result.ok) << result.text;
    EXPECT_GE(result.checkpoints, 1U);
    EXPECT_EQ(result.checkpoints_verified, result.checkpoints);
  }
}

TEST(Checkpoint, IsMadeAfterTheConfiguredRecordsAndAfterTheInterval) {
  AuditFolder folder;
  Auditor auditor;
  Options options = folder.options();
  options.checkpoint_records = 10;
  AuditLog log(options);
  log.set_signer(auditor.signer());
  (void)log.checkpoint();
  const auto count = [&] {
    return verify(folder.folder(), {{}, auditor.public_keys()}).checkpoints;
  };
  const auto before = count();
  for (int i = 0; i < 9; ++i) log.record_now(event("open"));
  EXPECT_EQ(count(), before);
  log.record_now(event("open"));
  EXPECT_EQ(count(), before + 1);
  folder.clock().advance(std::chrono::minutes(2));
  log.record_now(event("open"));
  EXPECT_EQ(count(), before + 2);
}

TEST(Checkpoint, TokenThatDoesNotSignDoesNotStopTheLog) {
  AuditFolder folder;
  AuditLog log(folder.options());
  log.set_signer(
      [](ByteView) -> CheckpointSignature { throw Error(Code::kTokenAbsent, "no token"); });
  EXPECT_EQ(log.checkpoint(), std::nullopt);
  log.record_now(event("open"));
  EXPECT_TRUE(log.healthy());
  EXPECT_EQ(verify(folder.folder(), {}).checkpoints, 0U);
}

TEST(Checkpoint, Fault138_LogShorterThanItsCheckpointIsNotContinued) {
  AuditFolder folder;
  Auditor auditor;
  {
    AuditLog log(folder.options());
    for (int i = 0; i < 5; ++i) log.record_now(event("open"));
    log.set_signer(auditor.signer());
    (void)log.checkpoint();
  }
  const auto lines = folder.lines();
  const std::string whole = folder.text();
  const auto start = [&]() -> std::string {
    try {
      AuditLog log(folder.options());
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kIntegrity);
      return error.what();
    }
    return {};
  };
  folder.write(lines[0] + "\n" + lines[1] + "\n");
  EXPECT_THAT(start(), HasSubstr("aside to start a new log"));
  std::filesystem::remove(folder.log());
  EXPECT_NE(start(), "") << "the whole log was deleted";
  folder.write(whole);
  EXPECT_EQ(start(), "");
}

}  // namespace
}  // namespace keyagent::audit
