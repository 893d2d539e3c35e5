// SPDX-License-Identifier: Apache-2.0
#pragma once
// HTTPS and WebSocket client, blocking, with deadlines.

#include <optional>

#include "agent/tls/server.h"

namespace keyagent::tls {

struct ClientOptions {
  std::string url;                   // "https://host:port"
  std::optional<Identity> identity;  // none: no client certificate (enrollment, people)
  Trust trust;
  std::string expected_kid;  // the server's key must be this one; empty: any that `trust` certifies
  std::chrono::milliseconds connect_timeout{10000}, timeout{30000};
  std::chrono::milliseconds ping_interval{15000};  // of a link; silent for two: ended
};

// Not thread-safe; one connection, kept alive, opened again when it was lost before a request.
class Client {
 public:
  Client(std::shared_ptr<Library> library, ClientOptions options);
  ~Client();
  // The copy of `body` that is made here is wiped.
  // Throws Error: kPeer (unreachable, lost, no answer in time), the certificate codes, and for an
  // answer of failure() the Error that it holds.
  HttpResponse call(const std::string& method, const std::string& target, const std::string& body,
                    const std::map<std::string, std::string>& headers = {});
  // The session of the last call().
  const Peer& peer() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// One WebSocket, read by one thread; send() and close() from any.
class LinkClient {
 public:
  LinkClient(std::shared_ptr<Library> library, ClientOptions options, const std::string& path);
  ~LinkClient();
  const Peer& peer() const;
  // The next message; nullopt after `timeout` without one. Throws Error{kPeer} when the link ended
  // (the text holds the other side's reason) or its pings were not answered.
  std::optional<std::string> receive(std::chrono::milliseconds timeout);
  void send(const std::string& text);
  void close(const std::string& reason);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace keyagent::tls
