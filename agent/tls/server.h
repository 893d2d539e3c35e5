// SPDX-License-Identifier: Apache-2.0
#pragma once
// HTTPS and WebSocket server with Boost.Beast.

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "agent/base/error.h"
#include "agent/tls/tls.h"

namespace keyagent::tls {

struct HttpRequest {
  std::string method, path;  // path without the query, percent-decoded
  std::map<std::string, std::string> query;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
  Peer peer;
};
struct HttpResponse {
  int status = 200;
  std::string type = "application/json";
  std::string body;
  std::map<std::string, std::string> headers;
};

// One WebSocket. Thread-safe.
class Link {
 public:
  virtual ~Link() = default;
  virtual const Peer& peer() const = 0;
  // Queues a text message; false when the queue is full (256 messages) or the link has ended.
  virtual bool send(std::string text) = 0;
  // Ends it; the other side sees `reason` (at most 123 bytes).
  virtual void close(const std::string& reason) = 0;
};

// What happens on a link. Calls for one link never overlap.
class LinkHandler {
 public:
  virtual ~LinkHandler() = default;
  virtual void on_message(std::string text) = 0;
  virtual void on_end(const std::string& why) = 0;  // once, last
};

enum class ClientCertificate { kRequired, kOptional };

struct ServerOptions {
  std::string address = "0.0.0.0";
  std::uint16_t port = 0;  // 0: any
  ClientCertificate client_certificate = ClientCertificate::kRequired;
  unsigned workers = 8;  // threads that run handlers
  std::size_t body_limit = 1 << 20, message_limit = 256 << 10, connections = 20000;
  // Per address (an IPv4 address, an IPv6 /64), links not counted. A new connection closes the
  // address's oldest idle one.
  std::size_t connections_per_address = 1000;
  std::chrono::milliseconds handshake_timeout{10000}, request_timeout{30000}, idle_timeout{120000};
  std::chrono::milliseconds ping_interval{15000};  // of links; silent for two: ended
};

struct Handlers {
  // An Error thrown becomes its status. The request's body is wiped afterwards.
  std::function<HttpResponse(const HttpRequest&)> request;
  // For a WebSocket upgrade: the handler, or Error to refuse it.
  std::function<std::unique_ptr<LinkHandler>(std::shared_ptr<Link>, const HttpRequest&)> link;
  // A session that was refused in the handshake, for log and audit: address, code, text.
  std::function<void(const std::string&, Code, const std::string&)> refused;
};

// Listens from construction on. Throws Error{kConfiguration} when address or identity cannot be
// used. Thread-safe.
class Server {
 public:
  Server(std::shared_ptr<Library> library, Identity identity, Trust trust, ServerOptions options,
         Handlers handlers);
  ~Server();  // ends every session
  std::uint16_t port() const;
  // For new sessions; those that are open stay as they are.
  void use(Identity identity, Trust trust);
  // Ends the sessions (and links) whose peer `which` picks. Returns how many.
  std::size_t end_sessions(const std::function<bool(const Peer&)>& which, const std::string& why);
  struct Impl;

 private:
  std::shared_ptr<Impl> impl_;
};

// {"error":{"code":"DENIED","text":"…"}} with the HTTP status of the code (one table).
HttpResponse failure(const Error& error);

}  // namespace keyagent::tls
