#include <gmock/gmock.h>
#include <grp.h>
#include <sys/prctl.h>

#include "harness.h"

namespace keyagent::net {
namespace {

// The principal of the one peer that `body` connects from a child process; `body` gets the socket's
// path.
policy::Principal accepted_from(const std::function<int(const std::filesystem::path&)>& body) {
  Folder folder;
  std::filesystem::permissions(folder.path(), std::filesystem::perms(0711));
  const Fd listener = listen_unix(folder.socket(), 0666, "");
  const int status = in_child([&] { return body(folder.socket()); });
  EXPECT_EQ(status, 0);
  const Fd fd(::accept(listener.get(), nullptr, nullptr));
  return peer_of(fd.get());
}

bool become(uid_t uid, std::initializer_list<gid_t> groups) {
  return ::setgroups(groups.size(), groups.begin()) == 0 && ::setgid(uid) == 0 &&
         ::setuid(uid) == 0;
}

TEST(PeerOf, NamesThisUserAndProcess) {
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
  const Fd a(pair[0]), b(pair[1]);
  const auto peer = peer_of(a.get());
  EXPECT_EQ(peer.voucher, policy::Principal::Voucher::kKernel);
  EXPECT_EQ(peer.uid, ::getuid());
  EXPECT_EQ(peer.pid, ::getpid());
}

TEST(PeerOf, SocketWithoutAPeerIsDenied) {
  const Fd alone(::socket(AF_UNIX, SOCK_STREAM, 0));
  EXPECT_THROW(peer_of(alone.get()), Error);
}

TEST(PeerOf, Fault110_OtherUserIsSeenAsThatUserWithItsGroups) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to play another user";
  const auto peer = accepted_from([](const std::filesystem::path& path) {
    return become(65534, {65534, 4242, 4243}) && RawPeer(path).connected() ? 0 : 1;
  });
  EXPECT_EQ(peer.uid, 65534u);
  EXPECT_EQ(peer.gid, 65534u);
  EXPECT_THAT(peer.groups, testing::UnorderedElementsAre(65534, 4242, 4243));
}

TEST(PeerOf, ManyGroupsAreAllSeen) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to set groups";
  const auto peer = accepted_from([](const std::filesystem::path& path) {
    std::vector<gid_t> groups(500);
    for (gid_t i = 0; i < groups.size(); ++i) groups[i] = 10000 + i;
    return ::setgroups(groups.size(), groups.data()) == 0 && RawPeer(path).connected() ? 0 : 1;
  });
  EXPECT_EQ(peer.groups.size(), 500u);
}

TEST(PeerOf, Fault111_ProcessThatHasGoneKeepsTheIdentityOfItsConnection) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to play another user";
  // accepted_from() asks after the child has ended: its pid may be anybody's by now, its uid is
  // not.
  const auto peer = accepted_from([](const std::filesystem::path& path) {
    return become(1234, {}) && RawPeer(path).connected() ? 0 : 1;
  });
  EXPECT_EQ(peer.uid, 1234u);
}

TEST(PeerOf, Fault112_PrivilegesDroppedAfterConnectStayThoseOfConnect) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to drop privileges";
  const auto peer = accepted_from([](const std::filesystem::path& path) {
    const RawPeer connection(path);
    return connection.connected() && become(65534, {}) ? 0 : 1;
  });
  EXPECT_EQ(peer.uid, 0u);
}

TEST(PeerOf, Fault110_ModeOfTheSocketKeepsOthersOut) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to play another user";
  Folder folder;
  std::filesystem::permissions(folder.path(), std::filesystem::perms(0711));
  const Fd listener = listen_unix(folder.socket(), 0660, "");
  EXPECT_EQ(in_child([&] {
              return become(65534, {}) && !RawPeer(folder.socket()).connected() && errno == EACCES
                         ? 0
                         : 1;
            }),
            0);
}

}  // namespace
}  // namespace keyagent::net
