// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <algorithm>
#include <random>

#include "agent/audit/record.h"
#include "agent/base/error.h"
#include "tests/audit/audit_folder.h"

namespace keyagent::audit {
namespace {

using ::testing::HasSubstr;

// 24 uses, a checkpoint after every eight, and one at the end that covers everything.
class AuditVerify : public ::testing::Test {
 protected:
  AuditVerify() {
    Options options = folder_.options();
    options.checkpoint_records = 8;
    AuditLog log(options);
    log.set_signer(auditor_.signer());
    for (int i = 0; i < 24; ++i) log.record_now(event("open", "key-" + std::to_string(i)));
    external_ = log.checkpoint().value_or("");
    lines_ = folder_.lines();
  }

  VerifyResult check(const std::string& text) const {
    folder_.write(text);
    return verify(folder_.folder(), {external_, auditor_.public_keys()});
  }
  static std::string joined(const std::vector<std::string>& lines) {
    std::string text;
    for (const auto& line : lines) text += line + '\n';
    return text;
  }

  AuditFolder folder_;
  Auditor auditor_;
  std::string external_;
  std::vector<std::string> lines_;
};

TEST_F(AuditVerify, UntouchedLogVerifies) {
  const auto result = check(joined(lines_));
  EXPECT_TRUE(result.ok) << result.text;
  EXPECT_EQ(result.records, lines_.size());
  EXPECT_GE(result.checkpoints, 4U);
  EXPECT_EQ(result.checkpoints_verified, result.checkpoints);
  EXPECT_FALSE(result.first_bad_seq);
}

// What an attacker may do to lines without recomputing hashes.
std::vector<std::string> tamper(const std::vector<std::string>& lines, std::mt19937& random) {
  const auto pick = [&](std::size_t below) { return random() % below; };
  std::vector<std::string> changed = lines;
  while (changed == lines) {
    const std::size_t a = pick(lines.size()), b = pick(lines.size());
    switch (pick(5)) {
      case 0:  // edit a byte
        changed[a][pick(changed[a].size())] = static_cast<char>(pick(256));
        break;
      case 1:  // delete records, the last one too
        changed.erase(changed.begin() + static_cast<long>(std::min(a, b)),
                      changed.begin() + static_cast<long>(std::max(a, b)) + 1);
        break;
      case 2:
        std::swap(changed[a], changed[b]);
        break;
      case 3:
        changed.insert(changed.begin() + static_cast<long>(a), changed[b]);
        break;
      default:  // insert or cut bytes
        if (b % 2 == 0)
          changed[a].insert(pick(changed[a].size()), 1, static_cast<char>(pick(256)));
        else
          changed[a].erase(pick(changed[a].size()), 1 + pick(20));
    }
  }
  return changed;
}

TEST_F(AuditVerify, Fault137_TenThousandRandomChangesAreAllFoundAtTheFirstBadRecord) {
  std::mt19937 random(137);
  for (int round = 0; round < 10000; ++round) {
    const auto changed = tamper(lines_, random);
    // Bytes may hold newlines: what counts is the first line that differs.
    std::istringstream in(joined(changed));
    std::uint64_t first = 0;
    for (std::string line;
         std::getline(in, line) && first < lines_.size() && line == lines_[first];)
      ++first;
    const auto result = check(joined(changed));
    ASSERT_FALSE(result.ok) << "round " << round << "\n" << joined(changed);
    ASSERT_EQ(result.first_bad_seq, first) << "round " << round << ": " << result.text;
  }
}

// One record replaced by another that is whole in itself: the one after it gives it away.
TEST_F(AuditVerify, Fault137_RecordRewrittenWithAFittingHashIsFoundByItsSuccessor) {
  for (std::size_t i = 0; i + 1 < lines_.size(); ++i) {
    const auto old = parse_line(lines_[i]);
    ASSERT_TRUE(old);
    auto changed = lines_;
    changed[i] = format_event(i, WallTime{}, old->prev, event("sign", "forged"));
    const auto result = check(joined(changed));
    EXPECT_FALSE(result.ok) << i;
    EXPECT_EQ(result.first_bad_seq, i + 1) << result.text;
  }
}

TEST_F(AuditVerify, Fault138_CutTailIsFoundByTheCheckpointThatLeftTheHost) {
  for (std::size_t keep = 0; keep < lines_.size(); ++keep) {
    const std::vector<std::string> cut(lines_.begin(), lines_.begin() + static_cast<long>(keep));
    const auto result = check(joined(cut));
    ASSERT_FALSE(result.ok) << keep;
    EXPECT_EQ(result.first_bad_seq, keep);
    EXPECT_THAT(result.text, HasSubstr("missing"));
    EXPECT_FALSE(verify(folder_.folder(), {{}, auditor_.public_keys()}).ok)
        << "checkpoint.json shows it too";
  }
}

TEST_F(AuditVerify, Fault138_DeletedLogIsFound) {
  std::filesystem::remove(folder_.log());
  const auto result = verify(folder_.folder(), {external_, auditor_.public_keys()});
  EXPECT_FALSE(result.ok);
  EXPECT_EQ(result.first_bad_seq, 0U);
  EXPECT_THROW(verify(folder_.folder(), {}), Error);
}

// The attacker who recomputes every hash, as the agent would have: only the signatures of the token
// tell. The folder is all there is; no journald, whose forward-secure sealing was broken
// (CVE-2023-31439).
TEST_F(AuditVerify, Fault138_Fault140_RewrittenHistoryFailsAtTheFirstSignedCheckpoint) {
  std::string text, prev(kGenesis);
  std::uint64_t seq = 0;
  const auto append = [&](const std::string& line) {
    prev = line.substr(line.rfind(",\"hash\":\"") + 9, 64);
    text += line + '\n';
    ++seq;
  };
  std::uint64_t first_checkpoint = 0;
  for (const auto& line : lines_) {
    const auto old = parse_line(line);
    ASSERT_TRUE(old);
    if (!old->is_checkpoint) {
      append(format_event(seq, WallTime{}, prev, event("sign", "forged")));
      continue;
    }
    if (first_checkpoint == 0) first_checkpoint = seq;
    append(
        format_checkpoint(seq, WallTime{}, prev, seq, {old->kid, old->algorithm, old->signature}));
  }
  const auto result = check(text);
  EXPECT_FALSE(result.ok);
  // A checkpoint over nothing (size 0) is before any forged record and still holds.
  EXPECT_LE(*result.first_bad_seq, std::max<std::uint64_t>(first_checkpoint, 9));
  EXPECT_THAT(result.text, HasSubstr("signature does not verify"));

  // Without the keys nothing is known of any checkpoint.
  const auto without = verify(folder_.folder(), {external_, {}});
  EXPECT_FALSE(without.ok);
  EXPECT_THAT(without.text, HasSubstr("no audit key was given"));
}

TEST_F(AuditVerify, Fault138_ForgedExternalCheckpointIsNotBelieved) {
  std::string forged = external_;
  const auto at = forged.find("\"signature\":\"") + 13;
  forged[at] = forged[at] == 'A' ? 'B' : 'A';
  folder_.write(joined(lines_));
  const auto result = verify(folder_.folder(), {forged, auditor_.public_keys()});
  EXPECT_FALSE(result.ok);
  EXPECT_THAT(result.text, HasSubstr("signature does not verify"));
  for (const char* text : {"", "{}", "[]", "null", R"({"size":"x"})", R"({"size":-1,"hash":1})"}) {
    EXPECT_FALSE(verify(folder_.folder(), {text, auditor_.public_keys()}).ok) << text;
  }
}

// An attacker who can write the log can compute hashes, so each record also carries its number.
TEST_F(AuditVerify, Fault137_ARecordThatCarriesAnotherNumberIsFound) {
  const AuditFolder folder;
  std::filesystem::create_directories(folder.folder());
  const auto first =
      format_event(0, folder.options().clock->now(), std::string(kGenesis), event("open"));
  const auto hash = parse_line(first)->hash;
  for (const std::uint64_t number : {1u, 0u, 2u}) {
    const auto second = format_event(number, folder.options().clock->now(), hash, event("sign"));
    folder.write(first + "\n" + second + "\n");
    const auto result = verify(folder.folder(), {});
    EXPECT_EQ(result.ok, number == 1) << number << ": " << result.text;
    if (number != 1) EXPECT_EQ(result.first_bad_seq, 1U);
  }
}

// A signature of the audit key over another number of records than are there.
TEST_F(AuditVerify, Fault138_ACheckpointOfAnotherPlaceIsFound) {
  const AuditFolder folder;
  std::filesystem::create_directories(folder.folder());
  const auto now = folder.options().clock->now();
  const auto first = format_event(0, now, std::string(kGenesis), event("open"));
  const auto hash = parse_line(first)->hash;
  for (const std::uint64_t size : {1u, 2u}) {
    const auto signature = auditor_.signer()(as_bytes(checkpoint_payload(size, hash)));
    folder.write(first + "\n" + format_checkpoint(1, now, hash, size, signature) + "\n");
    std::ofstream(folder.folder() / kCheckpointName) << format_external(size, hash, now, signature);
    const auto result = verify(folder.folder(), {{}, auditor_.public_keys()});
    EXPECT_EQ(result.ok, size == 1) << result.text;
    if (size != 1) EXPECT_THAT(result.text, HasSubstr("another position"));
  }
}

TEST_F(AuditVerify, Fault157_ACheckpointByAnUnknownKeyDoesNotVerify) {
  folder_.write(joined(lines_));
  const Auditor other;
  for (const auto& keys : {other.public_keys(), std::map<std::string, Bytes>{}}) {
    const auto result = verify(folder_.folder(), {{}, keys});
    EXPECT_FALSE(result.ok);
    EXPECT_EQ(result.checkpoints_verified, 0U);
    EXPECT_TRUE(result.first_bad_seq.has_value());
  }
}

TEST_F(AuditVerify, Fault157_AMissingCheckpointFileIsFound) {
  folder_.write(joined(lines_));
  std::filesystem::remove(folder_.folder() / kCheckpointName);
  VerifyOptions options{{}, auditor_.public_keys()};
  const auto result = verify(folder_.folder(), options);
  EXPECT_FALSE(result.ok);
  EXPECT_THAT(result.text, HasSubstr("checkpoint.json is missing"));
  options.after_crash = true;
  EXPECT_FALSE(verify(folder_.folder(), options).ok) << "a crash keeps at most the first from it";
}

// The attacker writes a forged history without a checkpoint, and the agent that finds it
// signs the next one.
TEST_F(AuditVerify, Fault157_ARewrittenHistoryIsFoundByTheAnchor) {
  const auto newest = parse_external(external_);
  ASSERT_TRUE(newest);
  std::string text, prev(kGenesis);
  for (std::uint64_t seq = 0; seq < 40; ++seq) {
    const auto line = format_event(seq, WallTime{}, prev, event("sign", "forged"));
    prev = line.substr(line.rfind(",\"hash\":\"") + 9, 64);
    text += line + '\n';
  }
  folder_.write(text);
  std::filesystem::remove(folder_.folder() / kCheckpointName);
  {
    AuditLog log(folder_.options());
    log.set_signer(auditor_.signer());
    log.checkpoint();
  }
  VerifyOptions options{{}, auditor_.public_keys()};
  EXPECT_TRUE(verify(folder_.folder(), options).ok) << "nothing in the folder shows it";
  options.anchors = {{"the token", newest->size, newest->hash, newest->kid}};
  const auto result = verify(folder_.folder(), options);
  EXPECT_FALSE(result.ok);
  EXPECT_EQ(result.first_bad_seq, newest->size);
  EXPECT_THAT(result.text, HasSubstr("the token"));
}

TEST_F(AuditVerify, Fault157_AnOlderCopyOfTheFolderIsFoundByTheAnchor) {
  // As the folder was at an earlier checkpoint.
  const auto newest = parse_external(external_);
  std::size_t last = 0;
  for (std::size_t i = 0; i + 1 < lines_.size(); ++i)
    if (parse_line(lines_[i])->is_checkpoint) last = i;
  const auto old = parse_line(lines_[last]);
  folder_.write(joined({lines_.begin(), lines_.begin() + static_cast<long>(last) + 1}));
  replace_file(folder_.folder() / kCheckpointName,
               as_bytes(format_external(old->size, old->prev, WallTime{},
                                        {old->kid, old->algorithm, old->signature})));
  VerifyOptions options{{}, auditor_.public_keys()};
  EXPECT_TRUE(verify(folder_.folder(), options).ok) << "nothing in the folder shows it";
  options.anchors = {{"the token", newest->size, newest->hash, newest->kid}};
  const auto result = verify(folder_.folder(), options);
  EXPECT_FALSE(result.ok);
  EXPECT_THAT(result.text, HasSubstr("missing"));
}

// What is written while it is verified is not part of the question.
TEST_F(AuditVerify, RecordsBeyondThoseAskedForAreLeftOut) {
  folder_.write(joined(lines_) + "{\"seq\":");
  VerifyOptions options{{}, auditor_.public_keys()};
  EXPECT_FALSE(verify(folder_.folder(), options).ok);
  options.records = lines_.size();
  EXPECT_TRUE(verify(folder_.folder(), options).ok);
}

}  // namespace
}  // namespace keyagent::audit
