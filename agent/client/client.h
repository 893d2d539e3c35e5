// SPDX-License-Identifier: Apache-2.0
#pragma once
// A connection to an agent's socket, for programs on the same host.

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>

#include "agent/base/key_ops.h"
#include "agent/wire/keyagent.pb.h"

namespace keyagent::client {

// The socket to use: `given` if not empty, else $KEYAGENT_SOCKET, else only_socket() of
// /run/keyagent. Throws what that throws.
std::filesystem::path socket_path(const std::string& given);
// agent.sock in this folder, or the only other socket of an agent in it: NAME.sock, besides which
// NAME-ssh.sock does not count. Without any it is agent.sock, to which nothing can connect. Throws
// Error{kUsage}: there are several, which the text lists.
std::filesystem::path only_socket(const std::filesystem::path& folder);

// Thread-safe: calls from several threads are pipelined over one connection. Reconnects
// automatically (after the agent has closed an idle connection, and in the child of a fork, which
// must not share its parent's connection); sign, open, seal and reads are repeated once after a
// lost connection (idempotent), changes are not. Connects only to an agent that runs as root, as
// this user, or as the owner of the socket.
class Client {
 public:
  struct Options {
    std::filesystem::path socket;
    std::chrono::milliseconds deadline{10000};  // for one call, with connecting
    // The process may call chroot(2) later: the socket is still looked up in the root directory of
    // now (root_folder.h).
    bool survive_chroot = false;
  };
  explicit Client(Options options);
  ~Client();

  // Sends and waits. Sets request.id, and request.deadline_ms where it is 0. Throws Error{kPeer}
  // when the agent cannot be reached (with the path and the reason), Error{kDeadline}; and the
  // agent's own refusal as an Error with its code, text and kid. The caller wipes an answer that
  // holds a plaintext (wire/messages.h).
  wire::Response call(wire::Request request);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace keyagent::client
