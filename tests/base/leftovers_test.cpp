// SPDX-License-Identifier: Apache-2.0
#include "agent/base/leftovers.h"

#include <gmock/gmock.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <set>
#include <string>

#include "agent/base/disk.h"
#include "tests/support/temp_folder.h"

namespace keyagent {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::set<std::string> names_in(const std::filesystem::path& folder) {
  std::set<std::string> names;
  for (const auto& file : std::filesystem::directory_iterator(folder))
    names.insert(file.path().filename().string());
  return names;
}

// A process that the kernel kills while it writes the new content.
void be_killed_in_replace_file(const std::filesystem::path& path) {
  const pid_t child = ::fork();
  if (child == 0) {
    const rlimit none{0, 0}, small{10, 10};
    ::setrlimit(RLIMIT_CORE, &none);
    ::setrlimit(RLIMIT_FSIZE, &small);
    std::signal(SIGXFSZ, SIG_DFL);
    try {
      for (;;) replace_file(path, as_bytes(std::string(100, 'x')));
    } catch (...) {
    }
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status)) << status;
}

TEST(Leftovers, Fault041_WhatAKilledProcessLeftIsRemoved) {
  const test::TempFolder folder;
  for (int i = 0; i < 3; ++i) be_killed_in_replace_file(folder.path() / "link.json");
  ASSERT_EQ(names_in(folder.path()).size(), 3u);
  remove_leftovers(folder.path(), "other.json");
  remove_leftovers(folder.path(), "link");
  EXPECT_EQ(names_in(folder.path()).size(), 3u) << "of another file";
  remove_leftovers(folder.path(), "link.json", std::chrono::hours(1));
  EXPECT_EQ(names_in(folder.path()).size(), 3u) << "another process may be writing them";
  remove_leftovers(folder.path(), "link.json");
  EXPECT_THAT(names_in(folder.path()), IsEmpty());
}

TEST(Leftovers, Fault041_NothingElseIsRemoved) {
  const test::TempFolder folder;
  const auto put = [&](const char* name) { replace_file(folder.path() / name, as_bytes("x")); };
  const std::set<std::string> kept{"link.json",
                                   ".link.json",
                                   ".link.json.backup",
                                   ".link.json.AbC123",
                                   ".link.jsontmp-AbC123",
                                   ".link.json.tmp-AbC12",
                                   ".link.json.tmp-AbC1234",
                                   ".link.json.tmp-AbC-23",
                                   "a.link.json.tmp-AbC123",
                                   "..tmp-AbC123",
                                   ".tmp-AbC123"};
  for (const auto& name : kept) put(name.c_str());
  std::filesystem::create_directory(folder.path() / ".link.json.tmp-Folder");
  std::filesystem::create_symlink("link.json", folder.path() / ".link.json.tmp-ALinkX");
  put(".link.json.tmp-TwoNam");
  std::filesystem::create_hard_link(folder.path() / ".link.json.tmp-TwoNam",
                                    folder.path() / "second");
  const auto before = names_in(folder.path());
  for (const char* name : {"link.json", ""}) remove_leftovers(folder.path(), name);
  EXPECT_EQ(names_in(folder.path()), before);
  remove_leftovers(folder.path() / "absent", "");
  remove_leftovers(folder.path() / "link.json", "");
}

TEST(Leftovers, Fault041_AFileOfAnotherUserStays) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root may give a file away";
  const test::TempFolder folder;
  replace_file(folder.path() / ".link.json.tmp-AbC123", as_bytes("x"));
  ASSERT_EQ(::chown((folder.path() / ".link.json.tmp-AbC123").c_str(), 61190, 61190), 0);
  remove_leftovers(folder.path(), "link.json");
  EXPECT_THAT(names_in(folder.path()), ElementsAre(".link.json.tmp-AbC123"));
}

}  // namespace
}  // namespace keyagent
