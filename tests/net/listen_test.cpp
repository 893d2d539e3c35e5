// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gmock/gmock.h>

#include <fstream>

#include "harness.h"

namespace keyagent::net {
namespace {

namespace fs = std::filesystem;

// The code and text of what listen_unix() throws; kOk when it does not.
std::pair<Code, std::string> refusal(const fs::path& path, const std::string& group = "") {
  try {
    listen_unix(path, 0600, group);
    return {Code::kOk, ""};
  } catch (const Error& error) {
    return {error.code(), error.what()};
  }
}

testing::Matcher<std::pair<Code, std::string>> refused(Code code, const std::string& word) {
  return testing::Pair(code, testing::HasSubstr(word));
}

TEST(ListenUnix, SocketHasTheModeAskedFor) {
  Folder folder;
  const Fd fd = listen_unix(folder.socket(), 0660, "");
  struct stat found {};
  ASSERT_EQ(::lstat(folder.socket().c_str(), &found), 0);
  EXPECT_TRUE(S_ISSOCK(found.st_mode));
  EXPECT_EQ(found.st_mode & 07777, 0660u);
  EXPECT_NE(::fcntl(fd.get(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST(ListenUnix, StaleSocketIsReplaced) {
  Folder folder;
  { const Fd gone = listen_unix(folder.socket(), 0600, ""); }
  ASSERT_TRUE(fs::exists(folder.socket()));
  EXPECT_EQ(refusal(folder.socket()).first, Code::kOk);
}

TEST(ListenUnix, Fault113_SocketOfARunningAgentIsLeftAloneAndItsPidNamed) {
  Folder folder;
  const Fd first = listen_unix(folder.socket(), 0600, "");
  EXPECT_THAT(refusal(folder.socket()), refused(Code::kBusy, std::to_string(::getpid())));
  EXPECT_TRUE(RawPeer(folder.socket()).connected());
}

TEST(ListenUnix, Fault113_FileAndSymbolicLinkAtThePathAreRefused) {
  Folder folder;
  std::ofstream(folder.socket()) << "mine";
  EXPECT_THAT(refusal(folder.socket()), refused(Code::kConfiguration, "not a socket"));
  EXPECT_TRUE(fs::exists(folder.socket()));
  fs::remove(folder.socket());
  fs::create_symlink(folder.path() / "elsewhere", folder.socket());
  EXPECT_THAT(refusal(folder.socket()), refused(Code::kConfiguration, "not a socket"));
}

TEST(ListenUnix, Fault113_FolderThatOthersMayWriteIsRefused) {
  Folder folder;
  for (const auto mode : {fs::perms(0777), fs::perms(0770), fs::perms(01777)}) {
    fs::permissions(folder.path(), mode);
    EXPECT_THAT(refusal(folder.socket()), refused(Code::kConfiguration, "other users may write"));
  }
  EXPECT_THAT(refusal("/tmp/ka-never.sock"),
              refused(Code::kConfiguration, "other users may write"));
}

TEST(ListenUnix, Fault113_FolderAboveThatAnyoneMayRenameInIsRefused) {
  Folder folder;
  fs::create_directory(folder.path() / "open");
  fs::create_directory(folder.path() / "open/private");
  fs::permissions(folder.path() / "open", fs::perms(0777));
  EXPECT_THAT(refusal(folder.path() / "open/private/agent.sock"),
              refused(Code::kConfiguration, "every user may rename"));
}

TEST(ListenUnix, Fault113_SocketThatAnotherUserMadeIsRefused) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to play another user";
  Folder folder;
  { const Fd gone = listen_unix(folder.socket(), 0600, ""); }
  ASSERT_EQ(::lchown(folder.socket().c_str(), 65534, 65534), 0);
  EXPECT_THAT(refusal(folder.socket()), refused(Code::kConfiguration, "uid 65534"));
}

TEST(ListenUnix, MistakesInThePathAreNamed) {
  Folder folder;
  EXPECT_THAT(refusal("agent.sock"), refused(Code::kConfiguration, "absolute"));
  EXPECT_THAT(refusal(folder.path() / std::string(100, 'x')),
              refused(Code::kConfiguration, "at most 107"));
  EXPECT_THAT(refusal(folder.path() / "none/agent.sock"), refused(Code::kConfiguration, "none"));
  EXPECT_THAT(refusal(folder.socket(), "no-such-group"),
              refused(Code::kConfiguration, "missing group no-such-group"));
  EXPECT_FALSE(fs::exists(folder.socket()));
}

}  // namespace
}  // namespace keyagent::net
