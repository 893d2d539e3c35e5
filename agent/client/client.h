#pragma once
// A connection to an agent's socket, for programs on the same host.

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>

#include "agent/base/key_ops.h"
#include "agent/wire/keyagent.pb.h"

namespace keyagent::client {

// The socket to use: `given` if not empty, else $KEYAGENT_SOCKET, else /run/keyagent/agent.sock.
std::filesystem::path socket_path(const std::string& given);

// Thread-safe: calls from several threads are pipelined over one connection. Reconnects by itself; sign, open, seal and reads are
// repeated once after a lost connection (idempotent), changes are not.
class Client {
 public:
  struct Options {
    std::filesystem::path socket;
    std::chrono::milliseconds deadline{10000};  // for one call, with connecting
  };
  explicit Client(Options options);
  ~Client();

  // Sends and waits. Sets request.id. Throws Error{kPeer} when the agent cannot be reached (with the path and the reason),
  // Error{kDeadline}; and the agent's own refusal as an Error with its code, text and kid.
  wire::Response call(wire::Request request);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace keyagent::client
