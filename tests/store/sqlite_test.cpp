// SPDX-License-Identifier: Apache-2.0
// What only a file can suffer.

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <fstream>
#include <thread>

#include "agent/store/agents.h"
#include "agent/store/events.h"
#include "agent/store/schema.h"
#include "agent/store/settings.h"
#include "tests/store/plan.h"
#include "tests/store/samples.h"
#include "tests/support/temp_folder.h"

namespace keyagent::store {
namespace {

namespace fs = std::filesystem;

class SqliteStore : public ::testing::Test {
 protected:
  fs::path file() const { return folder_.path() / "in here" / "a=b;'c.db"; }
  Options options(std::size_t connections = 4) const {
    return {"sqlite://" + file().string(), connections};
  }
  Code open_code() const {
    return code_of([&] { Store store(options()); });
  }
  static unsigned mode_of(const fs::path& path) {
    return static_cast<unsigned>(fs::status(path).permissions());
  }
  // The page that holds `text`, and all after it, filled with garbage.
  void damage(const std::string& text) const {
    std::fstream out(file(), std::ios::binary | std::ios::in | std::ios::out);
    const std::string all((std::istreambuf_iterator<char>(out)), {});
    const auto place = all.find(text);
    ASSERT_NE(place, std::string::npos);
    const auto page = place / 4096 * 4096;
    out.seekp(static_cast<std::streamoff>(page));
    out << std::string(all.size() - page, '\x5a');
  }

  test::TempFolder folder_;
};

TEST_F(SqliteStore, FilesAreForTheirOwnerOnly) {
  Store store(options());
  store.settings().set("a", "b");
  EXPECT_EQ(mode_of(file().parent_path()), 0700u);
  for (const auto& entry : fs::directory_iterator(file().parent_path()))
    EXPECT_EQ(mode_of(entry), 0600u) << entry.path();
  EXPECT_TRUE(fs::exists(file().string() + "-wal"));
}

TEST_F(SqliteStore, FileThatOthersMayReadOrALinkIsRefused) {
  { Store store(options()); }
  fs::permissions(file(), fs::perms(0640));
  EXPECT_EQ(open_code(), Code::kConfiguration);
  fs::permissions(file(), fs::perms(0600));
  EXPECT_EQ(open_code(), Code::kOk);
  fs::rename(file(), folder_.path() / "elsewhere.db");
  fs::create_symlink(folder_.path() / "elsewhere.db", file());
  EXPECT_EQ(open_code(), Code::kConfiguration);
}

TEST_F(SqliteStore, EveryConnectionSyncsCommitsAndChecksReferences) {
  Database database(options(1));
  const auto pragma = [&](const char* name) {
    return database.read([&](Sql& sql) {
      return sql.first<std::string>(std::string("SELECT * FROM pragma_") + name).value_or("");
    });
  };
  EXPECT_EQ(pragma("synchronous"), "2");
  EXPECT_EQ(pragma("foreign_keys"), "1");
  EXPECT_EQ(pragma("journal_mode"), "wal");
  EXPECT_EQ(pragma("trusted_schema"), "0");
}

TEST_F(SqliteStore, FileThatIsNotADatabaseIsRefusedAndKept) {
  fs::create_directories(file().parent_path());
  std::ofstream(file()) << std::string(8192, 'x');
  fs::permissions(file(), fs::perms(0600));
  EXPECT_EQ(open_code(), Code::kIntegrity);
  EXPECT_EQ(fs::file_size(file()), 8192u);
}

TEST_F(SqliteStore, DatabaseOfAnotherProgramIsRefused) {
  Database other(options());
  other.write([](Sql& sql) { sql.run("CREATE TABLE keys (kid TEXT)"); });
  EXPECT_EQ(open_code(), Code::kIntegrity);
}

TEST_F(SqliteStore, DamagedPageIsReportedAsDamageAndNothingIsMadeUp) {
  {
    Store store(options());
    for (int i = 0; i < 200; ++i)
      store.settings().set("setting-" + std::to_string(i), std::string(200, 'v'));
  }
  damage("setting-50");
  const auto code = code_of([&] {
    Store store(options());
    for (int i = 0; i < 200; ++i) EXPECT_TRUE(store.settings().get("setting-" + std::to_string(i)));
  });
  EXPECT_EQ(code, Code::kIntegrity);
}

TEST_F(SqliteStore, ColumnThatThisProgramDidNotWriteIsDamage) {
  Store store(options());
  store.agents().add(sample_agent("host-1"));
  Database database(options());
  for (const char* column : {"auth_spki", "group_names"}) {
    database.write(
        [&](Sql& sql) { sql.run(std::string("UPDATE agents SET ") + column + " = '*'"); });
    EXPECT_EQ(code_of([&] { store.agents().all(); }), Code::kIntegrity) << column;
    database.write([&](Sql& sql) {
      sql.run(std::string("UPDATE agents SET ") + column + " = '[]', auth_spki = ''");
    });
    EXPECT_EQ(code_of([&] { store.agents().all(); }), Code::kOk);
  }
}

TEST_F(SqliteStore, NoQueryOfTheStoreReadsAWholeTable) {
  Store store(options());
  Database database(options());
  for (const std::string query :
       {"FROM agents WHERE auth_kid = 'x' AND auth_kid <> ''", "FROM agents WHERE id = 'x'",
        "FROM sealed_copies WHERE agent = 'x' AND kid = 'y' ORDER BY credential",
        "FROM sealed_copies WHERE agent = 'x' GROUP BY kid ORDER BY kid",
        "FROM sealed_copies WHERE credential = 'x'",
        "FROM rekeys WHERE state NOT IN ('confirmed', 'failed', 'cancelled') ORDER BY id",
        "FROM rekeys WHERE 1 = 1 AND agent = 'x' ORDER BY id",
        "FROM certificates WHERE agent = 'x' ORDER BY not_before",
        "FROM events WHERE seq > 7 ORDER BY seq LIMIT 3", "FROM logins WHERE expires <= 7"}) {
    const auto plan = database.read([&](Sql& sql) { return plan_of(sql, "SELECT 1 " + query); });
    for (const auto& line : plan) {
      const bool whole = line.starts_with("SCAN") && line.find("INDEX") == std::string::npos;
      EXPECT_FALSE(whole || line.find("TEMP B-TREE") != std::string::npos) << query << ": " << line;
    }
  }
}

TEST_F(SqliteStore, BackupWhileOthersWriteIsWholeAndForItsOwnerOnly) {
  Store store(options());
  std::atomic<bool> stop = false;
  std::thread writer([&] {
    while (!stop)
      store.events().add({.at = kNow,
                          .actor = "",
                          .action = "",
                          .subject = "",
                          .outcome = "done",
                          .text = std::string(500, 'x')});
  });
  while (store.events().list(50, 1).empty()) std::this_thread::yield();
  const auto copy = folder_.path() / "backup of it.db";
  store.backup(copy);
  stop = true;
  writer.join();
  EXPECT_EQ(mode_of(copy), 0600u);
  Store restored({"sqlite://" + copy.string(), 1});
  const auto events = restored.events().list(0, 1'000'000);
  ASSERT_GE(events.size(), 51u);
  EXPECT_EQ(events.back().seq, static_cast<std::int64_t>(events.size()));
  EXPECT_EQ(restored.events().add(events.back()), events.back().seq + 1);
}

TEST_F(SqliteStore, BackupOverAFileIsRefusedAndAFailedOneLeavesNone) {
  Store store(options());
  const auto copy = folder_.path() / "backup.db";
  std::ofstream(copy) << "precious";
  EXPECT_EQ(code_of([&] { store.backup(copy); }), Code::kConfiguration);
  EXPECT_EQ(fs::file_size(copy), 8u);
  EXPECT_EQ(code_of([&] { store.backup(folder_.path() / "none" / "b.db"); }), Code::kConfiguration);
  EXPECT_EQ(code_of([&] { store.backup("/dev/full"); }), Code::kConfiguration);
}

TEST_F(SqliteStore, UrlThatNamesNoStoreIsRefusedWithoutRepeatingIt) {
  for (const char* url :
       {"", "instance.db", "/tmp/canary.db", "sqlite://canary.db", "sqlite:///tmp/canary?mode=ro",
        "mysql://canary/", "postgresql://u:canary@localhost/x",
        "postgresql://localhost/x?password=canary", "postgresql://[canary/x"}) {
    try {
      Store store({url, 1});
      ADD_FAILURE() << url << " was opened";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kConfiguration) << url;
      EXPECT_EQ(std::string(error.what()).find("canary"), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace keyagent::store
