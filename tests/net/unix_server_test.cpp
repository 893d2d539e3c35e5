// SPDX-License-Identifier: Apache-2.0
#include "agent/net/unix_server.h"

#include <gmock/gmock.h>

#include <atomic>
#include <set>

#include "harness.h"

namespace keyagent::net {
namespace {

using namespace std::chrono_literals;

struct Served {
  explicit Served(FrameHandler handler, Limits limits = {}, unsigned threads = 3)
      : server(std::in_place, listen_unix(folder.socket(), 0600, ""), threads, limits,
               std::move(handler)) {}
  RawPeer peer() { return RawPeer(folder.socket()); }
  Folder folder;
  std::optional<UnixServer> server;
};

TEST(UnixServer, FrameIsAnsweredToWhoSentIt) {
  Served served(echo());
  RawPeer a = served.peer(), b = served.peer();
  ASSERT_TRUE(a.send("one") && b.send("two"));
  EXPECT_EQ(a.receive(), "one");
  EXPECT_EQ(b.receive(), "two");
  EXPECT_EQ(served.server->stats().frames, 2u);
  EXPECT_EQ(served.server->stats().connections, 2u);
}

TEST(UnixServer, HandlerLearnsThePeer) {
  std::atomic<std::uint32_t> uid{0xffffffff};
  Served served([&](const policy::Principal& peer, ByteView frame, Responder responder) {
    uid = peer.uid;
    responder.answer(copy_of(frame));
  });
  RawPeer peer = served.peer();
  peer.send("x");
  ASSERT_TRUE(peer.receive());
  EXPECT_EQ(uid, ::getuid());
}

TEST(UnixServer, SlowRequestDoesNotHoldUpLaterOnesOfTheSameConnection) {
  Gate gate;
  Served served([&](const policy::Principal&, ByteView frame, Responder responder) {
    const SecretBytes body = copy_of(frame);
    if (as_text(body) == "slow") gate.pass();
    responder.answer(body);
  });
  RawPeer peer = served.peer();
  // In one segment, so that one read brings all three.
  SecretBytes frames;
  for (const char* text : {"slow", "quick", "quicker"}) wire::append_frame(frames, as_bytes(text));
  ASSERT_TRUE(peer.send_raw(frames));
  std::multiset<std::string> first{*peer.receive(), *peer.receive()};
  EXPECT_THAT(first, testing::ElementsAre("quick", "quicker"));
  gate.open();
  EXPECT_EQ(peer.receive(), "slow");
}

TEST(UnixServer, OneRequestAtATimeKeepsTheOrderOfAConnectionAndHoldsUpNoOther) {
  Gate gate;
  Limits limits;
  limits.inflight_per_connection = 1;
  std::atomic<int> running{0}, most{0};
  Served served(
      [&](const policy::Principal&, ByteView frame, Responder responder) {
        const SecretBytes body = copy_of(frame);
        if (as_text(body) == "other") {
          responder.answer(body);
          return;
        }
        most = std::max<int>(most, ++running);
        if (as_text(body) == "0") gate.pass();
        --running;
        responder.answer(body);
      },
      limits);
  RawPeer peer = served.peer(), other = served.peer();
  SecretBytes frames;
  for (int i = 0; i < 200; ++i) wire::append_frame(frames, as_bytes(std::to_string(i)));
  ASSERT_TRUE(peer.send_raw(frames));
  ASSERT_TRUE(other.send("other"));
  EXPECT_EQ(other.receive(), "other");
  gate.open();
  for (int i = 0; i < 200; ++i) ASSERT_EQ(peer.receive(), std::to_string(i));
  EXPECT_EQ(most, 1);
}

TEST(UnixServer, AnswerThatComesLaterLetsTheNextFrameOfItsConnectionIn) {
  Limits limits;
  limits.inflight_per_connection = 1;
  std::atomic<int> asked{0};
  Served served(
      [&](const policy::Principal&, ByteView frame, Responder responder) {
        ++asked;
        responder.answer_at(std::chrono::steady_clock::now() + 5ms, copy_of(frame));
      },
      limits);
  RawPeer peer = served.peer();
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(peer.send(std::to_string(i)));
  for (int i = 0; i < 5; ++i) EXPECT_EQ(peer.receive(), std::to_string(i));
  EXPECT_EQ(asked, 5);
}

TEST(UnixServer, WhatAHandlerKeepsForAConnectionEndsWithIt) {
  Limits limits;
  limits.inflight_per_connection = 1;
  const auto tracer = std::make_shared<int>(0);
  Served served(
      [&](const policy::Principal&, ByteView, Responder responder) {
        auto& kept = responder.kept();
        if (!kept) kept = std::make_shared<std::pair<int, std::shared_ptr<int>>>(0, tracer);
        const int count = ++static_cast<std::pair<int, std::shared_ptr<int>>*>(kept.get())->first;
        responder.answer(copy_of(as_bytes(std::to_string(count))));
      },
      limits);
  RawPeer stays = served.peer();
  {
    RawPeer peer = served.peer();
    for (const char* count : {"1", "2"}) {
      ASSERT_TRUE(peer.send("x"));
      EXPECT_EQ(peer.receive(), count);
    }
    ASSERT_TRUE(stays.send("x"));
    EXPECT_EQ(stays.receive(), "1");
    EXPECT_EQ(tracer.use_count(), 3);
  }
  EXPECT_TRUE(eventually([&] { return tracer.use_count() == 2; }));
}

TEST(UnixServer, TooLongFrameIsAnsweredInTheProtocolOfTheSocket) {
  Folder folder;
  const UnixServer server(listen_unix(folder.socket(), 0600, ""), 2, {}, echo(),
                          [](const Error&) { return copy_of(as_bytes("no")); });
  RawPeer peer(folder.socket());
  const std::uint8_t header[] = {0xff, 0, 0, 0};
  ASSERT_TRUE(peer.send_raw(header));
  EXPECT_EQ(peer.receive(), "no");
  EXPECT_TRUE(peer.closed_by_peer());
}

TEST(UnixServer, Fault082_FrameThatArrivesByteByByteIsWhole) {
  Served served(echo());
  RawPeer peer = served.peer();
  SecretBytes frame;
  wire::append_frame(frame, as_bytes("piecemeal"));
  for (const std::uint8_t byte : frame) ASSERT_TRUE(peer.send_raw({&byte, 1}));
  EXPECT_EQ(peer.receive(), "piecemeal");
}

TEST(UnixServer, Fault082_AnswersLargerThanTheSocketBufferArriveWhole) {
  Served served([](const policy::Principal&, ByteView, Responder responder) {
    responder.answer(SecretBytes(3 << 20, 'a'));
  });
  RawPeer peer = served.peer();
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(peer.send("list"));
    const auto answer = peer.receive();
    ASSERT_TRUE(answer);
    EXPECT_EQ(*answer, std::string(3 << 20, 'a'));
  }
}

TEST(UnixServer, ManyThreadsAndPipelinesLoseNothing) {
  Served served(echo(), {}, 4);
  constexpr int kPeers = 6, kFrames = 400, kDepth = 16;
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int p = 0; p < kPeers; ++p) {
    threads.emplace_back([&, p] {
      RawPeer peer(served.folder.socket());
      std::set<std::string> open;
      for (int i = 0; i < kFrames + kDepth; ++i) {
        if (i < kFrames) {
          const std::string text = std::to_string(p) + ":" + std::to_string(i);
          open.insert(text);
          if (!peer.send(text)) ++wrong;
        }
        if (i < kDepth) continue;
        const auto answer = peer.receive();
        if (!answer || open.erase(*answer) != 1) ++wrong;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(served.server->stats().frames, std::uint64_t{kPeers * kFrames});
}

TEST(UnixServer, OnlyTheFirstAnswerIsSent) {
  std::atomic<int> given{0};
  Served served([&](const policy::Principal&, ByteView, Responder responder) {
    for (const char* text : {"first", "second"}) given += responder.answer(copy_of(as_bytes(text)));
    responder.answer_at(std::chrono::steady_clock::now(), copy_of(as_bytes("third")));
  });
  RawPeer peer = served.peer();
  peer.send("x");
  EXPECT_EQ(peer.receive(), "first");
  EXPECT_EQ(peer.receive(50), std::nullopt);
  served.server.reset();  // the handler has returned
  EXPECT_EQ(given, 1);
}

TEST(UnixServer, AnswerAtComesNotBeforeItsTimeAndHoldsNoThread) {
  std::atomic<int> returned{0};
  Served served([&](const policy::Principal&, ByteView frame, Responder responder) {
    responder.answer_at(std::chrono::steady_clock::now() + 30ms, copy_of(frame));
    ++returned;
  });
  RawPeer peer = served.peer();
  const auto start = std::chrono::steady_clock::now();
  peer.send("later");
  ASSERT_TRUE(eventually([&] { return returned == 1; }));
  EXPECT_EQ(peer.receive(), "later");
  EXPECT_GE(std::chrono::steady_clock::now() - start, 30ms);
}

TEST(UnixServer, ForgottenRequestClosesItsConnection) {
  Served served([](const policy::Principal&, ByteView, Responder) {});
  RawPeer peer = served.peer();
  peer.send("x");
  EXPECT_TRUE(peer.closed_by_peer());
}

TEST(UnixServer, HandlerThatThrowsClosesOnlyItsConnection) {
  Served served([](const policy::Principal&, ByteView frame, Responder responder) {
    if (as_text(frame) == "bad") throw Error(Code::kInternal, "seeded");
    responder.answer(copy_of(frame));
  });
  RawPeer bad = served.peer(), good = served.peer();
  bad.send("bad");
  EXPECT_TRUE(bad.closed_by_peer());
  good.send("good");
  EXPECT_EQ(good.receive(), "good");
}

TEST(UnixServer, HalfClosedPeerGetsItsAnswersThenTheEnd) {
  Gate gate;
  Served served([&](const policy::Principal&, ByteView frame, Responder responder) {
    const SecretBytes body = copy_of(frame);
    gate.pass();
    responder.answer(body);
  });
  RawPeer peer = served.peer();
  peer.send("last");
  ::shutdown(peer.fd(), SHUT_WR);
  gate.open();
  EXPECT_EQ(peer.receive(), "last");
  EXPECT_TRUE(peer.closed_by_peer());
  EXPECT_TRUE(eventually([&] { return served.server->stats().connections == 0; }));
}

TEST(UnixServer, AnswerAfterTheServersEndIsDropped) {
  std::optional<Responder> kept;
  {
    std::atomic<bool> taken{false};
    Served served([&](const policy::Principal&, ByteView, Responder responder) {
      kept = responder;
      taken = true;
    });
    RawPeer peer = served.peer();
    peer.send("x");
    ASSERT_TRUE(eventually([&] { return taken.load(); }));
    // The last answer is given while the server waits for it.
    std::thread late([&] { kept->answer(copy_of(as_bytes("in time"))); });
    served.server.reset();
    late.join();
    EXPECT_EQ(peer.receive(), "in time");
  }
  EXPECT_FALSE(kept->answer(copy_of(as_bytes("late"))));
}

// What asks it for its figures and its timer may end later (the agent's threads that may hang).
TEST(UnixServer, Fault041_AStoppedServerHasLeftItsSocketAndAnswersWhoStillAsksIt) {
  Served served(echo());
  RawPeer peer = served.peer();
  ASSERT_TRUE(peer.send("x"));
  EXPECT_EQ(peer.receive(), "x");
  served.server->stop();
  EXPECT_NO_THROW(listen_unix(served.folder.socket(), 0600, "")) << "nothing answers there";
  EXPECT_EQ(served.server->stats().frames, 1u);
  EXPECT_EQ(served.server->stats().connections, 0u);
  bool ran = false;
  served.server->at(std::chrono::steady_clock::now(), [&] { ran = true; });
  served.server->set_limits({});
  served.server->stop();
  EXPECT_FALSE(ran);
}

TEST(UnixServer, TasksRunOnTheTimerThread) {
  Served served(echo());
  std::atomic<bool> ran{false};
  served.server->at(std::chrono::steady_clock::now() + 5ms, [&] { ran = true; });
  EXPECT_TRUE(eventually([&] { return ran.load(); }));
}

}  // namespace
}  // namespace keyagent::net
