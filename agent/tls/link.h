// SPDX-License-Identifier: Apache-2.0
#pragma once
// A WebSocket on a TLS session, as both sides have it.

#include <deque>
#include <functional>

#define BOOST_ERROR_CODE_HEADER_ONLY
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/websocket/stream.hpp>

#include "agent/base/mutex.h"
#include "agent/tls/server.h"
#include "agent/tls/stream.h"

namespace keyagent::tls {

namespace websocket = boost::beast::websocket;

class LinkSession;

// What is to be sent on a link, and the Link that others hold: it outlives the session.
// Thread-safe.
class LinkQueue final : public Link {
 public:
  explicit LinkQueue(Peer peer) : peer_(std::move(peer)) {}
  const Peer& peer() const override { return peer_; }
  bool send(std::string text) override;
  void close(const std::string& reason) override;

  // From now on events go to this session; nullptr: it has ended.
  void attach(LinkSession* session);
  // The next message; nullopt: none.
  std::optional<std::string> next();
  // Set once the link is to be closed, after what is in the queue.
  std::optional<std::string> closing() const;
  void drop();

 private:
  const Peer peer_;
  mutable Mutex mutex_;
  std::deque<std::string> messages_ GUARDED_BY(mutex_);
  std::optional<std::string> closing_ GUARDED_BY(mutex_);
  LinkSession* session_ GUARDED_BY(mutex_) = nullptr;
  bool ended_ GUARDED_BY(mutex_) = false;
};

// At most 123 bytes of whole UTF-8 characters (RFC 6455 §5.5).
std::string close_reason(const std::string& reason);

struct LinkLimits {
  std::size_t message = 256 << 10;
  Millis handshake{10000}, ping{15000};
};
// Called in the io thread.
struct LinkSink {
  std::function<void()> opened;
  std::function<void(std::string)> message;
  std::function<void(const Error&)> ended;  // once, last
};

// Lives in one io thread, apart from wake().
class LinkSession : public std::enable_shared_from_this<LinkSession> {
 public:
  // At most this many messages are read ahead of handled().
  static constexpr std::size_t kAhead = 16;

  LinkSession(TlsStream stream, std::shared_ptr<LinkQueue> queue, LinkLimits limits, LinkSink sink);
  void accept(const boost::beast::http::request<boost::beast::http::string_body>& upgrade);
  void connect(const std::string& host, const std::string& path);
  // Thread-safe: there is something in the queue.
  void wake();
  // One message of those given to the sink was handled.
  void handled();
  // Ends it without what is queued.
  void end(const std::string& reason);
  // Without a farewell.
  void cut();

 private:
  using Socket = websocket::stream<TlsStream, false>;

  void begin(bool server);
  void on_open(error_code error);
  void read();
  void on_read(error_code error);
  void flush();
  void close(const std::string& reason);
  void finish(const Error& why);
  Error why(error_code error);

  Socket socket_;
  std::shared_ptr<LinkQueue> queue_;
  const LinkLimits limits_;
  LinkSink sink_;
  asio::steady_timer farewell_;
  boost::beast::flat_buffer in_;
  std::string out_;
  websocket::response_type answer_;
  std::string reason_;  // ours, for ending it
  std::size_t ahead_ = 0;
  bool open_ = false, reading_ = false, writing_ = false, closing_ = false, finished_ = false;
};

}  // namespace keyagent::tls
