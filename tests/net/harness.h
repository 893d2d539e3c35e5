// SPDX-License-Identifier: Apache-2.0
#pragma once
// A server on a socket in a temporary folder, and raw peers that may misbehave.

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <condition_variable>
#include <cstring>
#include <filesystem>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "agent/base/error.h"
#include "agent/net/unix_server.h"
#include "agent/wire/frame.h"

namespace keyagent::net {

// A private folder, removed with the object.
class Folder {
 public:
  Folder() {
    char name[] = "/tmp/ka-net-XXXXXX";
    path_ = ::mkdtemp(name);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::filesystem::path socket() const { return path_ / "agent.sock"; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// Waits up to a minute for `condition`.
inline bool eventually(const std::function<bool()>& condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

// Opens when told; handlers wait at it.
class Gate {
 public:
  void open() {
    std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void pass() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return open_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
};

inline SecretBytes copy_of(ByteView bytes) {
  return {bytes.begin(), bytes.end()};
}

// A connection under the test's full control.
class RawPeer {
 public:
  explicit RawPeer(const std::filesystem::path& path)
      : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    connected_ =
        ::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  }
  bool connected() const { return connected_; }
  int fd() const { return fd_.get(); }
  bool send_raw(ByteView bytes) {
    std::size_t done = 0;
    while (done < bytes.size()) {
      const auto count = ::send(fd_.get(), bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL);
      if (count <= 0) return false;
      done += static_cast<std::size_t>(count);
    }
    return true;
  }
  bool send(std::string_view text) {
    SecretBytes frame;
    wire::append_frame(frame, as_bytes(text));
    return send_raw(frame);
  }
  // The next frame's body; nullopt at the end of the connection or after `patience`.
  std::optional<std::string> receive(int patience_ms = 10000) {
    for (;;) {
      if (const auto body = reader_.next()) return std::string(as_text(*body));
      pollfd wait{fd_.get(), POLLIN, 0};
      if (::poll(&wait, 1, patience_ms) <= 0) return std::nullopt;
      const auto room = reader_.space();
      const auto count = ::recv(fd_.get(), room.data(), room.size(), 0);
      if (count <= 0) return std::nullopt;
      reader_.commit(static_cast<std::size_t>(count));
    }
  }
  bool closed_by_peer() {
    return eventually([this] {
      char byte = 0;
      const auto count = ::recv(fd_.get(), &byte, 1, MSG_DONTWAIT);
      return count == 0 || (count < 0 && errno == ECONNRESET);
    });
  }

 private:
  Fd fd_;
  bool connected_ = false;
  wire::FrameReader reader_{wire::kMaxAnswer};
};

// Runs `body` in a child process; its result is the exit status.
inline int in_child(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body());
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

inline FrameHandler echo() {
  return [](const policy::Principal&, ByteView frame, Responder responder) {
    responder.answer(copy_of(frame));
  };
}

}  // namespace keyagent::net
