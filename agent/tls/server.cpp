// SPDX-License-Identifier: Apache-2.0
#include <vector>

#include "agent/base/address_principal.h"
#include "agent/tls/server_impl.h"

namespace keyagent::tls {
namespace {

constexpr Millis kAcceptPause{100};

}  // namespace

Server::Impl::Impl(std::shared_ptr<Library> tls, const Identity& identity, const Trust& trust,
                   ServerOptions settings, Handlers calls)
    : library(std::move(tls)),
      options(std::move(settings)),
      handlers(std::move(calls)),
      context(make(identity, trust)),
      workers(std::max(1U, options.workers)) {}

std::shared_ptr<const Context> Server::Impl::make(const Identity& identity,
                                                  const Trust& trust) const {
  return std::make_shared<Context>(library, Side::kServer, identity, trust,
                                   options.client_certificate == ClientCertificate::kRequired
                                       ? PeerCertificate::kRequired
                                       : PeerCertificate::kOptional);
}

std::shared_ptr<const Context> Server::Impl::current() const {
  const MutexLock lock(mutex);
  return context;
}

void Server::Impl::listen() {
  const std::string where = options.address + " port " + std::to_string(options.port);
  error_code error;
  const auto address = asio::ip::make_address(options.address, error);
  const asio::ip::tcp::endpoint endpoint(address, options.port);
  if (!error) acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(asio::socket_base::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error)
    throw Error(Code::kConfiguration, "cannot listen on " + where + ": " + error.message());
}

void Server::Impl::accept() {
  acceptor.async_accept([this](error_code error, asio::ip::tcp::socket socket) {
    if (ending) return;
    if (error) {  // out of file descriptors, most likely
      places.make_room();
      pause.expires_after(kAcceptPause);
      pause.async_wait([this](error_code stopped) {
        if (!stopped && !ending) accept();
      });
      return;
    }
    admit(std::move(socket));
    accept();
  });
}

// Links hold places of the total too, and never end for others.
void Server::Impl::admit(asio::ip::tcp::socket socket) {
  std::size_t open = 0;
  {
    const MutexLock lock(mutex);
    open = connections.size();
  }
  // Connections that are being closed still count for a moment.
  if (open >= 2 * options.connections) return;
  if (open >= options.connections && !places.make_room()) return;
  if (places.make_room_for(principal_of_address(address_of(socket))))
    serve(*this, std::move(socket));
}

void Server::Impl::add(const std::shared_ptr<Connection>& connection) {
  const MutexLock lock(mutex);
  connections.insert(connection);
}

void Server::Impl::remove(const std::shared_ptr<Connection>& connection) {
  const MutexLock lock(mutex);
  connections.erase(connection);
  if (connections.empty()) emptied.notify_all();
}

Server::Server(std::shared_ptr<Library> library, Identity identity, Trust trust,
               ServerOptions options, Handlers handlers)
    : impl_(std::make_shared<Impl>(std::move(library), identity, trust, std::move(options),
                                   std::move(handlers))) {
  impl_->listen();
  impl_->accept();
  impl_->io_thread = std::thread([impl = impl_.get()] { impl->io.run(); });
}

Server::~Server() {
  impl_->in_io([impl = impl_.get()] {
    impl->ending = true;
    error_code ignored;
    impl->acceptor.close(ignored);
    impl->pause.cancel();
    std::set<std::shared_ptr<Connection>> all;
    {
      const MutexLock lock(impl->mutex);
      all = impl->connections;
    }
    for (const auto& each : all) each->end("the server is stopping");
  });
  {
    MutexLock lock(impl_->mutex);
    // A connection that was accepted before `ending` is in the set: accept() adds in the io thread.
    impl_->emptied.wait(impl_->mutex,
                        [&]() REQUIRES(impl_->mutex) { return impl_->connections.empty(); });
  }
  impl_->workers.join();
  impl_->io.stop();  // timers of links may be left
  impl_->io_thread.join();
}

std::uint16_t Server::port() const {
  return impl_->acceptor.local_endpoint().port();
}

void Server::use(Identity identity, Trust trust) {
  auto fresh = impl_->make(identity, trust);
  const MutexLock lock(impl_->mutex);
  impl_->context.swap(fresh);
}

std::size_t Server::end_sessions(const std::function<bool(const Peer&)>& which,
                                 const std::string& why) {
  std::vector<std::pair<std::shared_ptr<Connection>, Peer>> open;
  {
    const MutexLock lock(impl_->mutex);
    for (const auto& each : impl_->connections) {
      if (each->peer() != nullptr) open.emplace_back(each, *each->peer());
    }
  }
  std::size_t count = 0;
  for (const auto& [connection, peer] : open) {
    if (!which(peer)) continue;
    ++count;
    impl_->in_io([connection = connection, why] { connection->end(why); });
  }
  return count;
}

}  // namespace keyagent::tls
