// SPDX-License-Identifier: Apache-2.0
#pragma once
// A connection of the server: its handshake, then request after request, until it ends or becomes a
// link.

#define BOOST_ERROR_CODE_HEADER_ONLY
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

#include "agent/tls/http.h"
#include "agent/tls/server_impl.h"

namespace keyagent::tls {

class HttpConnection final : public Connection,
                             public Occupant,
                             public std::enable_shared_from_this<HttpConnection> {
 public:
  HttpConnection(Server::Impl& server, asio::ip::tcp::socket socket);
  void start();
  const Peer* peer() const override { return peer_ ? &*peer_ : nullptr; }
  void end(const std::string& why) override;
  Standing standing() const override;
  void make_room(const char* why) override;

 private:
  using Request = http::request<http::string_body>;
  enum class Phase { kHandshake, kIdle, kReading, kHandling, kWriting, kLingering, kEnded };

  // The handshake is done in a worker, because its signature may take a token's time.
  void wait_handshake(Step wanted);
  void calculate_handshake();
  void on_handshake(Step step);
  void established();
  void refuse(const Error& error);

  void wait_request();
  void read_request();
  void on_header(error_code error);
  void read_body();
  void on_body(error_code error);
  void handle(Request request);
  void upgrade(Request request);
  void respond(HttpResponse response, bool keep, bool head, unsigned version);
  void refuse_request(error_code error);

  void enter(Phase phase, Millis limit);
  void on_timeout();
  // Lets the other side read what it was sent last: a socket closed over unread bytes is reset.
  void linger();
  void drain();
  void finish();

  Server::Impl& server_;
  std::optional<TlsStream> stream_;  // gone once it is a link's
  asio::steady_timer timer_;
  boost::beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
  http::response<http::string_body> response_;
  std::optional<Peer> peer_;
  std::string address_;
  Phase phase_ = Phase::kHandshake;
  std::string principal_;  // of address_
  bool ending_ = false, timed_out_ = false;
  bool heard_ = false;        // something was read
  bool calculating_ = false;  // a worker is in the handshake, or about to be
  std::array<char, 512> rest_;
};

// Continues as a link: calls handlers.link's handler until it ends.
void start_link(Server::Impl& server, TlsStream stream, std::shared_ptr<class LinkQueue> queue,
                std::unique_ptr<LinkHandler> handler,
                const http::request<http::string_body>& upgrade);

}  // namespace keyagent::tls
