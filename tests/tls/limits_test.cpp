// SPDX-License-Identifier: Apache-2.0
// What a server does with clients that are slow, large, many, or no clients at all.

#include "agent/tls/dial.h"
#include "tests/support/lossy_proxy.h"
#include "tests/tls/tls_fixture.h"

namespace keyagent::tls::test {
namespace {

using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

// A TLS client that sends what it wants.
class Raw {
 public:
  Raw(const std::shared_ptr<Library>& library, const ClientOptions& options)
      : stream_(dial(io_, client_context(library, options), options)) {}
  bool write(const std::string& text) {
    std::size_t at = 0, count = 0;
    while (at < text.size()) {
      const Step step = stream_.session().write({text.data() + at, text.size() - at}, count);
      if (step == Step::kDone) {
        at += count;
      } else if (step != Step::kWantWrite || !wait(POLLOUT)) {
        return false;
      }
    }
    return true;
  }
  // Until the server ends it, or `until` is in it.
  std::string read(const std::string& until = "\n\n\n") {
    std::string all;
    char block[4096];
    std::size_t count = 0;
    for (;;) {
      const Step step = stream_.session().read(block, count);
      if (step == Step::kDone) all.append(block, count);
      if (step == Step::kEnd || step == Step::kFault) return all + "<end>";
      if (all.find(until) != std::string::npos) return all;
      if (step == Step::kWantRead && !wait(POLLIN)) return all + "<open>";
    }
  }

 private:
  bool wait(short what) {
    pollfd waiting{stream_.socket().native_handle(), what, 0};
    return ::poll(&waiting, 1, 20000) == 1;
  }
  asio::io_context io_;
  TlsStream stream_;
};

class Limits : public Tls {
 protected:
  Server& limited(void (*change)(ServerOptions&)) {
    auto settings = options();
    settings.body_limit = 1000;
    change(settings);
    return serve(identity("server"), trust(), settings);
  }
  Raw raw() { return Raw(library_, client_options()); }
  // How many are open.
  std::size_t sessions() {
    std::size_t count = 0;
    server_->end_sessions([&](const Peer&) { return ++count, false; }, "");
    return count;
  }
  std::string answer_to(const std::string& text) {
    auto one = raw();
    one.write(text);
    return one.read();
  }
};

TEST_F(Limits, Fault114_SlowRequestsAreEndedAndOthersServed) {
  limited([](ServerOptions& settings) { settings.request_timeout = 400ms; });
  auto header = raw(), body = raw();
  header.write("GET / HTTP/1.1\r\nHost: x\r\n");
  body.write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc");
  EXPECT_EQ(client().call("GET", "/", "").status, 200);
  EXPECT_THAT(header.read(), AllOf(StartsWith("HTTP/1.1 408"), HasSubstr("<end>")));
  EXPECT_THAT(body.read(), AllOf(StartsWith("HTTP/1.1 408"), HasSubstr("<end>")));
}

TEST_F(Limits, Fault114_ASilentHandshakeIsEndedAndTold) {
  limited([](ServerOptions& settings) { settings.handshake_timeout = 300ms; });
  const int silent = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(server_->port());
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(::connect(silent, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  char byte = 0;
  EXPECT_EQ(::recv(silent, &byte, 1, 0), 0);
  ::close(silent);
  const auto told = server_refusal();
  EXPECT_EQ(told.code, Code::kPeer);
  EXPECT_THAT(told.text, HasSubstr("in time"));
}

TEST_F(Limits, Fault114_AnIdleConnectionIsEndedAndAClientOpensAnother) {
  limited([](ServerOptions& settings) { settings.idle_timeout = 300ms; });
  auto one = client();
  EXPECT_EQ(one.call("GET", "/", "").status, 200);
  auto idle = raw();
  EXPECT_EQ(idle.read(), "<end>");
  ASSERT_TRUE(eventually([this] { return sessions() == 0; }));
  EXPECT_EQ(one.call("GET", "/", "").status, 200);
}

TEST_F(Limits, Fault114_WhatIsTooLargeIsAnsweredAndEnded) {
  limited([](ServerOptions&) {});
  EXPECT_THAT(answer_to("GET / HTTP/1.1\r\nHost: x\r\nX: " + std::string(20000, 'x') + "\r\n\r\n"),
              AllOf(StartsWith("HTTP/1.1 431"), HasSubstr("<end>")));
  EXPECT_THAT(answer_to("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n"),
              AllOf(StartsWith("HTTP/1.1 413"), HasSubstr("<end>")));
  EXPECT_THAT(answer_to("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999\r\n\r\n"),
              StartsWith("HTTP/1.1 413"));
  EXPECT_THAT(answer_to("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n" +
                        std::string(2000, 'x') + "\r\n0\r\n\r\n"),
              StartsWith("HTTP/1.1 413"));
  EXPECT_THAT(answer_to("POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: "
                        "1000\r\n\r\n" +
                        std::string(1000, 'x')),
              StartsWith("HTTP/1.1 200"));
}

TEST_F(Limits, MalformedRequestIsAnswered) {
  limited([](ServerOptions&) {});
  EXPECT_THAT(answer_to("\x01\x02 hello\r\n\r\n"), StartsWith("HTTP/1.1 400"));
  EXPECT_THAT(answer_to("GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
              StartsWith("HTTP/1.1 400"));
  for (const std::string target : {"http://x/", "*", "/%00", "/a%0ab", "/?a=1&a=2", "/%zz"})
    EXPECT_THAT(answer_to("GET " + target + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
                StartsWith("HTTP/1.1 400"))
        << target;
}

TEST_F(Limits, RequestsThatComeTogetherAreAnsweredInTurn) {
  limited([](ServerOptions&) {});
  const auto all = answer_to(
      "GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n"
      "Connection: close\r\n\r\n");
  EXPECT_THAT(all, AllOf(HasSubstr("GET /1"), HasSubstr("GET /2"), HasSubstr("<end>")));
  EXPECT_LT(all.find("GET /1"), all.find("GET /2"));
}

TEST_F(Limits, ExpectContinueIsAnsweredBeforeTheBody) {
  limited([](ServerOptions&) {});
  auto one = raw();
  one.write("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
  EXPECT_THAT(one.read("\r\n\r\n"), StartsWith("HTTP/1.1 100"));
  one.write("abc");
  EXPECT_THAT(one.read("abc"), StartsWith("HTTP/1.1 200"));
}

TEST_F(Limits, Fault114_OneConnectionMoreThanAllowedEndsTheOldestIdleOne) {
  limited([](ServerOptions& settings) { settings.connections = 2; });
  {
    // Answered once, each is idle; before that its handshake may not have ended at the server, and
    // such a connection goes first.
    const auto answered = [](auto& each) {
      each.write("GET /kept HTTP/1.1\r\nHost: x\r\n\r\n");
      EXPECT_THAT(each.read("/kept"), StartsWith("HTTP/1.1 200"));
    };
    auto one = raw();
    answered(one);
    auto two = raw();
    answered(two);
    auto three = raw();
    EXPECT_THAT(one.read("HTTP"), EndsWith("<end>"));
    answered(two);
    answered(three);
  }
  Refusal last;
  EXPECT_TRUE(eventually([&] {
    last = refusal_of([&] { client().call("GET", "/", ""); });
    return last.code == Code::kOk;
  })) << last.text;
}

TEST_F(Limits, Fault127_AClientGivesUpOnAServerThatDoesNotRespond) {
  serve();
  auto one = client_options();
  keyagent::test::LossyProxy proxy({server_->port()});
  one.url = "https://127.0.0.1:" + std::to_string(proxy.port());
  one.timeout = 2000ms;
  Client mine(library_, one);
  EXPECT_EQ(mine.call("GET", "/", "").status, 200);
  proxy.hold(true, true);
  const auto refusal = refusal_of([&] { mine.call("GET", "/", ""); });
  EXPECT_EQ(refusal.code, Code::kPeer);
  EXPECT_THAT(refusal.text, HasSubstr("did not respond within 2000 ms"));

  one.connect_timeout = 2000ms;  // accepts connections, sends nothing
  EXPECT_THAT(refusal_of([&] { Client(library_, one).call("GET", "/", ""); }).text,
              HasSubstr("no handshake within 2000 ms"));
  one.url = "https://127.0.0.1:1";
  EXPECT_THAT(refusal_of([&] { Client(library_, one).call("GET", "/", ""); }).text,
              HasSubstr("cannot reach 127.0.0.1:1"));
  for (const std::string url : {"http://x", "https://", "https://x/path", "https://u@x", "x:1"}) {
    one.url = url;
    EXPECT_EQ(refusal_of([&] { Client(library_, one); }).code, Code::kUsage) << url;
  }
}

TEST_F(Limits, AClosedStreamDoesNotWriteToAReusedDescriptor) {
  serve();
  asio::io_context io;
  const auto mine = client_options();
  auto stream = dial(io, client_context(library_, mine), mine);
  const int number = stream.socket().native_handle();
  stream.close();
  int others[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, others), 0);
  ASSERT_EQ(::dup2(others[0], number), number);
  stream.farewell();  // as Beast does at the end of a link
  char byte = 0;
  EXPECT_EQ(::recv(others[1], &byte, 1, MSG_DONTWAIT), -1);
  for (const int each : {others[0], others[1], number}) ::close(each);
}

TEST_F(Limits, Fault129_RandomBytesInsteadOfTlsAreRefused) {
  serve();
  for (int round = 0; round < 20; ++round) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(server_->port());
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ASSERT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    const Bytes noise = random_bytes(500);
    ::send(fd, noise.data(), noise.size(), MSG_NOSIGNAL);
    ::shutdown(fd, SHUT_WR);
    char block[512];
    while (::recv(fd, block, sizeof block, 0) > 0) {
    }
    ::close(fd);
    EXPECT_EQ(server_refusal().code, Code::kPeer);
  }
  EXPECT_EQ(client().call("GET", "/", "").status, 200);
}

}  // namespace
}  // namespace keyagent::tls::test
