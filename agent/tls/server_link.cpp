// SPDX-License-Identifier: Apache-2.0
// A link of the server: what it receives goes to its handler, one call at a time, in a worker.

#include "agent/tls/http_connection.h"
#include "agent/tls/link.h"

namespace keyagent::tls {
namespace {

// Lives in the io thread; the handler is used by one worker at a time.
class ServerLink final : public Connection, public std::enable_shared_from_this<ServerLink> {
 public:
  ServerLink(Server::Impl& server, const std::shared_ptr<LinkQueue>& queue,
             std::unique_ptr<LinkHandler> handler)
      : server_(server), queue_(queue), handler_(std::move(handler)), first_(server.io) {}

  void start(TlsStream stream, const http::request<http::string_body>& upgrade) {
    const auto& options = server_.options;
    LinkSink sink;
    sink.message = [self = shared_from_this()](std::string text) {
      self->first_.cancel();
      self->said_ = true;
      self->inbox_.push_back(std::move(text));
      self->work();
    };
    sink.ended = [self = shared_from_this()](const Error& why) {
      self->first_.cancel();
      self->ended_ = why.what();
      self->work();
    };
    session_ = std::make_shared<LinkSession>(
        std::move(stream), queue_,
        LinkLimits{options.message_limit, options.handshake_timeout, options.ping_interval},
        std::move(sink));
    session_->accept(upgrade);
    first_.expires_after(options.handshake_timeout);
    first_.async_wait([self = shared_from_this()](error_code error) {
      if (!error && !self->said_) self->session_->end("no first message came within its time");
    });
  }

  const Peer* peer() const override { return &queue_->peer(); }
  void end(const std::string& why) override { session_->end(why); }

 private:
  void work() {
    if (working_) return;
    if (!inbox_.empty()) {
      working_ = true;
      server_.in_worker([self = shared_from_this(), text = std::move(inbox_.front())]() mutable {
        const std::string fault = self->tell(std::move(text));
        self->server_.in_io([self, fault] { self->told(fault); });
      });
      inbox_.pop_front();
      return;
    }
    if (!ended_) return;
    working_ = true;  // forever
    server_.in_worker([self = shared_from_this()] {
      try {
        self->handler_->on_end(*self->ended_);
      } catch (const std::exception&) {
        // It is over in any case.
      }
      self->handler_.reset();
      self->server_.in_io([self] { self->server_.remove(self); });
    });
  }

  // What the handler threw, or empty.
  std::string tell(std::string text) {
    try {
      handler_->on_message(std::move(text));
      return {};
    } catch (const std::exception& error) {
      return std::string("refused: ") + error.what();
    }
  }

  void told(const std::string& fault) {
    working_ = false;
    if (!fault.empty()) session_->end(fault);
    session_->handled();
    work();
  }

  Server::Impl& server_;
  std::shared_ptr<LinkQueue> queue_;
  std::unique_ptr<LinkHandler> handler_;
  std::shared_ptr<LinkSession> session_;
  asio::steady_timer first_;  // message
  bool said_ = false;         // it came
  std::deque<std::string> inbox_;
  std::optional<std::string> ended_;
  bool working_ = false;
};

}  // namespace

void start_link(Server::Impl& server, TlsStream stream, std::shared_ptr<LinkQueue> queue,
                std::unique_ptr<LinkHandler> handler,
                const http::request<http::string_body>& upgrade) {
  const auto link = std::make_shared<ServerLink>(server, queue, std::move(handler));
  server.add(link);
  link->start(std::move(stream), upgrade);
  if (server.ending) link->end("the server is stopping");
}

}  // namespace keyagent::tls
