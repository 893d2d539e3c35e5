// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <grp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>

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

// Sends one descriptor with SCM_RIGHTS over `pipe`.
bool pass_descriptor(int pipe, int fd) {
  char byte = 'x';
  iovec data{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof fd)] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* const header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof fd);
  std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  return ::sendmsg(pipe, &message, 0) == 1;
}
int passed_descriptor(int pipe) {
  char byte = 0;
  iovec data{&byte, 1};
  int fd = -1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof fd)] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  if (::recvmsg(pipe, &message, 0) != 1 || CMSG_FIRSTHDR(&message) == nullptr) return -1;
  std::memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
  return fd;
}

TEST(PeerOf, Fault112_AConnectionThatIsPassedOnStaysThatOfWhoConnected) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to play other users";
  Folder folder;
  std::filesystem::permissions(folder.path(), std::filesystem::perms(0711));
  const Fd listener = listen_unix(folder.socket(), 0666, "");
  int pipe[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, pipe), 0);
  EXPECT_EQ(in_child([&] {
              const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
              sockaddr_un address{};
              address.sun_family = AF_UNIX;
              folder.socket().string().copy(address.sun_path, sizeof address.sun_path - 1);
              return become(1234, {}) &&
                             ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) ==
                                 0 &&
                             pass_descriptor(pipe[0], fd)
                         ? 0
                         : 1;
            }),
            0);
  EXPECT_EQ(in_child([&] {
              if (!become(65534, {})) return 2;
              const int fd = passed_descriptor(pipe[1]);
              return fd >= 0 && ::write(fd, "request", 7) == 7 ? 0 : 1;
            }),
            0);
  const Fd served(::accept(listener.get(), nullptr, nullptr));
  char received[8] = {};
  ASSERT_EQ(::read(served.get(), received, sizeof received), 7);
  EXPECT_EQ(peer_of(served.get()).uid, 1234u) << "of the request that another user wrote";
  ::close(pipe[0]);
  ::close(pipe[1]);
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
