// SPDX-License-Identifier: Apache-2.0
// The ledger's journal as a crash or a bad disk leaves it.

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <vector>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/keys/key_store.h"
#include "agent/keys/ledger.h"
#include "tests/support/code_of.h"
#include "tests/support/fake_clock.h"
#include "tests/support/soft_hsm.h"

namespace keyagent::keys {
namespace {

namespace fs = std::filesystem;

std::string bytes_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
void put_bytes(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

// A ledger's files at one moment, as a power cut would leave them.
struct Files {
  std::string database, journal;
};
Files files_of(const fs::path& folder) {
  return {bytes_of(folder / "ledger.db"), bytes_of(folder / "ledger.db-wal")};
}
void put_files(const fs::path& folder, const Files& files) {
  fs::remove_all(folder);
  fs::create_directories(folder);
  fs::permissions(folder, fs::perms::owner_all);
  put_bytes(folder / "ledger.db", files.database);
  put_bytes(folder / "ledger.db-wal", files.journal);
}

void begin_step_of(Ledger& ledger, const char* name) {
  JournalStep step;
  step.cka_id = CkaId::random();
  step.planned.cka_id = step.cka_id;
  step.planned.name = KeyName(name);
  ledger.begin_step(step);
}

TEST(JournalDamage, Fault077_ATornTailIsCutAndEveryAcknowledgedRecordIsThere) {
  const test::TempFolder folder;
  Ledger ledger(folder.path() / "ledger.db");
  for (const char* name : {"one", "two", "three"}) begin_step_of(ledger, name);
  const auto acknowledged = ledger.load();
  const auto before = files_of(folder.path());
  begin_step_of(ledger, "four");
  const auto after = ledger.load();
  const auto whole = files_of(folder.path());
  ASSERT_GT(whole.journal.size(), before.journal.size());
  ASSERT_EQ(whole.database, before.database) << "nothing went over yet";
  const auto copy = folder.path() / "copy";
  int cut = 0;
  for (std::size_t size = before.journal.size(); size <= whole.journal.size();
       size += size + 61 < whole.journal.size() ? 61 : 1) {
    for (const bool garbage : {false, true}) {
      auto torn = whole;
      torn.journal.resize(size);
      if (garbage) torn.journal.resize(whole.journal.size(), '\x5a');
      put_files(copy, torn);
      const auto state = Ledger(copy / "ledger.db").load();
      if (size < whole.journal.size()) {
        EXPECT_EQ(state.digest, acknowledged.digest) << "cut at " << size;
        EXPECT_EQ(state.journal.size(), 3u);
        ++cut;
      } else {
        EXPECT_EQ(state.digest, after.digest);
      }
    }
  }
  EXPECT_GT(cut, 100);
}

// When SQLite drops damaged parts of the journal, the ledger is older than the token's epoch.
TEST(JournalDamage, Fault077_DamageBeforeTheTailIsIntegrityAndNothingIsSigned) {
  const test::SoftHsm hsm;
  const test::TempFolder folder;
  const test::FakeClock clock;
  vault::TokenVault vault(hsm.open());
  const auto state = folder.path() / "state", copy = folder.path() / "copy";
  Files files;
  KeyRecord record;
  std::string digest;
  {
    KeyStore store({state, &clock, "test-agent"}, vault);
    store.reconcile();
    record = store.create({KeyName("one"), Purpose::kSign, {}, {}}).record;
    store.create({KeyName("two"), Purpose::kSign, {}, {}});
    files = files_of(state);
    digest = store.digest();
  }
  ASSERT_GT(files.journal.size(), 8192u);
  const auto objects = vault.objects().size();
  int refused = 0, whole = 0;
  const auto tail = files.journal.size() - 4096;
  for (std::size_t at = 0; at < files.journal.size(); at += at < tail ? 4001 : 211) {
    auto damaged = files;
    damaged.journal[at] = static_cast<char>(damaged.journal[at] ^ 0x20);
    put_files(copy, damaged);
    const auto used = code_of([&] {
      KeyStore store({copy, &clock, "test-agent"}, vault);
      store.reconcile();
      EXPECT_EQ(store.digest(), digest) << "an older ledger was taken: byte " << at;
      store.ops().sign(record.kid, SignatureAlgorithm::kEs256, random_bytes(32));
    });
    EXPECT_TRUE(used == Code::kOk || used == Code::kIntegrity)
        << "byte " << at << ": " << code_name(used);
    ++(used == Code::kOk ? whole : refused);
  }
  EXPECT_GT(refused, 10) << whole << " were whole";
  EXPECT_EQ(vault.objects().size(), objects) << "nothing of the token was removed";
}

}  // namespace
}  // namespace keyagent::keys
