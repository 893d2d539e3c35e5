// SPDX-License-Identifier: Apache-2.0
// What a peer that misbehaves costs: itself its connection, the others nothing.
#include <sys/resource.h>

#include <atomic>
#include <vector>

#include "agent/wire/keyagent.pb.h"
#include "agent/wire/messages.h"
#include "harness.h"

namespace keyagent::net {
namespace {

using namespace std::chrono_literals;

wire::ErrorCode word_on_the_connection(RawPeer& peer) {
  wire::Response response;
  const auto body = peer.receive();
  if (!body || !wire::parse(as_bytes(*body), response) || response.id() != 0) return wire::OK;
  return response.failure().code();
}

TEST(UnixServerLimits, Fault114_FrameThatIsNeverFinishedIsCutOff) {
  Folder folder;
  Limits limits;
  limits.frame_timeout = 40ms;
  UnixServer server(listen_unix(folder.socket(), 0600, ""), 2, limits, echo());
  RawPeer slow(folder.socket()), quick(folder.socket());
  const Bytes half{0, 0, 0, 100, 1, 2};
  ASSERT_TRUE(slow.send_raw(half));
  EXPECT_TRUE(slow.closed_by_peer());
  EXPECT_EQ(server.stats().timeouts, 1u);
  quick.send("still here");
  EXPECT_EQ(quick.receive(), "still here");
}

TEST(UnixServerLimits, Fault114_DrippingBytesDoNotExtendTheTime) {
  Folder folder;
  Limits limits;
  limits.frame_timeout = 40ms;
  UnixServer server(listen_unix(folder.socket(), 0600, ""), 2, limits, echo());
  RawPeer slow(folder.socket());
  const Bytes header{0, 0, 0x10, 0}, drop{1};
  slow.send_raw(header);
  EXPECT_TRUE(eventually([&] { return !slow.send_raw(drop); }));
}

TEST(UnixServerLimits, Fault115_HugeLengthIsRefusedWithAWord) {
  Folder folder;
  UnixServer server(listen_unix(folder.socket(), 0600, ""), 2, {}, echo());
  RawPeer peer(folder.socket());
  peer.send_raw(Bytes{0xff, 0xff, 0xff, 0xff});
  EXPECT_EQ(word_on_the_connection(peer), wire::USAGE);
  EXPECT_TRUE(peer.closed_by_peer());
}

TEST(UnixServerLimits, Fault114_ConnectionsOfOneUidAreBounded) {
  Folder folder;
  Limits limits;
  limits.connections_per_uid = 3;
  UnixServer server(listen_unix(folder.socket(), 0600, ""), 2, limits, echo());
  std::vector<RawPeer> peers;
  for (int i = 0; i < 3; ++i) peers.emplace_back(folder.socket());
  ASSERT_TRUE(eventually([&] { return server.stats().accepted == 3; }));
  RawPeer fourth(folder.socket());
  EXPECT_EQ(word_on_the_connection(fourth), wire::BUSY);
  EXPECT_TRUE(fourth.closed_by_peer());
  EXPECT_EQ(server.stats().refused, 1u);
  peers.pop_back();
  ASSERT_TRUE(eventually([&] { return server.stats().connections == 2; }));
  RawPeer fifth(folder.socket());
  fifth.send("room again");
  EXPECT_EQ(fifth.receive(), "room again");
}

TEST(UnixServerLimits, Fault114_UnansweredRequestsOfOneUidAreBounded) {
  Folder folder;
  Limits limits;
  limits.inflight_per_uid = 4;
  std::mutex mutex;
  std::vector<std::pair<Responder, SecretBytes>> held;
  UnixServer server(listen_unix(folder.socket(), 0600, ""), 2, limits,
                    [&](const policy::Principal&, ByteView frame, Responder responder) {
                      std::lock_guard lock(mutex);
                      held.emplace_back(std::move(responder), copy_of(frame));
                    });
  std::vector<RawPeer> peers;
  for (int p = 0; p < 5; ++p) peers.emplace_back(folder.socket());
  for (int i = 0; i < 4; ++i)
    for (auto& peer : peers) ASSERT_TRUE(peer.send(std::to_string(i)));
  std::size_t answered = 0;
  while (answered < 20) {
    ASSERT_TRUE(eventually([&] {
      std::lock_guard lock(mutex);
      return held.size() == std::min<std::size_t>(4, 20 - answered);
    })) << "after "
        << answered;
    EXPECT_EQ(server.stats().frames, answered + std::min<std::size_t>(4, 20 - answered));
    std::pair<Responder, SecretBytes> one = [&] {
      std::lock_guard lock(mutex);
      auto first = std::move(held.front());
      held.erase(held.begin());
      return first;
    }();
    EXPECT_TRUE(one.first.answer(std::move(one.second)));
    ++answered;
  }
  for (auto& peer : peers)
    for (int i = 0; i < 4; ++i) EXPECT_TRUE(peer.receive());
}

TEST(UnixServerLimits, Fault114_PeerThatReadsNothingIsNotServedFurtherAndCutOff) {
  Folder folder;
  Limits limits;
  limits.frame_timeout = 100ms;
  std::atomic<int> handled{0};
  UnixServer server(listen_unix(folder.socket(), 0600, ""), 2, limits,
                    [&](const policy::Principal&, ByteView, Responder responder) {
                      ++handled;
                      responder.answer(SecretBytes(300000, 'x'));
                    });
  RawPeer deaf(folder.socket());
  for (int i = 0; i < 100; ++i) deaf.send("more");
  EXPECT_TRUE(
      eventually([&] { return server.stats().accepted == 1 && server.stats().connections == 0; }));
  EXPECT_LT(handled, 10);
  EXPECT_EQ(server.stats().timeouts, 1u);
}

TEST(UnixServerLimits, IdleConnectionsAreClosedOnlyWhenAsked) {
  Folder folder;
  Limits limits;
  limits.idle_timeout = 30ms;
  UnixServer server(listen_unix(folder.socket(), 0600, ""), 2, limits, echo());
  RawPeer idle(folder.socket());
  EXPECT_TRUE(idle.closed_by_peer());
}

TEST(UnixServerLimits, Fault082_WithoutDescriptorsPeersWaitAndAreServedLater) {
  Folder folder;
  UnixServer server(listen_unix(folder.socket(), 0600, ""), 2, {}, echo());
  RawPeer waiting(folder.socket()), before(folder.socket());
  rlimit old{}, none{};
  ::getrlimit(RLIMIT_NOFILE, &old);
  ASSERT_TRUE(eventually([&] { return server.stats().accepted == 2; }));
  Fd spare(::socket(AF_UNIX, SOCK_STREAM, 0));
  none = {static_cast<rlim_t>(spare.get() + 1), old.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, folder.socket().c_str(), sizeof address.sun_path - 1);
  const bool queued =
      ::connect(spare.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  before.send("unharmed");
  const auto answer = before.receive();
  const auto accepted = server.stats().accepted;
  ::setrlimit(RLIMIT_NOFILE, &old);
  EXPECT_TRUE(queued);
  EXPECT_EQ(answer, "unharmed");
  EXPECT_EQ(accepted, 2u);
  EXPECT_TRUE(eventually([&] { return server.stats().accepted == 3; }));
}

TEST(UnixServerLimits, Fault114_FloodOfConnectionsLeavesOthersServed) {
  Folder folder;
  Limits limits;
  limits.connections_per_uid = 200;
  UnixServer server(listen_unix(folder.socket(), 0600, ""), 2, limits, echo());
  RawPeer before(folder.socket());
  before.send("hello");
  ASSERT_TRUE(before.receive());
  for (int i = 0; i < 2000; ++i) {
    RawPeer flood(folder.socket());
    flood.send_raw(Bytes{0, 0});
    if (i % 100 != 0) continue;
    before.send(std::to_string(i));
    EXPECT_EQ(before.receive(), std::to_string(i));
  }
  EXPECT_TRUE(eventually([&] { return server.stats().connections == 1; }));
}

// What has arrived of a frame of the greatest size takes memory for all of it.
Bytes half_of_a_great_frame() {
  Bytes half(8192);
  half[0] = 0, half[1] = 4, half[2] = 0, half[3] = 0;  // 256 KiB
  return half;
}

TEST(UnixServerLimits, Fault153_MemoryForUnfinishedFramesOfOneUidIsBounded) {
  Folder folder;
  Limits limits;
  limits.unfinished_per_uid = 600 * 1024;
  UnixServer server(listen_unix(folder.socket(), 0600, ""), 2, limits, echo());
  const Bytes half = half_of_a_great_frame(), rest(wire::kMaxFrame + 4 - 2 * half.size());
  std::vector<RawPeer> peers;
  // The second part of each makes room for the whole of it: two fit.
  for (int i = 0; i < 2; ++i) {
    peers.emplace_back(folder.socket());
    ASSERT_TRUE(peers.back().send_raw(half));
    ASSERT_TRUE(peers.back().send_raw(Bytes(half.size())));
  }
  ASSERT_TRUE(eventually([&] { return server.stats().unfinished > 2 * wire::kMaxFrame; }));
  int refused = 0;
  for (int i = 0; i < 50; ++i) {
    RawPeer more(folder.socket());
    more.send_raw(half);
    more.send_raw(Bytes(half.size()));
    refused += word_on_the_connection(more) == wire::BUSY && more.closed_by_peer();
  }
  EXPECT_EQ(refused, 50);
  for (auto& peer : peers) {
    ASSERT_TRUE(peer.send_raw(rest));
    const auto echoed = peer.receive();
    ASSERT_TRUE(echoed);
    EXPECT_EQ(echoed->size(), wire::kMaxFrame);
  }
  // What was refused or is finished takes none.
  RawPeer last(folder.socket());
  last.send_raw(half);
  last.send_raw(Bytes(half.size()));
  last.send_raw(rest);
  EXPECT_TRUE(last.receive());
}

TEST(UnixServerLimits, Fault115_FrameThatIsNotOfTheProtocolIsAnsweredAndItsConnectionClosed) {
  Folder folder;
  UnixServer server(listen_unix(folder.socket(), 0600, ""), 2, {},
                    [](const policy::Principal&, ByteView, Responder) {
                      throw ProtocolViolation("a frame that holds no request of this protocol");
                    });
  RawPeer peer(folder.socket());
  peer.send("\xff\xff\xff");
  EXPECT_EQ(word_on_the_connection(peer), wire::USAGE);
  EXPECT_TRUE(peer.closed_by_peer());
}

}  // namespace
}  // namespace keyagent::net
