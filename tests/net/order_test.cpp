// SPDX-License-Identifier: Apache-2.0
// Answers that wait for an earlier one of their connection, and places that newcomers take.

#include <sys/resource.h>

#include <atomic>
#include <vector>

#include "agent/wire/keyagent.pb.h"
#include "agent/wire/messages.h"
#include "harness.h"

namespace keyagent::net {
namespace {

using namespace std::chrono_literals;

bool holds(ByteView frame) {
  return as_text(frame).substr(0, 4) == "hold";
}

// Keeps the requests whose text begins with "hold" and answers the others at once.
class Keeping {
 public:
  FrameHandler handler() {
    return [this](const policy::Principal&, ByteView frame, Responder responder) {
      ++handled;
      if (!holds(frame)) {
        responder.answer(copy_of(frame));
        return;
      }
      const std::lock_guard lock(mutex_);
      kept_.emplace_back(std::move(responder), copy_of(frame));
    };
  }
  std::size_t kept() {
    const std::lock_guard lock(mutex_);
    return kept_.size();
  }
  Responder take(std::size_t index) {
    const std::lock_guard lock(mutex_);
    return kept_.at(index).first;
  }
  void answer(std::size_t index) {
    std::unique_lock lock(mutex_);
    const Responder responder = kept_.at(index).first;
    SecretBytes body = kept_.at(index).second;
    lock.unlock();
    responder.answer(std::move(body));
  }
  void forget() {
    const std::lock_guard lock(mutex_);
    kept_.clear();
  }
  std::atomic<std::size_t> handled{0};

 private:
  std::mutex mutex_;
  std::vector<std::pair<Responder, SecretBytes>> kept_;
};

TEST(UnixServerOrder, Fault104_TheAnswerToACheapRequestNeverLeavesBeforeThatOfTheOneItIsBehind) {
  Folder folder;
  Keeping keeping;
  UnixServer server(listen_unix(folder.socket(), 0600, ""), 3, {}, keeping.handler(),
                    protocol_farewell, holds);
  for (int round = 0; round < 50; ++round) {
    RawPeer peer(folder.socket()), other(folder.socket());
    peer.send("before");
    EXPECT_EQ(peer.receive(), "before");
    peer.send("hold");
    peer.send("cheap 1");
    peer.send("cheap 2");
    // Both were handled, and other connections are not held up.
    ASSERT_TRUE(eventually([&] { return keeping.handled == 4u && keeping.kept() == 1; }));
    other.send("hello");
    EXPECT_EQ(other.receive(), "hello");
    EXPECT_FALSE(peer.receive(1));
    // As a failure on its beat: by the timer.
    keeping.take(0).answer_at(std::chrono::steady_clock::now() + 3ms, SecretBytes{'b', 'a', 'd'});
    EXPECT_EQ(peer.receive(), "bad");
    EXPECT_EQ(peer.receive(), "cheap 1");
    EXPECT_EQ(peer.receive(), "cheap 2");
    keeping.forget();
    keeping.handled = 0;
  }
}

TEST(UnixServerOrder, SeveralThatHoldAreAnsweredInTheirOrder) {
  Folder folder;
  Keeping keeping;
  UnixServer server(listen_unix(folder.socket(), 0600, ""), 2, {}, keeping.handler(),
                    protocol_farewell, holds);
  RawPeer peer(folder.socket());
  std::size_t sent = 0;
  for (const char* text : {"hold 1", "a", "hold 2", "b"}) {
    peer.send(text);
    ++sent;
    ASSERT_TRUE(eventually([&] { return keeping.handled == sent; }));
  }
  keeping.answer(1);
  EXPECT_FALSE(peer.receive(1)) << "the first one holds it";
  keeping.answer(0);
  for (const char* text : {"hold 1", "a", "hold 2", "b"}) EXPECT_EQ(peer.receive(), text);
  keeping.forget();
  peer.send("after");
  EXPECT_EQ(peer.receive(), "after");
}

TEST(UnixServerOrder, ARequestThatIsForgottenClosesTheConnectionAndCountsNoMore) {
  Folder folder;
  Keeping keeping;
  Limits limits;
  limits.inflight_per_uid = 3;
  UnixServer server(listen_unix(folder.socket(), 0600, ""), 2, limits, keeping.handler(),
                    protocol_farewell, holds);
  for (int round = 0; round < 5; ++round) {
    RawPeer peer(folder.socket());
    peer.send("hold");
    peer.send("cheap");
    ASSERT_TRUE(eventually([&] { return keeping.handled == 2u; }));
    keeping.forget();
    EXPECT_TRUE(peer.closed_by_peer());
    keeping.handled = 0;
  }
  RawPeer peer(folder.socket());
  peer.send("served");
  EXPECT_EQ(peer.receive(), "served");
}

TEST(UnixServerOrder, WhatIsHeldBackIsBounded) {
  Folder folder;
  Keeping keeping;
  Limits limits;
  limits.unsent_per_connection = 100000;
  UnixServer server(listen_unix(folder.socket(), 0600, ""), 2, limits, keeping.handler(),
                    protocol_farewell, holds);
  RawPeer peer(folder.socket());
  peer.send("hold");
  std::thread sender([&] {
    for (int i = 0; i < 20; ++i) peer.send(std::string(20000, 'x'));
  });
  ASSERT_TRUE(eventually([&] { return keeping.handled >= 6u; }));
  EXPECT_LE(keeping.handled, 10u) << "the rest is not read";
  keeping.answer(0);
  EXPECT_EQ(peer.receive(), "hold");
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(peer.receive()) << i;
  sender.join();
}

// As many uids as there are children, where the test is root.
int connections_of(uid_t uid, const std::filesystem::path& path, int count, int go, int done) {
  if (::setuid(uid) != 0) return 100;
  std::vector<RawPeer> peers;
  for (int i = 0; i < count; ++i) peers.emplace_back(path);
  char byte = 'x';
  [[maybe_unused]] auto told = ::write(done, &byte, 1);
  told = ::read(go, &byte, 1);
  return 0;
}

class SharesTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "becoming another user needs root";
    ASSERT_EQ(::pipe(go_), 0);
    ASSERT_EQ(::pipe(done_), 0);
    std::filesystem::permissions(folder_.path(), std::filesystem::perms(0755));
  }
  void TearDown() override {
    ::close(go_[1]);
    for (const pid_t child : children_) ::waitpid(child, nullptr, 0);
    for (const int fd : {go_[0], done_[0], done_[1]}) ::close(fd);
  }
  // Returns when each of them is connected or refused.
  void hold_connections(uid_t uid, int count) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::close(go_[1]);
      ::_exit(connections_of(uid, folder_.socket(), count, go_[0], done_[1]));
    }
    children_.push_back(child);
    char byte = 0;
    ASSERT_EQ(::read(done_[0], &byte, 1), 1);
  }
  Folder folder_;
  int go_[2] = {-1, -1}, done_[2] = {-1, -1};
  std::vector<pid_t> children_;
};

TEST_F(SharesTest, Fault149_IdleConnectionsOfOthersDoNotBlockNewOnes) {
  Limits limits;
  limits.connections = 64;
  limits.connections_per_uid = 32;
  UnixServer server(listen_unix(folder_.socket(), 0666, ""), 2, limits, echo());
  for (uid_t uid = 61191; uid < 61195; ++uid) hold_connections(uid, 32);
  ASSERT_TRUE(eventually([&] { return server.stats().accepted + server.stats().refused == 128; }));
  EXPECT_LE(server.stats().connections, 64u);
  // Someone who has none yet finds the places that are kept …
  const auto serves = [&](uid_t uid) {
    return in_child([&] {
      if (::setuid(uid) != 0) return 100;
      RawPeer peer(folder_.socket());
      peer.send("hello");
      return peer.receive() == "hello" ? 0 : 1;
    });
  };
  EXPECT_EQ(serves(61200), 0);
  // … and when those are taken too, that of one that is idle.
  for (uid_t uid = 61201; uid < 61205; ++uid) hold_connections(uid, 7);
  for (uid_t uid = 61210; uid < 61230; ++uid) EXPECT_EQ(serves(uid), 0) << uid;
  EXPECT_GT(server.stats().displaced, 0u);
  EXPECT_LE(server.stats().connections, 64u);
}

TEST_F(SharesTest, Fault149_RootFindsAPlaceAmongConnectionsThatAreAllBusy) {
  Limits limits;
  limits.connections = 16;
  Keeping keeping;
  UnixServer server(listen_unix(folder_.socket(), 0666, ""), 2, limits, keeping.handler());
  for (uid_t uid = 61191; uid < 61195; ++uid) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::close(go_[1]);
      if (::setuid(uid) != 0) ::_exit(100);
      std::vector<RawPeer> peers;
      for (int i = 0; i < 8; ++i) {
        try {
          peers.emplace_back(folder_.socket());
          peers.back().send("hold");
        } catch (const std::exception&) {
          // Refused, or its place was given to another before it was busy.
        }
      }
      char byte = 0;
      [[maybe_unused]] const auto told = ::read(go_[0], &byte, 1);
      ::_exit(0);
    }
    children_.push_back(child);
  }
  ASSERT_TRUE(eventually([&] { return keeping.kept() >= 16; }));
  RawPeer root(folder_.socket());
  root.send("root");
  EXPECT_EQ(root.receive(), "root");
  keeping.forget();
}

TEST(UnixServerShares, Fault082_WithoutDescriptorsTheLongestIdleOneMakesRoom) {
  Folder folder;
  Limits limits;
  limits.scarce_idle = 0ms;
  // One thread: `oldest` is idle when `newer` is answered.
  UnixServer server(listen_unix(folder.socket(), 0600, ""), 1, limits, echo());
  RawPeer oldest(folder.socket()), newer(folder.socket());
  oldest.send("1");
  ASSERT_TRUE(oldest.receive());
  newer.send("2");
  ASSERT_TRUE(newer.receive());
  rlimit old{}, none{};
  ::getrlimit(RLIMIT_NOFILE, &old);
  Fd spare(::socket(AF_UNIX, SOCK_STREAM, 0));
  none = {static_cast<rlim_t>(spare.get() + 1), old.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, folder.socket().c_str(), sizeof address.sun_path - 1);
  const bool queued =
      ::connect(spare.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  const bool let_in = eventually([&] { return server.stats().accepted == 3; });
  ::setrlimit(RLIMIT_NOFILE, &old);
  EXPECT_TRUE(queued);
  EXPECT_TRUE(let_in);
  EXPECT_TRUE(oldest.closed_by_peer());
  newer.send("still here");
  EXPECT_EQ(newer.receive(), "still here");
}

TEST(Messages, Fault104_WhatMayFailOnABeatIsKnownFromItsBytes) {
  const auto of = [](const wire::Request& request) {
    return wire::may_fail_on_a_beat(wire::serialize(request));
  };
  wire::Request request;
  request.set_id(300);
  request.set_deadline_ms(5000);
  EXPECT_FALSE(of(request));
  request.mutable_status();
  EXPECT_FALSE(of(request));
  request.mutable_sign()->set_message(std::string(5000, '\x82'));
  EXPECT_FALSE(of(request)) << "the contents of a field are ignored";
  request.mutable_decrypt()->set_key("k");
  EXPECT_TRUE(of(request));
  request.mutable_open()->set_envelope("e");
  EXPECT_TRUE(of(request));
  request.mutable_reseal();
  EXPECT_TRUE(of(request));
  request.mutable_agree();
  EXPECT_TRUE(of(request));
  request.mutable_exchange_import();
  EXPECT_TRUE(of(request));
  request.mutable_import_outside();
  EXPECT_TRUE(of(request));
  // Two operations in one frame: the parser takes the last.
  wire::Request status, open;
  status.mutable_status();
  open.mutable_open()->set_envelope("e");
  auto both = wire::serialize(open);
  const auto second = wire::serialize(status);
  both.insert(both.end(), second.begin(), second.end());
  EXPECT_TRUE(wire::may_fail_on_a_beat(both));
  for (const Bytes& bytes : {Bytes{0x80}, Bytes{0x0b}, Bytes{0x0a, 0x05, 0x01}})
    EXPECT_TRUE(wire::may_fail_on_a_beat(bytes)) << "no message: no promise";
}

}  // namespace
}  // namespace keyagent::net
