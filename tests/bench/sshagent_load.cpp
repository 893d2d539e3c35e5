// SPDX-License-Identifier: Apache-2.0
// An ssh-agent, OpenSSH's or ours, asked for signatures by its first key (draft-ietf-sshm-ssh-agent
// section 3.6).
//   --socket PATH [--clients N] [--milliseconds N] [--name NAME]
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <stdexcept>
#include <vector>

#include "measure.h"

namespace keyagent::bench {
namespace {

using Message = std::vector<unsigned char>;
constexpr unsigned char kIdentities = 11, kIdentitiesAnswer = 12, kSign = 13, kSignAnswer = 14;

void put(Message& out, std::size_t number) {
  for (int shift = 24; shift >= 0; shift -= 8)
    out.push_back(static_cast<unsigned char>(number >> shift));
}

std::size_t number_at(const Message& message, std::size_t at) {
  if (at + 4 > message.size()) throw std::runtime_error("a short answer");
  return std::size_t{message[at]} << 24 | std::size_t{message[at + 1]} << 16 |
         std::size_t{message[at + 2]} << 8 | message[at + 3];
}

class Agent {
 public:
  explicit Agent(const std::string& path) : fd_(::socket(AF_UNIX, SOCK_STREAM, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    if (::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
      throw std::runtime_error("no ssh-agent at " + path);
  }
  ~Agent() { ::close(fd_); }
  Agent(const Agent&) = delete;

  Message ask(const Message& body) {
    Message frame;
    put(frame, body.size());
    frame.insert(frame.end(), body.begin(), body.end());
    if (::send(fd_, frame.data(), frame.size(), MSG_NOSIGNAL) < 0) throw std::runtime_error("send");
    return read(number_at(read(4), 0));
  }

 private:
  Message read(std::size_t size) {
    Message bytes(size);
    for (std::size_t done = 0; done < size;) {
      const ssize_t count = ::recv(fd_, bytes.data() + done, size - done, 0);
      if (count <= 0) throw std::runtime_error("ssh-agent closed the connection");
      done += static_cast<std::size_t>(count);
    }
    return bytes;
  }
  int fd_;
};

// The request to sign 32 bytes with the agent's first key.
Message sign_request(Agent& agent) {
  const Message answer = agent.ask({kIdentities});
  if (answer.at(0) != kIdentitiesAnswer || number_at(answer, 1) == 0)
    throw std::runtime_error("ssh-agent has no key");
  const std::size_t size = number_at(answer, 5);
  if (9 + size > answer.size()) throw std::runtime_error("a short answer");
  Message request{kSign};
  put(request, size);
  request.insert(request.end(), answer.begin() + 9,
                 answer.begin() + 9 + static_cast<std::ptrdiff_t>(size));
  put(request, 32);
  request.insert(request.end(), 32, 0x5a);
  put(request, 0);
  return request;
}

int body(const Arguments& arguments) {
  const unsigned clients = arguments.number("clients", 8);
  const auto load = run(clients, std::chrono::milliseconds(arguments.number("milliseconds", 2000)),
                        [&](unsigned) -> Work {
                          auto agent = std::make_shared<Agent>(arguments.text("socket"));
                          return [agent, request = sign_request(*agent)] {
                            if (agent->ask(request).at(0) != kSignAnswer)
                              throw std::runtime_error("ssh-agent refused to sign");
                          };
                        });
  return print(arguments.text("name", "ssh-agent"), clients, load);
}

}  // namespace
}  // namespace keyagent::bench

int main(int argc, char** argv) {
  return keyagent::bench::guarded(argc, argv, keyagent::bench::body);
}
