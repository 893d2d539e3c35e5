// SPDX-License-Identifier: Apache-2.0
// A ledger that cannot be written, on a real token.

#include <gtest/gtest.h>
#include <sqlite3.h>

#include <fstream>
#include <iterator>

#include "agent/base/disk.h"
#include "agent/base/error.h"
#include "agent/keys/key_store.h"
#include "tests/support/code_of.h"
#include "tests/support/fake_clock.h"
#include "tests/support/small_disk.h"
#include "tests/support/soft_hsm.h"

namespace keyagent::keys {
namespace {

// As an agent of an older format left it, at epoch 7.
void put_old_ledger(const std::filesystem::path& file) {
  std::ifstream in(KEYAGENT_SOURCE "/tests/keys/ledger_format_4.sql");
  const std::string sql{std::istreambuf_iterator<char>(in), {}};
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open(file.c_str(), &db), SQLITE_OK);
  EXPECT_EQ(sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK)
      << sqlite3_errmsg(db);
  sqlite3_close(db);
}

// The token must not be ahead of the file: the older program would find a rollback.
TEST(ReadOnlyLedger, Fault081_Fault084_AnOlderFormatIsMigratedInMemoryAndTheTokenKeepsItsEpoch) {
  const test::SoftHsm hsm;
  const test::TempFolder folder;
  const test::FakeClock clock;
  const auto state = folder.path() / "state";
  const test::SmallDisk disk(state);
  if (!disk.mounted()) GTEST_SKIP() << "only root may mount a file system";
  const auto remount = [&](unsigned long flags) {
    return ::mount(nullptr, state.c_str(), nullptr, MS_REMOUNT | flags, nullptr);
  };
  put_old_ledger(state / "ledger.db");
  { const FileLock lock(state / "lock"); }
  vault::TokenVault vault(hsm.open());
  vault.write_fact("ledger-epoch", "7");
  ASSERT_EQ(remount(MS_RDONLY), 0);

  KeyStore store({state, &clock, "test-agent"}, vault);
  store.reconcile();
  EXPECT_EQ(store.epoch(), 8u) << "in memory";
  EXPECT_EQ(vault.read_fact("ledger-epoch"), "7");

  ASSERT_EQ(remount(0), 0);
  ASSERT_TRUE(store.resume_changes());
  store.reconcile();
  EXPECT_EQ(store.epoch(), 8u);
  EXPECT_EQ(vault.read_fact("ledger-epoch"), "8") << "the file has it now";
}

}  // namespace
}  // namespace keyagent::keys
