// SPDX-License-Identifier: Apache-2.0
// Links: messages both ways, and every way in which one ends.

#include <fstream>
#include <thread>

#include "tests/support/lossy_proxy.h"
#include "tests/tls/tls_fixture.h"

namespace keyagent::tls::test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

// What the server's side of the links saw.
struct Record {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::shared_ptr<Link>> links;
  std::vector<std::string> messages, ends;
  std::atomic<int> inside{0}, overlaps{0};
  std::atomic<bool> hold{false};

  template <class Condition>
  bool wait(Condition&& condition) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, 20s, [&] { return condition(*this); });
  }
};

class Echo final : public LinkHandler {
 public:
  Echo(std::shared_ptr<Link> link, Record& record) : link_(std::move(link)), record_(record) {
    const std::lock_guard lock(record_.mutex);
    record_.links.push_back(link_);
  }
  void on_message(std::string text) override {
    if (++record_.inside > 1) ++record_.overlaps;
    while (record_.hold) std::this_thread::sleep_for(5ms);
    if (text == "throw") {
      --record_.inside;
      throw Error(Code::kUsage, "no such message");
    }
    if (text == "hang up") link_->close("as you wish");
    if (text != "quiet") link_->send("echo " + text);
    const std::lock_guard lock(record_.mutex);
    record_.messages.push_back(std::move(text));
    --record_.inside;
    record_.changed.notify_all();
  }
  void on_end(const std::string& why) override {
    const std::lock_guard lock(record_.mutex);
    record_.ends.push_back(why);
    record_.changed.notify_all();
  }

 private:
  const std::shared_ptr<Link> link_;
  Record& record_;
};

class Links : public Tls {
 protected:
  Handlers handlers() override {
    Handlers calls = Tls::handlers();
    calls.link = [this](std::shared_ptr<Link> link,
                        const HttpRequest& request) -> std::unique_ptr<LinkHandler> {
      if (request.path == "/denied") throw Error(Code::kDenied, "no link for you", "kid");
      if (request.path == "/greeting") link->send("hello " + request.peer.kid);
      return std::make_unique<Echo>(std::move(link), record_);
    };
    return calls;
  }
  std::unique_ptr<LinkClient> link(const std::string& path = "/link",
                                   const ClientOptions* settings = nullptr) {
    return std::make_unique<LinkClient>(library_,
                                        settings != nullptr ? *settings : client_options(), path);
  }
  // What receive() throws at the end.
  static Refusal end_of(LinkClient& link) {
    return refusal_of([&] {
      for (int i = 0; i < 200; ++i) link.receive(100ms);
    });
  }
  std::string end_at_server() {
    EXPECT_TRUE(record_.wait([](Record& r) { return !r.ends.empty(); }));
    const std::lock_guard lock(record_.mutex);
    return record_.ends.empty() ? "no end" : record_.ends.back();
  }
  Record record_;
};

TEST_F(Links, MessagesGoBothWaysInTheirOrderOneCallAtATime) {
  serve();
  const auto one = link("/greeting");
  EXPECT_EQ(one->peer().kid, kid("server"));
  EXPECT_EQ(one->receive(20s), "hello " + kid("client"));
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < 50; ++i) one->send(std::to_string(round * 50 + i));
    for (int i = 0; i < 50; ++i)
      ASSERT_EQ(one->receive(20s), "echo " + std::to_string(round * 50 + i));
  }
  EXPECT_EQ(one->receive(10ms), std::nullopt);
  EXPECT_EQ(record_.overlaps, 0);
  record_.links[0]->send("from the server");
  EXPECT_EQ(one->receive(20s), "from the server");
}

TEST_F(Links, ARefusedUpgradeIsTheHandlersError) {
  serve();
  const auto refusal = refusal_of([&] { link("/denied"); });
  EXPECT_EQ(refusal.code, Code::kDenied);
  EXPECT_EQ(refusal.text, "no link for you");
}

TEST_F(Links, BothSidesSeeWhyItWasClosed) {
  serve();
  auto one = link();
  one->send("hang up");
  const auto refusal = end_of(*one);
  EXPECT_EQ(refusal.code, Code::kPeer);
  EXPECT_THAT(refusal.text, HasSubstr("as you wish"));
  EXPECT_THAT(end_at_server(), HasSubstr("as you wish"));
  EXPECT_FALSE(record_.links[0]->send("too late"));
  EXPECT_EQ(refusal_of([&] { one->send("too late"); }).code, Code::kPeer);

  auto two = link();
  two->close("I go " + std::string(200, 'x'));
  EXPECT_EQ(end_of(*two).code, Code::kPeer);
  ASSERT_TRUE(record_.wait([](Record& r) { return r.ends.size() == 2; }));
  EXPECT_THAT(record_.ends[1], AllOf(HasSubstr("closed the link: I go xxx")));
}

TEST_F(Links, AMessageThatTheHandlerDoesNotTakeEndsTheLink) {
  serve();
  const auto one = link();
  one->send("throw");
  EXPECT_THAT(end_of(*one).text, HasSubstr("no such message"));
  EXPECT_THAT(end_at_server(), HasSubstr("no such message"));
}

TEST_F(Links, Fault114_ALinkWithoutAFirstMessageIsEnded) {
  auto settings = options();
  settings.handshake_timeout = 2s;
  serve(identity("server"), trust(), settings);
  const auto silent = link();
  EXPECT_THAT(end_of(*silent).text, HasSubstr("no first message came within its time"));
  EXPECT_THAT(end_at_server(), HasSubstr("no first message came within its time"));
}

TEST_F(Links, Fault114_ATooLargeMessageEndsTheLinkAndALargeOnePasses) {
  auto settings = options();
  settings.message_limit = 100000;
  serve(identity("server"), trust(), settings);
  const auto one = link();
  one->send(std::string(100000, 'x'));
  EXPECT_EQ(one->receive(20s)->size(), 100005u);
  one->send(std::string(100001, 'x'));
  EXPECT_EQ(end_of(*one).code, Code::kPeer);
  EXPECT_NE(end_at_server(), "no end");
  EXPECT_EQ(record_.messages.size(), 1u);
}

TEST_F(Links, Fault127_AHalfOpenLinkIsEndedOnBothSidesByPings) {
  auto settings = options();
  settings.ping_interval = 300ms;
  serve(identity("server"), trust(), settings);
  keyagent::test::LossyProxy proxy({server_->port()});
  auto mine = client_options();
  mine.url = "https://127.0.0.1:" + std::to_string(proxy.port());
  mine.ping_interval = 300ms;
  const auto one = link("/link", &mine);
  const auto quiet = proxy.passed();
  ASSERT_TRUE(eventually([&] { return proxy.passed() >= quiet + 12; })) << "no pings";
  one->send("still here");
  ASSERT_EQ(one->receive(20s), "echo still here") << "pings keep a silent link";
  proxy.hold(true, true);
  const auto refusal = end_of(*one);
  EXPECT_EQ(refusal.code, Code::kPeer);
  EXPECT_THAT(refusal.text, HasSubstr("did not answer pings"));
  EXPECT_THAT(end_at_server(), HasSubstr("did not answer pings"));
}

TEST_F(Links, Fault127_AResetEndsTheLinkOnBothSides) {
  serve();
  keyagent::test::LossyProxy proxy({server_->port()});
  auto mine = client_options();
  mine.url = "https://127.0.0.1:" + std::to_string(proxy.port());
  const auto one = link("/link", &mine);
  proxy.reset(true);
  EXPECT_EQ(end_of(*one).code, Code::kPeer);
  EXPECT_NE(end_at_server(), "no end");
}

TEST_F(Links, Fault127_MessagesThatThePeerDoesNotReadAreQueuedUpToALimit) {
  serve();
  keyagent::test::LossyProxy proxy({server_->port()});
  auto mine = client_options();
  mine.url = "https://127.0.0.1:" + std::to_string(proxy.port());
  const auto one = link("/link", &mine);
  proxy.hold(true, true);
  int sent = 0;
  while (sent < 5000 && record_.links[0]->send(std::string(60000, 'x'))) ++sent;
  EXPECT_LT(sent, 5000);
  EXPECT_GE(sent, 256);
}

TEST_F(Links, Fault130_EndSessionsEndsThoseThatArePickedAndNoOthers) {
  serve();
  auto mine = client_options();
  mine.identity = identity("rsa");
  const auto revoked = link(), other = link("/link", &mine);
  auto idle = client();
  ASSERT_EQ(idle.call("GET", "/", "").status, 200);
  const int before = backend_->signatures;
  EXPECT_EQ(server_->end_sessions([&](const Peer& peer) { return peer.kid == kid("client"); },
                                  "revoked today"),
            2u);
  EXPECT_THAT(end_of(*revoked).text, HasSubstr("revoked today"));
  EXPECT_EQ(end_at_server(), "revoked today");
  // It may still be on its way to the io thread.
  Refusal last{"", Code::kPeer, ""};
  for (int i = 0; i < 200 && last.code == Code::kPeer; ++i) {
    last = refusal_of([&] { idle.call("GET", "/", ""); });
    if (last.code == Code::kOk && backend_->signatures == before) last.code = Code::kPeer;
  }
  EXPECT_EQ(last.code, Code::kOk) << last.text;
  EXPECT_EQ(backend_->signatures - before, 2) << "with a new handshake";
  other->send("still here");
  EXPECT_EQ(other->receive(20s), "echo still here");
}

TEST_F(Links, Fault130_NewTrustIsForNewSessionsAndTheOpenOnesStay) {
  serve();
  const auto open = link();
  const auto mine = client_options();
  auto lists = trust();
  lists.crls = {ca_.revoke({mine.identity->chain[0]})};
  server_->use(identity("rsa"), lists);
  open->send("still here");
  EXPECT_EQ(open->receive(20s), "echo still here");
  EXPECT_EQ(refusal_of([&] { link("/link", &mine); }).code, Code::kRefusedByPeer);
  EXPECT_EQ(server_refusal().code, Code::kPeerRevoked);
  Client again(library_, client_options());  // with another certificate
  EXPECT_EQ(again.call("GET", "/", "").status, 200);
  EXPECT_EQ(again.peer().kid, kid("rsa"));
}

TEST_F(Links, Fault130_ARevocationDuringTheHandshakeIsNotMissed) {
  serve();
  const auto mine = client_options();
  auto lists = trust();
  lists.crls = {ca_.revoke({mine.identity->chain[0]})};
  // The server has chosen its trust by the time that the client signs.
  backend_->before_signing = [&](const Kid& signer) {
    if (signer.text() == kid("client")) server_->use(identity("server"), lists);
  };
  const auto refusal = refusal_of([&] { Client(library_, mine).call("GET", "/", ""); });
  backend_->before_signing = nullptr;
  EXPECT_EQ(refusal.code, Code::kPeer) << refusal.text;
  EXPECT_EQ(server_refusal().code, Code::kPeerRevoked);
}

TEST_F(Links, AServerThatEndsTellsItsLinksAndALinkOutlivesIt) {
  serve();
  const auto one = link();
  ASSERT_TRUE(record_.wait([](Record& r) { return r.links.size() == 1; }));
  server_.reset();
  EXPECT_EQ(record_.ends, std::vector<std::string>{"the server is stopping"});
  EXPECT_FALSE(record_.links[0]->send("x"));
  record_.links[0]->close("x");
  EXPECT_EQ(record_.links[0]->peer().kid, kid("client"));
  EXPECT_THAT(end_of(*one).text, HasSubstr("the server is stopping"));
}

TEST_F(Links, SixtyFourLinksOfEightThreadsAtOnce) {
  serve();
  std::atomic<int> good{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      std::vector<std::unique_ptr<LinkClient>> mine;
      for (int n = 0; n < 8; ++n) mine.push_back(link());
      for (auto& each : mine) each->send("x");
      for (auto& each : mine) good += each->receive(20s) == "echo x" ? 1 : 0;
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(good, 64);
}

}  // namespace
}  // namespace keyagent::tls::test
