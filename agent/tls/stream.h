// SPDX-License-Identifier: Apache-2.0
#pragma once
// A Session on a socket as a stream of Asio and Beast. Asio's own TLS stream holds 70 KB of buffers
// for each session, also for one that is idle; this one reads and writes the socket directly.

#define BOOST_ERROR_CODE_HEADER_ONLY
#include <boost/asio/compose.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/beast/core/role.hpp>
#include <chrono>

#include "agent/tls/session.h"

namespace keyagent::tls {

namespace asio = boost::asio;
using boost::system::error_code;
using Millis = std::chrono::milliseconds;

// As "192.0.2.1:4711"; empty for a socket that is not connected (anymore).
std::string address_of(const asio::ip::tcp::socket& socket);

// Used from one thread at a time. A TLS fault completes an operation with connection_reset; the
// session has the details.
class TlsStream {
 public:
  using executor_type = asio::ip::tcp::socket::executor_type;

  TlsStream(asio::ip::tcp::socket socket, std::shared_ptr<const Context> context, Expected expected)
      : socket_(std::move(socket)) {
    error_code ignored;
    socket_.non_blocking(true, ignored);
    socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
    session_ =
        std::make_unique<Session>(std::move(context), socket_.native_handle(), std::move(expected));
  }

  executor_type get_executor() { return socket_.get_executor(); }
  asio::ip::tcp::socket& socket() { return socket_; }
  Session& session() { return *session_; }

  template <class Buffers, class Token>
  auto async_read_some(const Buffers& buffers, Token&& token) {
    return asio::async_compose<Token, void(error_code, std::size_t)>(
        Operation<Buffers, true>{*this, buffers}, token, socket_);
  }
  template <class Buffers, class Token>
  auto async_write_some(const Buffers& buffers, Token&& token) {
    return asio::async_compose<Token, void(error_code, std::size_t)>(
        Operation<Buffers, false>{*this, buffers}, token, socket_);
  }

  // Ends it politely, as far as the socket takes that at once: pending reads end when the other
  // side has answered.
  void farewell() {
    session_->farewell();
    error_code ignored;
    socket_.shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
  }
  // Ends it now. Unlike close() this may be called while another thread is in the handshake: the
  // number of the socket stays taken.
  void cut() {
    error_code ignored;
    socket_.shutdown(asio::ip::tcp::socket::shutdown_both, ignored);
  }

  // Pending operations end. REQUIRES: no other thread is in the handshake.
  void close() {
    session_->detach();
    error_code ignored;
    socket_.close(ignored);
  }

 private:
  template <class Buffers, bool reading>
  struct Operation {
    TlsStream& stream;
    Buffers buffers;
    bool waited = false, finished = false;
    error_code result{};
    std::size_t count = 0;

    template <class Self>
    void operator()(Self& self, error_code error = {}) {
      if (finished) return self.complete(result, count);
      if (error) return finish(self, error);
      const Step step = stream.step<reading>(buffers, count);
      if (step == Step::kWantRead || step == Step::kWantWrite) {
        waited = true;
        const auto wanted = step == Step::kWantRead ? asio::ip::tcp::socket::wait_read
                                                    : asio::ip::tcp::socket::wait_write;
        return stream.socket_.async_wait(wanted, std::move(self));
      }
      if (step == Step::kEnd) error = asio::error::eof;
      if (step == Step::kFault) error = asio::error::connection_reset;
      finish(self, error);
    }
    // A handler is never called from within the call that starts its operation.
    template <class Self>
    void finish(Self& self, error_code error) {
      if (waited) return self.complete(error, count);
      result = error;
      finished = true;
      asio::post(stream.get_executor(), std::move(self));
    }
  };

  template <bool reading, class Buffers>
  Step step(const Buffers& buffers, std::size_t& count) {
    for (auto at = asio::buffer_sequence_begin(buffers); at != asio::buffer_sequence_end(buffers);
         ++at) {
      if constexpr (reading) {
        const asio::mutable_buffer buffer = *at;
        if (buffer.size() > 0)
          return session_->read({static_cast<char*>(buffer.data()), buffer.size()}, count);
      } else {
        const asio::const_buffer buffer = *at;
        if (buffer.size() > 0)
          return session_->write({static_cast<const char*>(buffer.data()), buffer.size()}, count);
      }
    }
    return Step::kDone;  // nothing to do
  }

  asio::ip::tcp::socket socket_;  // before session_: outlives it
  std::unique_ptr<Session> session_;
};

// What Beast's WebSocket asks of a stream of others: how it ends.
inline void teardown(boost::beast::role_type, TlsStream& stream, error_code& error) {
  stream.farewell();
  error = {};
}
template <class Handler>
void async_teardown(boost::beast::role_type, TlsStream& stream, Handler&& handler) {
  stream.farewell();
  asio::post(stream.get_executor(),
             [handler = std::forward<Handler>(handler)]() mutable { handler(error_code{}); });
}
inline void beast_close_socket(TlsStream& stream) {
  stream.close();
}

}  // namespace keyagent::tls
