// SPDX-License-Identifier: Apache-2.0
#pragma once
// An agent that answers as a test tells it to, on a real socket.

#include <gmock/gmock.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "agent/base/error.h"
#include "agent/client/client.h"
#include "agent/net/unix_server.h"
#include "agent/wire/messages.h"

namespace keyagent::client {

class Agent {
 public:
  using Answer = std::function<void(const wire::Request&, wire::Response&)>;
  explicit Agent(Answer answer) : answer_(std::move(answer)) {
    char name[] = "/tmp/ka-client-XXXXXX";
    folder_ = ::mkdtemp(name);
    start();
  }
  ~Agent() {
    stop();
    std::filesystem::remove_all(folder_);
  }
  void start() {
    server_.emplace(net::listen_unix(socket(), 0600, ""), 4, net::Limits{},
                    [this](const auto& peer, ByteView frame, net::Responder responder) {
                      handle(peer, frame, std::move(responder));
                    });
  }
  void stop() { server_.reset(); }
  std::filesystem::path socket() const { return folder_ / "agent.sock"; }
  net::UnixServer& server() { return *server_; }
  std::atomic<int> requests{0};
  // The number of next requests that are answered by closing the connection.
  std::atomic<int> drop{0};

 private:
  void handle(const policy::Principal&, ByteView frame, net::Responder responder) {
    wire::Request request;
    if (!wire::parse(frame, request)) throw Error(Code::kUsage, "no request");
    ++requests;
    if (drop > 0) {
      --drop;
      return;
    }
    wire::Response response;
    response.set_id(request.id());
    answer_(request, response);
    responder.answer(wire::serialize(response));
  }

  Answer answer_;
  std::filesystem::path folder_;
  std::optional<net::UnixServer> server_;
};

// Signs by giving the input back.
inline void sign_by_echo(const wire::Request& request, wire::Response& response) {
  response.mutable_sign()->set_signature(request.sign().input());
}

inline wire::Request sign_request(const std::string& input) {
  wire::Request request;
  request.mutable_sign()->set_input(input);
  return request;
}

// The Error that `body` throws; kOk when it does not.
inline Error error_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    return error;
  }
  return Error(Code::kOk, "nothing was thrown");
}

}  // namespace keyagent::client
