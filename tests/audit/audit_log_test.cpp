// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "agent/base/error.h"
#include "tests/audit/audit_folder.h"
#include "tests/support/code_of.h"

namespace {

// The disk that the tests command: it can fail, or keep its callers waiting.
struct Disk {
  std::mutex mutex;
  std::condition_variable changed;
  bool held = false;
  int waiting = 0;
  std::atomic<int> error{0};
  std::atomic<int> syncs{0};

  void hold() {
    const std::lock_guard lock(mutex);
    held = true;
  }
  void release() {
    const std::lock_guard lock(mutex);
    held = false;
    changed.notify_all();
  }
  void await_a_waiter() {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return waiting > 0; });
  }
};
Disk g_disk;

}  // namespace

extern "C" int fdatasync(int fd) {
  {
    std::unique_lock lock(g_disk.mutex);
    ++g_disk.waiting;
    g_disk.changed.notify_all();
    g_disk.changed.wait(lock, [] { return !g_disk.held; });
    --g_disk.waiting;
  }
  ++g_disk.syncs;
  if (g_disk.error == 0) return static_cast<int>(::syscall(SYS_fdatasync, fd));
  errno = g_disk.error;
  return -1;
}

namespace keyagent::audit {
namespace {

using ::testing::HasSubstr;

TEST(AuditLog, RecordsChainAcrossARestart) {
  AuditFolder folder;
  {
    AuditLog log(folder.options());
    log.record(event("open"));
    log.record_now(event("sign"));
    EXPECT_EQ(log.size(), 2U);
  }
  AuditLog log(folder.options());
  EXPECT_EQ(log.size(), 2U);
  log.record_now(event("start", ""));
  const auto result = verify(folder.folder(), {});
  EXPECT_TRUE(result.ok) << result.text;
  EXPECT_EQ(result.records, 3U);
  struct stat info {};
  ASSERT_EQ(::stat(folder.log().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777U, 0600U);
}

TEST(AuditLog, LineHasItsFieldsInTheDocumentedOrder) {
  AuditFolder folder;
  AuditLog(folder.options()).record_now(event("open"));
  EXPECT_THAT(
      folder.text(),
      ::testing::MatchesRegex(
          "\\{\"seq\":0,\"time\":\"2026-01-01T00:00:00.000Z\",\"prev\":\"0{64}\",\"what\":\"open\","
          "\"who\":\"uid 1000\",\"pid\":4242,\"key\":\"backup-1\",\"outcome\":\"ok\","
          "\"rule\":\"backup-opens\",\"hash\":\"[0-9a-f]{64}\"\\}\n"));
}

TEST(AuditLog, TailGivesTheLastRecords) {
  AuditFolder folder;
  {
    AuditLog log(folder.options());
    for (int i = 0; i < 5; ++i) log.record_now(event("open", "key-" + std::to_string(i)));
  }
  const auto last = tail(folder.folder(), 2);
  ASSERT_EQ(last.size(), 2U);
  EXPECT_THAT(last[0], HasSubstr("key-3"));
  EXPECT_THAT(last[1], HasSubstr("key-4"));
  EXPECT_EQ(tail(folder.folder(), 100).size(), 5U);
}

TEST(AuditLog, Fault155_ARecordIsBoundedWhateverItsTextsAre) {
  AuditFolder folder;
  {
    AuditLog log(folder.options());
    for (const char c : {'x', '\x01'}) {
      Event huge = event(std::string(1U << 20U, c), std::string(1U << 20U, c));
      huge.who = huge.rule = huge.detail = huge.kid = huge.outcome = huge.what;
      log.record_now(huge);
    }
  }
  for (const auto& line : folder.lines()) {
    EXPECT_LT(line.size(), 16384U);
    EXPECT_THAT(line, HasSubstr("bytes cut]"));
  }
  EXPECT_TRUE(verify(folder.folder(), {}).ok);
}

TEST(AuditLog, TailReadsRecordsThatAreLongerThanABlock) {
  AuditFolder folder;
  std::filesystem::create_directories(folder.folder());
  std::ofstream out(folder.log(), std::ios::binary);
  for (int i = 0; i < 5; ++i)
    out << "{\"seq\":" << i << ",\"key\":\"" << std::string(100000, 'x') << "\"}\n";
  out << "{\"torn\":";
  out.close();
  for (const std::size_t count : {1U, 3U, 5U, 9U}) {
    const auto last = tail(folder.folder(), count);
    ASSERT_EQ(last.size(), std::min<std::size_t>(count, 5));
    EXPECT_EQ(last.back().substr(0, 8), "{\"seq\":4");
    EXPECT_EQ(last.front().substr(0, 7), "{\"seq\":");
  }
  EXPECT_TRUE(tail(folder.folder() / "nothing", 3).empty());
}

TEST(AuditLog, Fault141_NamesWithControlBytesCannotForgeARecord) {
  AuditFolder folder;
  const std::string evil = "x\"}\n{\"seq\":1,\"time\":\"\x1b[2J\xE2\x80\xAE\xFF";
  {
    AuditLog log(folder.options());
    Event hostile = event(evil, evil);
    hostile.who = hostile.rule = hostile.detail = hostile.kid = hostile.outcome = evil;
    log.record_now(hostile);
  }
  const auto lines = folder.lines();
  ASSERT_EQ(lines.size(), 1U);
  for (const char c : lines[0]) EXPECT_GE(static_cast<unsigned char>(c), 0x20);
  const auto json = nlohmann::json::parse(lines[0]);
  EXPECT_EQ(json["seq"], 0);
  EXPECT_EQ(json["key"], "x\"}\n{\"seq\":1,\"time\":\"\x1b[2J\xE2\x80\xAE\xC3\xBF");
  EXPECT_TRUE(verify(folder.folder(), {}).ok);
}

TEST(AuditLog, RecordDoesNotWaitForTheDiskAndOneSyncServesAll) {
  AuditFolder folder;
  AuditLog log(folder.options());
  g_disk.hold();
  log.record(event("first"));
  g_disk.await_a_waiter();
  const int syncs = g_disk.syncs;
  std::vector<std::thread> callers;
  for (int t = 0; t < 4; ++t) {
    callers.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) log.record(event("open"));
    });
  }
  for (auto& caller : callers) caller.join();  // returns while the disk stands still
  EXPECT_EQ(log.size(), 0U);
  g_disk.release();
  log.record_now(event("last"));
  EXPECT_EQ(log.size(), 4002U);
  EXPECT_LE(g_disk.syncs - syncs, 5);
  EXPECT_TRUE(verify(folder.folder(), {}).ok);
}

TEST(AuditLog, Fault142_FailedSyncRefusesEveryLaterUse) {
  AuditFolder folder;
  AuditLog log(folder.options());
  log.record_now(event("open"));
  g_disk.error = EIO;
  EXPECT_EQ(code_of([&] { log.record_now(event("sign")); }), Code::kInternal);
  g_disk.error = 0;  // a failed log stays failed after the disk recovers
  EXPECT_FALSE(log.healthy());
  EXPECT_EQ(code_of([&] { log.record(event("open")); }), Code::kInternal);
  EXPECT_EQ(code_of([&] { log.record_now(event("open")); }), Code::kInternal);
  EXPECT_EQ(log.size(), 1U);
}

TEST(AuditLog, Fault142_FullQueueRefusesInsteadOfDropping) {
  AuditFolder folder;
  AuditLog log(folder.options());
  g_disk.hold();
  log.record(event("first"));
  g_disk.await_a_waiter();
  std::uint64_t taken = 1;
  while (taken <= 65537U && code_of([&] { log.record(event("open")); }) == Code::kOk) ++taken;
  EXPECT_EQ(taken, 65537U);
  g_disk.release();
  // What was taken is written, and there is room again.
  const auto written = [&] { return code_of([&] { log.record_now(event("last")); }) == Code::kOk; };
  while (!written()) std::this_thread::yield();
  EXPECT_EQ(log.size(), taken + 1);
  EXPECT_TRUE(log.healthy());
}

// The log after a crash, truncated at every byte of its last record.
TEST(AuditLog, Fault139_TornTailIsQuarantinedAndTheChainContinues) {
  AuditFolder folder;
  {
    AuditLog log(folder.options());
    log.record_now(event("open"));
    log.record_now(event("sign"));
  }
  const std::string whole = folder.text();
  const std::size_t second = whole.find('\n') + 1;
  for (std::size_t size = second + 1; size < whole.size(); ++size) {
    folder.write(whole.substr(0, size));
    EXPECT_FALSE(verify(folder.folder(), {}).ok) << size;
    EXPECT_EQ(verify(folder.folder(), {}).first_bad_seq, 1U) << size;
    { AuditLog log(folder.options()); }
    const auto result = verify(folder.folder(), {});
    EXPECT_TRUE(result.ok) << result.text;
    EXPECT_EQ(result.records, 2U);
    const std::string torn = whole.substr(second, size - second);
    EXPECT_EQ(as_text(read_file(folder.folder() / "audit.torn-1")), torn);
    EXPECT_THAT(folder.lines()[1],
                HasSubstr("audit.torn-1, sha256 " + to_hex(sha256(as_bytes(torn)))));
  }
}

TEST(AuditLog, Fault137_BrokenChainIsNotContinued) {
  AuditFolder folder;
  {
    AuditLog log(folder.options());
    for (int i = 0; i < 3; ++i) log.record_now(event("open"));
  }
  const std::string whole = folder.text();
  for (const std::size_t at : {whole.find("open"), whole.rfind("open")}) {
    std::string changed = whole;
    changed[at] = 'O';
    folder.write(changed);
    EXPECT_EQ(code_of([&] { AuditLog log(folder.options()); }), Code::kIntegrity);
    EXPECT_EQ(folder.text(), changed) << "the evidence was touched";
  }
  folder.write(whole.substr(whole.find('\n') + 1));  // the first record is missing
  EXPECT_EQ(code_of([&] { AuditLog log(folder.options()); }), Code::kIntegrity);
}

// A child acknowledges each record that record_now() returned for; none of them may be missing
// after kill -9.
TEST(AuditLog, Fault139_KilledAtAnyMomentLosesNothingThatWasSynced) {
  AuditFolder folder;
  std::uint64_t acknowledged = 0;
  for (int round = 0; round < 15; ++round) {
    int pipe_ends[2] = {};
    ASSERT_EQ(::pipe(pipe_ends), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      AuditLog log(folder.options());
      for (;;) {
        log.record(event("open"));
        log.record_now(event("sign"));
        const std::uint64_t size = log.size();
        if (::write(pipe_ends[1], &size, sizeof size) != sizeof size) ::_exit(1);
      }
    }
    ::close(pipe_ends[1]);
    for (int i = 0; i <= round; ++i) {
      ASSERT_EQ(::read(pipe_ends[0], &acknowledged, sizeof acknowledged), 8);
    }
    ::kill(child, SIGKILL);
    ASSERT_EQ(::waitpid(child, nullptr, 0), child);
    while (::read(pipe_ends[0], &acknowledged, sizeof acknowledged) == 8) {
    }
    ::close(pipe_ends[0]);
    AuditLog log(folder.options());
    EXPECT_GE(log.size(), acknowledged);
    const auto result = verify(folder.folder(), {});
    ASSERT_TRUE(result.ok) << result.text;
  }
}

}  // namespace
}  // namespace keyagent::audit
