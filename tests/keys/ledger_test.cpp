// SPDX-License-Identifier: Apache-2.0
#include "agent/keys/ledger.h"

#include <gtest/gtest.h>
#include <sqlite3.h>

#include <fstream>
#include <functional>
#include <iterator>

#include "agent/base/clock.h"
#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "tests/support/code_of.h"
#include "tests/support/small_disk.h"
#include "tests/support/temp_folder.h"

namespace keyagent::keys {
namespace {

JournalStep step_of(const char* name) {
  JournalStep step;
  step.cka_id = CkaId::random();
  step.planned.cka_id = step.cka_id;
  step.planned.name = KeyName(name);
  return step;
}

KeyRecord record_of_step(const JournalStep& step) {
  KeyRecord record = step.planned;
  record.spki = random_bytes(91);
  record.kid = Kid(to_base64url(random_bytes(32)));
  record.reason = "created";
  return record;
}

std::string slurp(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

class LedgerTest : public ::testing::Test {
 protected:
  std::filesystem::path file() const { return folder_.path() / "ledger.db"; }
  void run(const std::string& sql) const {
    sqlite3* db = nullptr;
    ASSERT_EQ(sqlite3_open(file().c_str(), &db), SQLITE_OK);
    EXPECT_EQ(sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK)
        << sqlite3_errmsg(db);
    sqlite3_close(db);
  }
  test::TempFolder folder_;
};

TEST_F(LedgerTest, WhatWasRecordedIsReadBackAfterReopening) {
  const auto step = step_of("one");
  const auto record = record_of_step(step);
  std::string digest;
  {
    Ledger ledger(file());
    ledger.begin_step(step);
    EXPECT_EQ(ledger.load().journal.size(), 1u);
    ledger.finish_create(record);
    digest = ledger.load().digest;
  }
  const auto state = Ledger(file()).load();
  ASSERT_EQ(state.keys.size(), 1u);
  EXPECT_EQ(state.keys[0].kid, record.kid);
  EXPECT_EQ(state.keys[0].spki, record.spki);
  EXPECT_TRUE(state.journal.empty());
  EXPECT_EQ(state.digest, digest);
}

TEST_F(LedgerTest, X2_WhereAKeyComesFromAndWhetherItMayLeaveIsPartOfTheTruth) {
  auto step = step_of("data.customers");
  step.planned.exchangeable = true;
  step.planned.accepts_cbc = true;
  step.planned.origin = "imported from somebody, request 1";
  {
    Ledger ledger(file());
    ledger.begin_step(step);
    const auto planned = ledger.load().journal.at(0).planned;
    EXPECT_TRUE(planned.exchangeable);
    EXPECT_TRUE(planned.accepts_cbc);
    EXPECT_EQ(planned.origin, step.planned.origin);
    ledger.finish_create(record_of_step(step));
    const auto key = ledger.load().keys.at(0);
    EXPECT_TRUE(key.exchangeable);
    EXPECT_TRUE(key.accepts_cbc);
    EXPECT_EQ(key.origin, step.planned.origin);
  }
  run("UPDATE keys SET exchangeable=0");
  EXPECT_EQ(code_of([&] { Ledger(file()).load(); }), Code::kIntegrity);
  run("UPDATE keys SET exchangeable=1, accepts_cbc=0");
  EXPECT_EQ(code_of([&] { Ledger(file()).load(); }), Code::kIntegrity);
}

TEST_F(LedgerTest, EveryChangeRaisesTheEpochByOne) {
  Ledger ledger(file());
  const auto before = ledger.load().epoch;
  const auto step = step_of("one");
  ledger.begin_step(step);
  EXPECT_EQ(ledger.load().epoch, before + 1);
  ledger.drop_step(step.cka_id);
  EXPECT_EQ(ledger.load().epoch, before + 2);
}

TEST_F(LedgerTest, Fault088_ANewerFormatIsRefusedAndNotTouched) {
  { Ledger ledger(file()); }
  sqlite3* db = nullptr;
  sqlite3_open(file().c_str(), &db);
  sqlite3_exec(db, "PRAGMA user_version=99; PRAGMA wal_checkpoint(TRUNCATE);", nullptr, nullptr,
               nullptr);
  sqlite3_close(db);
  const auto newer = slurp(file());
  for (int start = 0; start < 2; ++start)
    EXPECT_EQ(code_of([&] { Ledger ledger(file()); }), Code::kIntegrity);
  EXPECT_EQ(slurp(file()), newer) << "not a byte of it";
}

TEST_F(LedgerTest, Fault086_ARowEditedBehindTheDigestIsIntegrity) {
  const auto step = step_of("one");
  {
    Ledger ledger(file());
    ledger.begin_step(step);
    ledger.finish_create(record_of_step(step));
  }
  sqlite3* db = nullptr;
  sqlite3_open(file().c_str(), &db);
  sqlite3_exec(db, "UPDATE keys SET state='destroyed'", nullptr, nullptr, nullptr);
  sqlite3_close(db);
  EXPECT_EQ(code_of([&] { Ledger(file()).load(); }), Code::kIntegrity);
}

TEST_F(LedgerTest, Fault086_NoFlippedByteIsEverPartlyApplied) {
  const auto step = step_of("one");
  LedgerState good;
  {
    Ledger ledger(file());
    ledger.begin_step(step);
    ledger.finish_create(record_of_step(step));
    good = ledger.load();
  }
  const std::string bytes = slurp(file());
  int refused = 0, same = 0;
  // Every byte of the header page, and a prime stride over the rest (every table page is hit many
  // times).
  for (std::size_t at = 0; at < bytes.size(); at += at < 200 ? 1 : 13) {
    std::string spoiled = bytes;
    spoiled[at] = static_cast<char>(spoiled[at] ^ 0x20);
    const auto copy = folder_.path() / "copy.db";
    std::filesystem::remove(copy.string() + "-wal");
    std::filesystem::remove(copy.string() + "-shm");
    std::ofstream(copy, std::ios::binary) << spoiled;
    try {
      const auto state = Ledger(copy).load();
      ASSERT_EQ(state.digest, good.digest) << "byte " << at;
      ASSERT_EQ(state.keys.size(), good.keys.size()) << "byte " << at;
      ++same;  // a byte that carries nothing, or a free page
    } catch (const Error& error) {
      ASSERT_TRUE(error.code() == Code::kIntegrity || error.code() == Code::kInternal ||
                  error.code() == Code::kConfiguration)
          << error.what();
      ++refused;
    }
  }
  EXPECT_GT(refused, 50);
  EXPECT_GT(same, 0);
}

TEST_F(LedgerTest, T3_ACertificateIsReplacedWholeAndPartOfTheDigest) {
  const auto record = record_of_step(step_of("web"));
  const auto when = parse_rfc3339("2026-11-21T07:05:05.431Z");
  {
    Ledger ledger(file());
    ledger.record_certificate({record.kid, {{1, 2}, {3}, {4}}, when, "uid 1000"});
    ledger.record_certificate({record.kid, {{5}, {6}}, when, "uid 1001"});
    const auto found = ledger.load().certificates.at(record.kid);
    EXPECT_EQ(found.chain, (std::vector<Bytes>{{5}, {6}}));
    EXPECT_EQ(found.installed, when);
    EXPECT_EQ(found.actor, "uid 1001");
  }
  run("UPDATE certificates SET der=X'07' WHERE place=0");
  EXPECT_EQ(code_of([&] { Ledger(file()).load(); }), Code::kIntegrity);
  run("UPDATE certificates SET der=X'05' WHERE place=0");
  Ledger ledger(file());
  ledger.record_certificate({record.kid, {}, when, "uid 1000"});
  EXPECT_TRUE(ledger.load().certificates.empty());
}

// Real ledgers that agents of older formats wrote.
class FormatOneTest : public LedgerTest {
 protected:
  FormatOneTest() { run(slurp(KEYAGENT_SOURCE "/tests/keys/ledger_format_1.sql")); }
};

class FormatTwoTest : public LedgerTest {
 protected:
  FormatTwoTest() { run(slurp(KEYAGENT_SOURCE "/tests/keys/ledger_format_2.sql")); }
};

class FormatThreeTest : public LedgerTest {
 protected:
  FormatThreeTest() { run(slurp(KEYAGENT_SOURCE "/tests/keys/ledger_format_3.sql")); }
};

class FormatFourTest : public LedgerTest {
 protected:
  FormatFourTest() { run(slurp(KEYAGENT_SOURCE "/tests/keys/ledger_format_4.sql")); }
};

TEST_F(FormatThreeTest, IsBroughtToTheNewFormatWithKeysThatStayWhereTheyAre) {
  for (int start = 0; start < 2; ++start) {
    Ledger ledger(file());
    const auto state = ledger.load();
    EXPECT_EQ(state.epoch, 8u) << "bringing it over is one change";
    ASSERT_EQ(state.keys.size(), 1u);
    EXPECT_EQ(state.keys[0].name, KeyName("web"));
    EXPECT_FALSE(state.keys[0].exchangeable);
    EXPECT_TRUE(state.keys[0].origin.empty());
    EXPECT_EQ(state.rekeys.size(), 1u);
    EXPECT_EQ(state.census->entries.size(), 1u);
    EXPECT_EQ(state.certificates.size(), 1u);
  }
}

TEST_F(FormatFourTest, IsBroughtToTheNewFormatWithKeysThatAcceptNoCbcContent) {
  for (int start = 0; start < 2; ++start) {
    Ledger ledger(file());
    const auto state = ledger.load();
    EXPECT_EQ(state.epoch, 8u) << "bringing it over is one change";
    ASSERT_EQ(state.keys.size(), 3u);
    for (const auto& key : state.keys) EXPECT_FALSE(key.accepts_cbc) << key.name.text();
    EXPECT_EQ(state.keys[1].name, KeyName("credentials"));
    EXPECT_TRUE(state.keys[2].exchangeable);
  }
}

TEST_F(FormatThreeTest, AModifiedLedgerIsRefusedInsteadOfMigrated) {
  run("UPDATE certificates SET der=X'02'");
  EXPECT_EQ(code_of([&] { Ledger ledger(file()); }), Code::kIntegrity);
  EXPECT_EQ(code_of([&] { Ledger ledger(file()); }), Code::kIntegrity);
}

TEST_F(FormatOneTest, IsBroughtToTheNewFormatWithEveryKey) {
  for (int start = 0; start < 2; ++start) {
    Ledger ledger(file());
    const auto state = ledger.load();
    EXPECT_EQ(state.epoch, 10u) << "bringing it over is one change";
    ASSERT_EQ(state.keys.size(), 3u);
    EXPECT_EQ(state.keys[1].name, KeyName("credentials"));
    EXPECT_EQ(state.keys[1].state, KeyState::kActive);
    EXPECT_EQ(state.keys[1].envelope, EnvelopeAlgorithm::kEcdhEsA256Kw);
    EXPECT_EQ(state.keys[1].activated, state.keys[1].created)
        << "its cryptoperiod counts from there";
    EXPECT_EQ(state.keys[2].state, KeyState::kDestroyed);
    EXPECT_EQ(state.keys[2].reason, "it's over");
    EXPECT_TRUE(state.rekeys.empty());
  }
  Ledger ledger(file());
  RekeyRecord rekey;
  rekey.name = KeyName("credentials");
  rekey.cka_id = CkaId::random();
  rekey.old_kid = ledger.load().keys[1].kid;
  EXPECT_EQ(ledger.begin_rekey(rekey).id, 1u);
}

TEST_F(FormatOneTest, AModifiedLedgerIsRefusedInsteadOfMigrated) {
  run("UPDATE keys SET state='active' WHERE name='gone'");
  EXPECT_EQ(code_of([&] { Ledger ledger(file()); }), Code::kIntegrity);
  EXPECT_EQ(code_of([&] { Ledger ledger(file()); }), Code::kIntegrity);
}

TEST_F(FormatTwoTest, Fault088_IsBroughtToTheNewFormatWithTheRekeyInProgress) {
  for (int start = 0; start < 2; ++start) {
    Ledger ledger(file());
    const auto state = ledger.load();
    EXPECT_EQ(state.epoch, 6u) << "bringing it over is one change";
    ASSERT_EQ(state.keys.size(), 1u);
    EXPECT_EQ(state.keys[0].name, KeyName("web"));
    EXPECT_EQ(state.keys[0].actor, "uid 1000 (alice)");
    ASSERT_EQ(state.rekeys.size(), 1u);
    EXPECT_EQ(state.rekeys[0].step, RekeyStep::kPlanned);
    ASSERT_EQ(state.census->entries.size(), 1u);
    EXPECT_EQ(state.census->entries[0].count, 3u);
    EXPECT_EQ(ledger.history(state.keys[0].kid).size(), 1u);
    EXPECT_EQ(ledger.noted_under("used/").size(), 1u);
    EXPECT_TRUE(state.certificates.empty());
  }
  Ledger ledger(file());
  ledger.record_certificate({ledger.load().keys[0].kid, {{1}}, {}, "uid 0"});
  EXPECT_EQ(ledger.load().certificates.size(), 1u);
}

TEST_F(FormatTwoTest, AModifiedLedgerIsRefusedInsteadOfMigrated) {
  run("UPDATE census SET count=0");
  EXPECT_EQ(code_of([&] { Ledger ledger(file()); }), Code::kIntegrity);
  EXPECT_EQ(code_of([&] { Ledger ledger(file()); }), Code::kIntegrity);
}

// A separate file system, so that root cannot write it either.
TEST_F(LedgerTest, Fault081_ReadOnlyFolderIsReadWithWhatIsInTheWriteAheadLogAndReopened) {
  const test::SmallDisk disk(folder_.path() / "disk");
  if (!disk.mounted()) GTEST_SKIP() << "only root may mount a file system";
  const auto on_disk = folder_.path() / "disk/ledger.db";
  const auto step = step_of("one");
  const auto record = record_of_step(step);
  std::string digest;
  {
    Ledger ledger(file());
    ledger.begin_step(step);
    ledger.finish_create(record);
    ledger.note("a", "before");
    digest = ledger.load().digest;
    // As a crash leaves it: the last changes are only in the write-ahead log.
    for (const char* suffix : {"", "-wal"})
      std::filesystem::copy_file(file().string() + suffix, on_disk.string() + suffix);
    ASSERT_GT(std::filesystem::file_size(on_disk.string() + "-wal"), 0u);
  }
  const auto remount = [&](unsigned long flags) {
    return ::mount(nullptr, (folder_.path() / "disk").c_str(), nullptr, MS_REMOUNT | flags,
                   nullptr);
  };
  ASSERT_EQ(remount(MS_RDONLY), 0);
  Ledger ledger(on_disk);
  EXPECT_EQ(ledger.read_only(), "Read-only file system");
  EXPECT_EQ(ledger.load().digest, digest);
  EXPECT_EQ(ledger.load().keys.size(), 1u);
  EXPECT_EQ(code_of([&] { ledger.begin_step(step_of("two")); }), Code::kKeyState);
  ledger.note("a", "meanwhile");
  EXPECT_FALSE(ledger.reopen());
  ASSERT_EQ(remount(0), 0);
  ASSERT_TRUE(ledger.reopen());
  EXPECT_TRUE(ledger.read_only().empty());
  EXPECT_EQ(ledger.load().digest, digest);
  EXPECT_EQ(ledger.noted("a"), "meanwhile");
  ledger.begin_step(step_of("two"));
  EXPECT_EQ(ledger.load().journal.size(), 1u);
}

// Format 5 took every row of the census into its digest; its tables are those of today.
class FormatFiveTest : public LedgerTest {
 protected:
  FormatFiveTest() {
    Ledger ledger(file());
    for (const std::string source : {"/srv/b", "/srv/a"}) {
      const CensusEntry entry{source, Kid(to_base64url(random_bytes(32))), 3, {}, "uid 1000"};
      ledger.record_census(source, {entry});
    }
    run("UPDATE meta SET value='" + digest_of_format_5() +
        "' WHERE name='digest'; PRAGMA user_version=5");
  }
  std::string digest_of_format_5() const {
    sqlite3* db = nullptr;
    EXPECT_EQ(sqlite3_open(file().c_str(), &db), SQLITE_OK);
    std::string canonical = "keyagent-ledger-v5;";
    const auto each_row = [&](const std::string& sql,
                              const std::function<void(sqlite3_stmt*)>& row) {
      sqlite3_stmt* statement = nullptr;
      EXPECT_EQ(sqlite3_prepare_v2(db, sql.c_str(), -1, &statement, nullptr), SQLITE_OK);
      while (sqlite3_step(statement) == SQLITE_ROW) row(statement);
      sqlite3_finalize(statement);
    };
    const auto text_at = [](sqlite3_stmt* row, int column) {
      const auto* bytes = static_cast<const char*>(sqlite3_column_blob(row, column));
      const auto size = static_cast<std::size_t>(sqlite3_column_bytes(row, column));
      return bytes == nullptr ? std::string() : std::string(bytes, size);
    };
    each_row("SELECT value FROM meta WHERE name='epoch'",
             [&](auto* row) { canonical += text_at(row, 0) + ";"; });
    for (const std::string table :
         {"keys ORDER BY cka_id", "journal ORDER BY cka_id", "history ORDER BY seq",
          "rekeys ORDER BY id", "census ORDER BY source, kid",
          "certificates ORDER BY kid, place"}) {
      each_row("SELECT * FROM " + table, [&](auto* row) {
        for (int column = 0; column < sqlite3_column_count(row); ++column) {
          const auto field = text_at(row, column);
          canonical += std::to_string(field.size()) + ":" + field + ";";
        }
        canonical += "\n";
      });
      canonical += "--\n";
    }
    sqlite3_close(db);
    return to_hex(sha256(as_bytes(canonical)));
  }
};

TEST_F(FormatFiveTest, IsBroughtToTheNewFormatWithItsCensus) {
  for (int start = 0; start < 2; ++start) {
    Ledger ledger(file());
    const auto state = ledger.load();
    EXPECT_EQ(state.epoch, 4u) << "bringing it over is one change";
    ASSERT_EQ(state.census->entries.size(), 2u);
    EXPECT_EQ(state.census->entries[0].source, "/srv/a");
  }
  run("UPDATE census SET count=0 WHERE source='/srv/b'");
  EXPECT_EQ(code_of([&] { Ledger(file()).load(); }), Code::kIntegrity) << "the new digest has it";
}

TEST_F(FormatFiveTest, AModifiedLedgerIsRefusedInsteadOfMigrated) {
  run("UPDATE census SET count=0 WHERE source='/srv/b'");
  EXPECT_EQ(code_of([&] { Ledger ledger(file()); }), Code::kIntegrity);
  EXPECT_EQ(code_of([&] { Ledger ledger(file()); }), Code::kIntegrity);
}

}  // namespace
}  // namespace keyagent::keys
