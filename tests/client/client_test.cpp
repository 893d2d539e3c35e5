// SPDX-License-Identifier: Apache-2.0
#include "agent/client/client.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <thread>
#include <vector>

#include "agent.h"
#include "agent/client/channel.h"
#include "tests/support/temp_folder.h"

namespace keyagent::client {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

TEST(SocketPath, GivenThenEnvironmentThenDefault) {
  ::unsetenv("KEYAGENT_SOCKET");
  EXPECT_EQ(socket_path(""), "/run/keyagent/agent.sock");
  ::setenv("KEYAGENT_SOCKET", "/run/x.sock", 1);
  EXPECT_EQ(socket_path(""), "/run/x.sock");
  EXPECT_EQ(socket_path("/run/y.sock"), "/run/y.sock");
  ::unsetenv("KEYAGENT_SOCKET");
}

TEST(SocketPath, TheOnlyAgentOfTheHostIsFoundAndSeveralAreListed) {
  const test::TempFolder folder;
  const auto at = [&](const std::string& name) { return folder.path() / name; };
  EXPECT_EQ(only_socket(folder.path() / "missing"), folder.path() / "missing/agent.sock");
  EXPECT_EQ(only_socket(folder.path()), at("agent.sock"));
  const auto mail = net::listen_unix(at("mail.sock"), 0600, "");
  const auto ssh = net::listen_unix(at("mail-ssh.sock"), 0600, "");
  std::ofstream(at("no-socket.sock")) << "text";
  EXPECT_EQ(only_socket(folder.path()), at("mail.sock"));
  const auto web = net::listen_unix(at("web.sock"), 0600, "");
  const auto error = error_of([&] { only_socket(folder.path()); });
  EXPECT_EQ(error.code(), Code::kUsage);
  EXPECT_THAT(error.what(), HasSubstr("mail.sock, " + at("web.sock").string()));
  EXPECT_THAT(error.what(), testing::Not(HasSubstr("ssh")));
  const auto agent = net::listen_unix(at("agent.sock"), 0600, "");
  EXPECT_EQ(only_socket(folder.path()), at("agent.sock"));
}

TEST(Client, CallBringsTheAnswer) {
  Agent agent(sign_by_echo);
  Client client({agent.socket()});
  EXPECT_EQ(client.call(sign_request("digest")).sign().signature(), "digest");
  EXPECT_EQ(client.call(sign_request("another")).sign().signature(), "another");
  EXPECT_EQ(agent.server().stats().accepted, 1u);
}

TEST(Client, AbsentAgentIsReportedWithTheFix) {
  Client client({"/tmp/ka-none/agent.sock"});
  const auto error = error_of([&] { client.call(sign_request("x")); });
  EXPECT_EQ(error.code(), Code::kPeer);
  EXPECT_THAT(error.what(), HasSubstr("no agent at /tmp/ka-none/agent.sock"));
  EXPECT_THAT(error.what(), HasSubstr("start the agent"));
}

TEST(Client, RefusalComesWithCodeTextAndKid) {
  Agent agent([](const wire::Request&, wire::Response& response) {
    response.mutable_failure()->set_code(wire::KEY_STATE);
    response.mutable_failure()->set_text("destroyed yesterday");
    response.mutable_failure()->set_kid("the-kid");
  });
  Client client({agent.socket()});
  const auto error = error_of([&] { client.call(sign_request("x")); });
  EXPECT_EQ(error.code(), Code::kKeyState);
  EXPECT_STREQ(error.what(), "destroyed yesterday");
  EXPECT_EQ(error.kid(), "the-kid");
}

TEST(Client, AnswersOutOfOrderFindTheirCallers) {
  Agent agent([](const wire::Request& request, wire::Response& response) {
    const int number = std::atoi(request.sign().input().c_str());
    // Answers come in another order than the questions.
    std::this_thread::sleep_for(std::chrono::microseconds(number % 7 * 100));  // paces
    sign_by_echo(request, response);
  });
  Client client({agent.socket()});
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 100; ++i) {
        const std::string text = std::to_string(t * 1000 + i);
        if (client.call(sign_request(text)).sign().signature() != text) ++wrong;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(agent.server().stats().accepted, 1u);
}

TEST(Client, Fault126_RestartedAgentIsReachedAgainWithoutAnError) {
  Agent agent(sign_by_echo);
  Client client({agent.socket()});
  client.call(sign_request("before"));
  agent.stop();
  agent.start();
  EXPECT_EQ(client.call(sign_request("after")).sign().signature(), "after");
}

TEST(Client, Fault126_SignRequestIsRetriedOnceWhenTheConnectionIsLost) {
  Agent agent(sign_by_echo);
  Client client({agent.socket()});
  agent.drop = 1;
  EXPECT_EQ(client.call(sign_request("twice")).sign().signature(), "twice");
  EXPECT_EQ(agent.requests, 2);
}

TEST(Client, Fault126_SecondLossIsAnError) {
  Agent agent(sign_by_echo);
  Client client({agent.socket()});
  agent.drop = 2;
  EXPECT_EQ(error_of([&] { client.call(sign_request("x")); }).code(), Code::kPeer);
  EXPECT_EQ(agent.requests, 2);
  EXPECT_EQ(client.call(sign_request("fine")).sign().signature(), "fine");
}

TEST(Client, Fault126_ChangeIsNeverRepeated) {
  Agent agent(
      [](const wire::Request&, wire::Response& response) { response.mutable_key_create(); });
  Client client({agent.socket()});
  agent.drop = 1;
  wire::Request request;
  request.mutable_key_create()->set_name("release");
  const auto error = error_of([&] { client.call(request); });
  EXPECT_EQ(error.code(), Code::kPeer);
  EXPECT_THAT(error.what(), HasSubstr("it is unknown whether"));
  EXPECT_EQ(agent.requests, 1);
}

TEST(Client, CallEndsAtItsDeadlineAndTheLateAnswerIsDiscarded) {
  std::atomic<bool> slow{true};
  Agent agent([&](const wire::Request& request, wire::Response& response) {
    while (request.sign().input() == "slow" && slow) std::this_thread::yield();
    sign_by_echo(request, response);
  });
  Client client({agent.socket(), 60ms});
  EXPECT_EQ(error_of([&] { client.call(sign_request("slow")); }).code(), Code::kDeadline);
  slow = false;
  EXPECT_EQ(client.call(sign_request("next")).sign().signature(), "next");
  EXPECT_EQ(agent.server().stats().accepted, 1u);
}

TEST(Client, AgentsWordOnTheConnectionIsTheError) {
  Agent agent(sign_by_echo);
  net::Limits none;
  none.connections = 0;
  agent.server().set_limits(none);
  std::vector<Fd> held;  // a user with few connections is served beyond the limit, if it is ours
  for (int i = 0; i < 8; ++i)
    held.push_back(connect_agent(agent.socket(), std::chrono::steady_clock::now() + 5s));
  while (agent.server().stats().accepted < held.size()) std::this_thread::yield();
  Client client({agent.socket()});
  const auto error = error_of([&] { client.call(sign_request("x")); });
  EXPECT_EQ(error.code(), Code::kBusy);
  EXPECT_THAT(error.what(), HasSubstr("limits.connections"));
}

TEST(Client, RequestOverTheFrameLimitIsRefusedHere) {
  Agent agent(sign_by_echo);
  Client client({agent.socket()});
  const auto error = error_of([&] { client.call(sign_request(std::string(300000, 'x'))); });
  EXPECT_EQ(error.code(), Code::kUsage);
  EXPECT_EQ(agent.requests, 0);
}

TEST(Client, Fault125_ForkedChildUsesItsOwnConnection) {
  Agent agent(sign_by_echo);
  Client client({agent.socket()});
  client.call(sign_request("parent"));
  const pid_t child = ::fork();
  if (child == 0) ::_exit(client.call(sign_request("child")).sign().signature() == "child" ? 0 : 1);
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(client.call(sign_request("parent")).sign().signature(), "parent");
  EXPECT_EQ(agent.server().stats().accepted, 2u);
}

TEST(Client, Fault113_StrangerWhoListensAtThePathIsNotTalkedTo) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to play two users";
  // The stranger does not own the file, so the file's owner does not identify the listener.
  char name[] = "/tmp/ka-stranger-XXXXXX";
  const std::filesystem::path folder = ::mkdtemp(name);
  ASSERT_EQ(::chown(folder.c_str(), 65534, 65534), 0);
  const auto path = folder / "agent.sock";
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t stranger = ::fork();
  if (stranger == 0) {
    if (::setuid(65534) != 0) ::_exit(1);
    const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    ::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
    ::listen(fd, 5);
    if (::write(ready[1], "x", 1) != 1) ::_exit(1);
    ::pause();
  }
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  ASSERT_EQ(::lchown(path.c_str(), 1234, 1234), 0);
  Client client({path, 500ms});
  const auto error = error_of([&] { client.call(sign_request("secret")); });
  ::kill(stranger, SIGKILL);
  ::waitpid(stranger, nullptr, 0);
  std::filesystem::remove_all(folder);
  EXPECT_EQ(error.code(), Code::kPeer);
  EXPECT_THAT(error.what(), HasSubstr("uid 65534 listens on it"));
}

}  // namespace
}  // namespace keyagent::client
