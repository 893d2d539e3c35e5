// SPDX-License-Identifier: Apache-2.0
#include "agent/tls/http_connection.h"

#include <array>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/write.hpp>
#include <boost/beast/websocket/rfc6455.hpp>

#include "agent/base/address_principal.h"
#include "agent/base/wiping.h"
#include "agent/tls/link.h"

namespace keyagent::tls {
namespace {

using Socket = asio::ip::tcp::socket;

constexpr std::uint32_t kHeaderLimit = 16 * 1024;
constexpr std::size_t kBuffer = 32 * 1024;  // more than a header
constexpr Millis kLinger{2000};
constexpr const char* kContinue = "HTTP/1.1 100 Continue\r\n\r\n";

HttpResponse plain(int status, const std::string& text) {
  HttpResponse response = failure(Error(Code::kUsage, text));
  response.status = status;
  return response;
}

HttpResponse guarded(const std::function<HttpResponse()>& work) {
  try {
    return work();
  } catch (const Error& error) {
    return failure(error);
  } catch (const std::exception& error) {
    return failure(Error(Code::kInternal, error.what()));
  }
}

}  // namespace

std::string address_of(const Socket& socket) {
  error_code error;
  const auto endpoint = socket.remote_endpoint(error);
  if (error) return {};
  const std::string address = endpoint.address().to_string();
  return (endpoint.address().is_v6() ? "[" + address + "]" : address) + ":" +
         std::to_string(endpoint.port());
}

void serve(Server::Impl& server, Socket socket) {
  try {
    const auto connection = std::make_shared<HttpConnection>(server, std::move(socket));
    server.add(connection);
    connection->start();
  } catch (const std::exception&) {
    // No memory for another session: this one is closed.
  }
}

HttpConnection::HttpConnection(Server::Impl& server, Socket socket)
    : server_(server),
      timer_(server.io),
      buffer_(kBuffer),
      address_(address_of(socket)),
      principal_(principal_of_address(address_)) {
  stream_.emplace(std::move(socket), server.current(), Expected{});
}

// --- the handshake

void HttpConnection::start() {
  server_.places.enter(principal_, *this);
  enter(Phase::kHandshake, server_.options.handshake_timeout);
  wait_handshake(Step::kWantRead);
}

void HttpConnection::wait_handshake(Step wanted) {
  stream_->socket().async_wait(wanted == Step::kWantWrite ? Socket::wait_write : Socket::wait_read,
                               [self = shared_from_this()](error_code error) {
                                 if (error || self->ending_) return self->finish();
                                 self->heard_ = self->calculating_ = true;
                                 self->server_.handshakes.push(
                                     self->principal_, [self] { self->calculate_handshake(); });
                               });
}

void HttpConnection::calculate_handshake() {
  const auto done = [this](Step step) {
    calculating_ = false;
    server_.handshakes.done();
    on_handshake(step);
  };
  // It has waited for its turn.
  if (ending_ || timed_out_)
    return server_.in_io([self = shared_from_this(), done] { done(Step::kWantRead); });
  server_.in_worker([self = shared_from_this(), done] {
    const Step step = self->stream_->session().handshake();
    self->server_.in_io([self, done, step] { done(step); });
  });
}

void HttpConnection::on_handshake(Step step) {
  if (timed_out_)
    return refuse(Error(Code::kPeer, "the client did not finish the handshake in time"));
  if (ending_) return finish();
  if (step == Step::kWantRead || step == Step::kWantWrite) return wait_handshake(step);
  auto& session = stream_->session();
  if (step != Step::kDone)
    return refuse(session.faulty() ? session.fault()
                                   : Error(Code::kPeer, "the client ended the handshake"));
  // A revocation that came during the handshake.
  if (const auto refused = session.judge_again(*server_.current())) return refuse(*refused);
  established();
}

void HttpConnection::established() {
  {
    const MutexLock lock(server_.mutex);
    peer_ = stream_->session().peer(address_);
  }
  wait_request();
}

void HttpConnection::refuse(const Error& error) {
  if (server_.handlers.refused) {
    server_.in_worker([self = shared_from_this(), error] {
      guarded([&] {
        self->server_.handlers.refused(self->address_, error.code(), error.what());
        return HttpResponse{};
      });
    });
  }
  timed_out_ ? finish() : linger();
}

// --- requests

void HttpConnection::wait_request() {
  if (ending_) return linger();
  enter(Phase::kIdle, server_.options.idle_timeout);
  if (buffer_.size() > 0 || stream_->session().pending()) return read_request();
  buffer_.shrink_to_fit();
  stream_->socket().async_wait(Socket::wait_read, [self = shared_from_this()](error_code error) {
    if (error || self->ending_ || self->timed_out_) return self->finish();
    self->read_request();
  });
}

void HttpConnection::read_request() {
  enter(Phase::kReading, server_.options.request_timeout);
  parser_.emplace();
  parser_->header_limit(kHeaderLimit);
  parser_->body_limit(server_.options.body_limit);
  http::async_read_header(
      *stream_, buffer_, *parser_,
      [self = shared_from_this()](error_code error, std::size_t) { self->on_header(error); });
}

void HttpConnection::on_header(error_code error) {
  if (error || ending_ || timed_out_) return refuse_request(error);
  if (boost::beast::websocket::is_upgrade(parser_->get())) return upgrade(parser_->release());
  if (!boost::beast::iequals(parser_->get()[http::field::expect], "100-continue"))
    return read_body();
  asio::async_write(*stream_, asio::buffer(kContinue, std::strlen(kContinue)),
                    [self = shared_from_this()](error_code failed, std::size_t) {
                      failed ? self->finish() : self->read_body();
                    });
}

void HttpConnection::read_body() {
  http::async_read(
      *stream_, buffer_, *parser_,
      [self = shared_from_this()](error_code error, std::size_t) { self->on_body(error); });
}

void HttpConnection::on_body(error_code error) {
  if (error || ending_ || timed_out_) return refuse_request(error);
  wipe_read(buffer_);
  handle(parser_->release());
}

void HttpConnection::refuse_request(error_code error) {
  const auto answer = [this](int status, const char* text) {
    respond(plain(status, text), false, false, 11);
  };
  if (ending_) return finish();
  if (timed_out_) return answer(408, "the request did not arrive in time");
  if (error == http::error::body_limit) return answer(413, "the body is too large");
  if (error == http::error::header_limit || error == http::error::buffer_overflow)
    return answer(431, "the header is too large");
  // An end between two requests, and faults of the connection.
  const bool malformed =
      error.category() == http::make_error_code(http::error::bad_method).category();
  if (!malformed || error == http::error::end_of_stream || error == http::error::partial_message)
    return linger();
  answer(400, "not an HTTP request");
}

void HttpConnection::handle(Request request) {
  enter(Phase::kHandling, Millis::zero());
  const bool keep = request.keep_alive(), head = request.method() == http::verb::head;
  const unsigned version = request.version();
  parser_.reset();
  auto shared = std::make_shared<Request>(std::move(request));
  server_.in_worker([self = shared_from_this(), shared, keep, head, version] {
    auto response = std::make_shared<HttpResponse>(guarded([&] {
      if (!self->server_.handlers.request)
        throw Error(Code::kUsage, "this endpoint accepts WebSocket connections only");
      auto asked = from_beast(std::move(*shared), *self->peer_);
      const Wiping wiping(asked.body);
      return self->server_.handlers.request(asked);
    }));
    self->server_.in_io([self, response, keep, head, version] {
      self->respond(std::move(*response), keep, head, version);
    });
  });
}

void HttpConnection::upgrade(Request request) {
  enter(Phase::kHandling, Millis::zero());
  parser_.reset();
  auto shared = std::make_shared<Request>(std::move(request));
  server_.in_worker([self = shared_from_this(), shared] {
    auto queue = std::make_shared<LinkQueue>(*self->peer_);
    // Shared ownership: a handler that was created always learns of the end of its link.
    auto handler = std::make_shared<std::unique_ptr<LinkHandler>>();
    auto refusal = std::make_shared<HttpResponse>(guarded([&] {
      if (!self->server_.handlers.link)
        throw Error(Code::kUsage, "this endpoint accepts no WebSocket connections");
      *handler = self->server_.handlers.link(queue, from_beast(Request(*shared), *self->peer_));
      if (!*handler) throw Error(Code::kUsage, "unknown WebSocket path");
      return HttpResponse{};
    }));
    self->server_.in_io([self, shared, queue, handler, refusal] {
      if (!*handler) {
        queue->attach(nullptr);
        return self->respond(std::move(*refusal), false, false, shared->version());
      }
      start_link(self->server_, std::move(*self->stream_), queue, std::move(*handler), *shared);
      self->stream_.reset();
      self->finish();
    });
  });
}

void HttpConnection::respond(HttpResponse response, bool keep, bool head, unsigned version) {
  if (ending_ && phase_ == Phase::kHandling) return finish();
  enter(Phase::kWriting, server_.options.request_timeout);
  response_ = to_beast(std::move(response));
  response_.version(version);
  response_.keep_alive(keep);
  response_.prepare_payload();
  if (head) response_.body().clear();  // its length stays in the header
  http::async_write(*stream_, response_,
                    [self = shared_from_this(), keep](error_code error, std::size_t) {
                      wipe(self->response_.body());
                      self->response_ = {};
                      if (error || self->timed_out_) return self->finish();
                      keep ? self->wait_request() : self->linger();
                    });
}

// --- ends

void HttpConnection::enter(Phase phase, Millis limit) {
  phase_ = phase;
  timer_.cancel();
  if (limit == Millis::zero()) return;
  timer_.expires_after(limit);
  timer_.async_wait([self = shared_from_this()](error_code error) {
    if (!error && self->timer_.expiry() <= std::chrono::steady_clock::now()) self->on_timeout();
  });
}

void HttpConnection::on_timeout() {
  if (!stream_ || phase_ == Phase::kEnded) return;
  timed_out_ = true;
  switch (phase_) {
    case Phase::kReading: {  // is answered
      error_code ignored;
      stream_->socket().cancel(ignored);
      break;
    }
    case Phase::kIdle:
      stream_->farewell();
      stream_->cut();
      break;
    default:
      stream_->cut();
  }
}

void HttpConnection::end(const std::string&) {
  ending_ = true;
  if (!stream_ || phase_ == Phase::kEnded) return;
  // A worker may be in the session now: TLS is not to be touched then.
  if (phase_ != Phase::kHandshake) stream_->farewell();
  stream_->cut();
}

Standing HttpConnection::standing() const {
  if (ending_ || calculating_) return Standing::kWorking;
  switch (phase_) {
    case Phase::kHandshake:
      return heard_ ? Standing::kSlow : Standing::kSilent;
    case Phase::kLingering:
      return Standing::kIdle;
    case Phase::kIdle:
      return peer_ && peer_->certified ? Standing::kKnownIdle : Standing::kIdle;
    case Phase::kReading:
    case Phase::kWriting:
      return Standing::kSlow;
    case Phase::kHandling:
    case Phase::kEnded:
      break;
  }
  return Standing::kWorking;
}

void HttpConnection::make_room(const char* why) {
  if (server_.handlers.refused) {
    server_.in_worker([self = shared_from_this(), why] {
      guarded([&] {
        self->server_.handlers.refused(self->address_, Code::kBusy, why);
        return HttpResponse{};
      });
    });
  }
  end(why);
}

void HttpConnection::linger() {
  if (!stream_ || phase_ == Phase::kEnded) return;
  enter(Phase::kLingering, kLinger);
  stream_->farewell();
  drain();
}

void HttpConnection::drain() {
  stream_->socket().async_read_some(asio::buffer(rest_),
                                    [self = shared_from_this()](error_code error, std::size_t) {
                                      error || self->timed_out_ ? self->finish() : self->drain();
                                    });
}

void HttpConnection::finish() {
  if (phase_ == Phase::kEnded) return;
  phase_ = Phase::kEnded;
  timer_.cancel();
  if (stream_) stream_->close();
  server_.places.leave(principal_, *this);
  server_.remove(shared_from_this());
}

}  // namespace keyagent::tls
