// SPDX-License-Identifier: Apache-2.0
// The least that a unix socket costs: a server of one thread with epoll, recv and send; clients
// that send a request's bytes and wait for an answer's. What the agent takes beyond this and the
// token is its own.
//   [--request-bytes N] [--answer-bytes N] [--clients N] [--milliseconds N] [--name NAME]
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <stdexcept>
#include <vector>

#include "measure.h"

namespace keyagent::bench {
namespace {

void read_whole(int fd, std::vector<char>& bytes) {
  for (std::size_t done = 0; done < bytes.size();) {
    const ssize_t count = ::recv(fd, bytes.data() + done, bytes.size() - done, 0);
    if (count <= 0) throw std::runtime_error("the echo ended");
    done += static_cast<std::size_t>(count);
  }
}

[[noreturn]] void serve(const std::vector<int>& fds, std::size_t request, std::size_t answer) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const int epoll = ::epoll_create1(0);
  for (const int fd : fds) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    ::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
  }
  std::vector<char> in(request), out(answer, 'a');
  for (;;) {
    epoll_event event{};
    if (::epoll_wait(epoll, &event, 1, -1) != 1) continue;
    if (::recv(event.data.fd, in.data(), in.size(), MSG_DONTWAIT) <= 0) ::_exit(0);
    if (::send(event.data.fd, out.data(), out.size(), MSG_NOSIGNAL) <= 0) ::_exit(0);
  }
}

int body(const Arguments& arguments) {
  const std::size_t request = arguments.number("request-bytes", 120);
  const std::size_t answer = arguments.number("answer-bytes", 130);
  const unsigned clients = arguments.number("clients", 1);
  std::vector<int> ours, theirs;
  for (unsigned i = 0; i < clients; ++i) {
    int pair[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) throw std::runtime_error("socketpair");
    ours.push_back(pair[0]);
    theirs.push_back(pair[1]);
  }
  const pid_t server = ::fork();
  if (server == 0) serve(theirs, request, answer);
  const auto load = run(clients, std::chrono::milliseconds(arguments.number("milliseconds", 2000)),
                        [&](unsigned i) -> Work {
                          return [fd = ours[i], out = std::vector<char>(request, 'r'),
                                  in = std::vector<char>(answer)]() mutable {
                            if (::send(fd, out.data(), out.size(), MSG_NOSIGNAL) < 0)
                              throw std::runtime_error("send");
                            read_whole(fd, in);
                          };
                        });
  ::kill(server, SIGKILL);
  ::waitpid(server, nullptr, 0);
  return print(arguments.text("name", "epoll-echo"), clients, load);
}

}  // namespace
}  // namespace keyagent::bench

int main(int argc, char** argv) {
  return keyagent::bench::guarded(argc, argv, keyagent::bench::body);
}
