// SPDX-License-Identifier: Apache-2.0
#include <deque>
#include <thread>

#include "agent/base/mutex.h"
#include "agent/tls/dial.h"
#include "agent/tls/link.h"

namespace keyagent::tls {

struct LinkClient::Impl {
  explicit Impl(ClientOptions settings) : options(std::move(settings)) {}

  // Returns when the server has taken the link.
  void open(std::shared_ptr<Library> library, const std::string& path) {
    auto stream = dial(io, client_context(std::move(library), options), options);
    peer = stream.session().peer(address_of(stream.socket()));
    queue = std::make_shared<LinkQueue>(peer);
    LinkSink sink;
    sink.opened = [this] { tell([this]() REQUIRES(mutex) { opened = true; }); };
    sink.message = [this](std::string text) {
      tell([&]() REQUIRES(mutex) { messages.push_back(std::move(text)); });
    };
    sink.ended = [this](const Error& why) { tell([&]() REQUIRES(mutex) { ended = why; }); };
    LinkLimits limits;
    limits.handshake = options.connect_timeout;
    limits.ping = options.ping_interval;
    session = std::make_shared<LinkSession>(std::move(stream), queue, limits, std::move(sink));
    session->connect(parse_url(options.url).authority, path);
    io.restart();
    thread = std::thread([this] { io.run(); });
    MutexLock lock(mutex);
    changed.wait(mutex, [this]() REQUIRES(mutex) { return opened || ended; });
    if (opened) return;
    const Error why = *ended;
    lock.unlock();
    io.stop();
    thread.join();
    throw Error(why);
  }

  template <class Change>
  void tell(Change&& change) {
    const MutexLock lock(mutex);
    change();
    changed.notify_all();
  }

  const ClientOptions options;
  Peer peer;
  asio::io_context io{1};
  std::shared_ptr<LinkQueue> queue;
  std::shared_ptr<LinkSession> session;
  std::thread thread;

  Mutex mutex;
  CondVar changed;
  bool opened GUARDED_BY(mutex) = false;
  std::optional<Error> ended GUARDED_BY(mutex);
  std::deque<std::string> messages GUARDED_BY(mutex);
};

LinkClient::LinkClient(std::shared_ptr<Library> library, ClientOptions options,
                       const std::string& path)
    : impl_(std::make_unique<Impl>(std::move(options))) {
  impl_->open(std::move(library), path);
}

LinkClient::~LinkClient() {
  asio::post(impl_->io, [session = impl_->session] { session->end("the peer is stopping"); });
  {
    MutexLock lock(impl_->mutex);
    impl_->changed.wait(impl_->mutex,
                        [this]() REQUIRES(impl_->mutex) { return impl_->ended.has_value(); });
  }
  impl_->io.stop();  // timers of the WebSocket may be left
  impl_->thread.join();
}

const Peer& LinkClient::peer() const {
  return impl_->peer;
}

std::optional<std::string> LinkClient::receive(std::chrono::milliseconds timeout) {
  MutexLock lock(impl_->mutex);
  impl_->changed.wait_for(impl_->mutex, timeout, [this]() REQUIRES(impl_->mutex) {
    return !impl_->messages.empty() || impl_->ended;
  });
  if (!impl_->messages.empty()) {
    std::string text = std::move(impl_->messages.front());
    impl_->messages.pop_front();
    lock.unlock();
    asio::post(impl_->io, [session = impl_->session] { session->handled(); });
    return text;
  }
  if (impl_->ended) throw Error(*impl_->ended);
  return std::nullopt;
}

void LinkClient::send(const std::string& text) {
  if (impl_->queue->send(text)) return;
  const MutexLock lock(impl_->mutex);
  if (impl_->ended) throw Error(*impl_->ended);
  throw Error(Code::kBusy, "the link's queue is full, or it is being closed");
}

void LinkClient::close(const std::string& reason) {
  impl_->queue->close(reason);
}

}  // namespace keyagent::tls
