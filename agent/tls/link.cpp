// SPDX-License-Identifier: Apache-2.0
#include "agent/tls/link.h"

#include "agent/base/encoding.h"
#include "agent/tls/http.h"

namespace keyagent::tls {
namespace {

constexpr std::size_t kLongestQueue = 256;  // messages
constexpr std::chrono::seconds kFarewell{3};

}  // namespace

// --- the queue

bool LinkQueue::send(std::string text) {
  const MutexLock lock(mutex_);
  if (ended_ || closing_ || messages_.size() >= kLongestQueue) return false;
  messages_.push_back(std::move(text));
  if (session_ != nullptr) session_->wake();
  return true;
}

void LinkQueue::close(const std::string& reason) {
  const MutexLock lock(mutex_);
  if (ended_ || closing_) return;
  closing_ = reason;
  if (session_ != nullptr) session_->wake();
}

void LinkQueue::attach(LinkSession* session) {
  const MutexLock lock(mutex_);
  session_ = session;
  ended_ = session == nullptr;
  if (ended_) messages_.clear();
}

std::optional<std::string> LinkQueue::next() {
  const MutexLock lock(mutex_);
  if (messages_.empty()) return std::nullopt;
  std::string text = std::move(messages_.front());
  messages_.pop_front();
  return text;
}

std::optional<std::string> LinkQueue::closing() const {
  const MutexLock lock(mutex_);
  return closing_;
}

void LinkQueue::drop() {
  const MutexLock lock(mutex_);
  messages_.clear();
}

std::string close_reason(const std::string& reason) {
  constexpr std::size_t kLongest = 123;
  std::string text = escape_controls(reason);
  if (text.size() <= kLongest) return text;
  std::size_t size = kLongest;
  while (size > 0 && (static_cast<unsigned char>(text[size]) & 0xc0U) == 0x80) --size;
  text.resize(size);
  return text;
}

// --- the session

LinkSession::LinkSession(TlsStream stream, std::shared_ptr<LinkQueue> queue, LinkLimits limits,
                         LinkSink sink)
    : socket_(std::move(stream)),
      queue_(std::move(queue)),
      limits_(limits),
      sink_(std::move(sink)),
      farewell_(socket_.get_executor()) {}

void LinkSession::begin(bool server) {
  queue_->attach(this);
  // Silent for one interval: a ping; for two: over.
  websocket::stream_base::timeout timeout{limits_.handshake, 2 * limits_.ping, true};
  socket_.set_option(timeout);
  socket_.read_message_max(limits_.message);
  socket_.auto_fragment(false);
  // Of a client; it masks what it sends in there.
  socket_.write_buffer_bytes(server ? 512 : 4096);
  socket_.text(true);
}

void LinkSession::accept(const http::request<http::string_body>& upgrade) {
  begin(true);
  socket_.async_accept(upgrade,
                       [self = shared_from_this()](error_code error) { self->on_open(error); });
}

void LinkSession::connect(const std::string& host, const std::string& path) {
  begin(false);
  socket_.async_handshake(answer_, host, path,
                          [self = shared_from_this()](error_code error) { self->on_open(error); });
}

void LinkSession::on_open(error_code error) {
  if (error) return finish(why(error));
  open_ = true;
  if (closing_) return close(reason_);
  if (sink_.opened) sink_.opened();
  read();
  flush();
}

void LinkSession::wake() {
  asio::post(socket_.get_executor(), [self = shared_from_this()] { self->flush(); });
}

void LinkSession::read() {
  if (reading_ || finished_ || ahead_ >= kAhead) return;
  reading_ = true;
  socket_.async_read(
      in_, [self = shared_from_this()](error_code error, std::size_t) { self->on_read(error); });
}

void LinkSession::on_read(error_code error) {
  reading_ = false;
  if (finished_) return;
  if (error) return finish(why(error));
  std::string text(static_cast<const char*>(in_.data().data()), in_.size());
  in_.consume(in_.size());
  in_.shrink_to_fit();
  if (closing_) return read();  // until the other side's farewell
  if (!socket_.got_text()) {
    end("a link carries text messages only");
    return read();
  }
  ++ahead_;
  sink_.message(std::move(text));
  read();
}

void LinkSession::handled() {
  --ahead_;
  if (open_) read();
}

void LinkSession::flush() {
  if (!open_ || writing_ || closing_ || finished_) return;
  auto text = queue_->next();
  if (!text) {
    if (const auto reason = queue_->closing()) close(*reason);
    return;
  }
  out_ = std::move(*text);
  writing_ = true;
  socket_.async_write(asio::buffer(out_),
                      [self = shared_from_this()](error_code error, std::size_t) {
                        self->writing_ = false;
                        self->out_ = std::string();
                        if (error) return self->finish(self->why(error));
                        self->flush();
                      });
}

void LinkSession::end(const std::string& reason) {
  queue_->drop();
  if (!closing_) close(reason);
}

void LinkSession::close(const std::string& reason) {
  if (finished_) return;
  closing_ = true;
  reason_ = reason;
  farewell_.expires_after(kFarewell);
  farewell_.async_wait([self = shared_from_this()](error_code error) {
    if (!error) self->cut();
  });
  if (!open_) return;  // on_open() does it, or the timer
  socket_.async_close(
      websocket::close_reason(websocket::close_code::policy_error, close_reason(reason)),
      [self = shared_from_this()](error_code error) {
        if (!self->reading_ || error) self->finish(self->why(error));
      });
}

void LinkSession::cut() {
  socket_.next_layer().close();
}

Error LinkSession::why(error_code error) {
  auto& session = socket_.next_layer().session();
  const std::string peer = session.context().side() == Side::kServer ? "the client" : "the server";
  if (!reason_.empty()) return Error(Code::kPeer, reason_);
  if (session.faulty()) return session.fault();
  if (error == websocket::error::closed) {
    const auto& told = socket_.reason().reason;
    return Error(Code::kPeer,
                 peer + " closed the link" +
                     (told.empty() ? "" : ": " + escape_controls({told.data(), told.size()})));
  }
  if (error == boost::beast::error::timeout)
    return Error(Code::kPeer, peer + (open_ ? " did not answer pings" : " did not open the link"));
  if (error == websocket::error::upgrade_declined) {
    if (auto told = error_in(from_beast(std::move(answer_)))) return *told;
  }
  if (error == asio::error::eof) return Error(Code::kPeer, peer + " ended the connection");
  return Error(Code::kPeer, "the link to " + peer + " broke: " + error.message());
}

void LinkSession::finish(const Error& why) {
  if (finished_) return;
  finished_ = true;
  queue_->attach(nullptr);
  farewell_.cancel();
  cut();
  const auto ended = std::move(sink_.ended);
  sink_ = {};  // whose owner may be held by it
  ended(why);
}

}  // namespace keyagent::tls
