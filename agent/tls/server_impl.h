// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a Server holds: one io thread for every socket, workers for handlers and handshakes, and the
// connections.

#include <set>
#include <thread>

#define BOOST_ERROR_CODE_HEADER_ONLY
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>

#include "agent/base/mutex.h"
#include "agent/tls/address_places.h"
#include "agent/tls/context.h"
#include "agent/tls/handshake_queue.h"
#include "agent/tls/server.h"
#include "agent/tls/stream.h"

namespace keyagent::tls {

// A session of the server, from its TCP connection on. Lives in the io thread.
class Connection {
 public:
  virtual ~Connection() = default;
  // nullptr until the handshake is done. Set under the server's mutex, constant afterwards.
  virtual const Peer* peer() const = 0;
  virtual void end(const std::string& why) = 0;
};

struct Server::Impl {
  Impl(std::shared_ptr<Library> tls, const Identity& identity, const Trust& trust,
       ServerOptions settings, Handlers calls);

  std::shared_ptr<const Context> current() const;
  std::shared_ptr<const Context> make(const Identity& identity, const Trust& trust) const;
  void listen();
  void accept();
  void admit(asio::ip::tcp::socket socket);
  void add(const std::shared_ptr<Connection>& connection);
  void remove(const std::shared_ptr<Connection>& connection);
  // Runs `work` in the io thread.
  template <class Work>
  void in_io(Work&& work) {
    asio::post(io, std::forward<Work>(work));
  }
  template <class Work>
  void in_worker(Work&& work) {
    asio::post(workers, std::forward<Work>(work));
  }

  const std::shared_ptr<Library> library;
  const ServerOptions options;
  const Handlers handlers;

  asio::io_context io{1};
  const asio::executor_work_guard<asio::io_context::executor_type> busy{io.get_executor()};
  asio::ip::tcp::acceptor acceptor{io};
  asio::steady_timer pause{io};  // after an accept() that failed
  bool ending = false;           // io thread only
  AddressPlaces places{options.connections_per_address, options.connections};  // io thread only
  HandshakeQueue handshakes{std::max(1U, options.workers * 3 / 4)};            // io thread only

  mutable Mutex mutex;
  CondVar emptied;
  std::shared_ptr<const Context> context GUARDED_BY(mutex);
  std::set<std::shared_ptr<Connection>> connections GUARDED_BY(mutex);

  asio::thread_pool workers;
  std::thread io_thread;
};

// Starts with the handshake of `socket`.
void serve(Server::Impl& server, asio::ip::tcp::socket socket);

}  // namespace keyagent::tls
