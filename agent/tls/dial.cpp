// SPDX-License-Identifier: Apache-2.0
#include "agent/tls/dial.h"

#include <array>
#include <boost/asio/connect.hpp>
#include <boost/url/parse.hpp>
#include <cstdint>
#include <string>
#include <vector>

namespace keyagent::tls {
namespace {

using asio::ip::tcp;

std::string seconds(Millis time) {
  return std::to_string(time.count()) + " ms";
}

[[noreturn]] void unreachable(const Where& where, const std::string& why) {
  throw Error(Code::kPeer, "cannot reach " + where.authority + ": " + why);
}

// RFC 6761 §6.3: the name is resolved locally, without a hosts file.
std::vector<tcp::endpoint> loopback(const std::string& port) {
  const auto number = static_cast<std::uint16_t>(std::stoul(port.substr(0, 5)));
  return {{asio::ip::address_v4::loopback(), number}, {asio::ip::address_v6::loopback(), number}};
}

tcp::socket connect(asio::io_context& io, const Where& where, Deadline deadline,
                    const ClientOptions& options) {
  tcp::socket socket(io);
  tcp::resolver resolver(io);
  error_code result = asio::error::timed_out;
  const auto connected = [&](error_code failed, const tcp::endpoint&) { result = failed; };
  std::vector<tcp::endpoint> local;
  if (where.host == "localhost") {
    local = loopback(where.port);
    asio::async_connect(socket, local, connected);
  } else {
    resolver.async_resolve(where.host, where.port,
                           [&](error_code error, const tcp::resolver::results_type& found) {
                             result = error;
                             if (error) return;
                             result = asio::error::timed_out;
                             asio::async_connect(socket, found, connected);
                           });
  }
  const bool in_time = run_until(io, deadline, [&] {
    error_code ignored;
    resolver.cancel();
    socket.close(ignored);
  });
  if (!in_time) unreachable(where, "no connection within " + seconds(options.connect_timeout));
  if (result) unreachable(where, result.message());
  return socket;
}

void shake_hands(asio::io_context& io, TlsStream& stream, Deadline deadline,
                 const ClientOptions& options, const Where& where) {
  for (;;) {
    const Step step = stream.session().handshake();
    if (step == Step::kDone) return;
    if (step == Step::kFault) throw Error(stream.session().fault());
    if (step == Step::kEnd) unreachable(where, "the peer ended the handshake");
    error_code result;
    stream.socket().async_wait(
        step == Step::kWantWrite ? tcp::socket::wait_write : tcp::socket::wait_read,
        [&](error_code error) { result = error; });
    const bool in_time = run_until(io, deadline, [&] {
      error_code ignored;
      stream.socket().cancel(ignored);
    });
    if (!in_time) unreachable(where, "no handshake within " + seconds(options.connect_timeout));
    if (result) unreachable(where, result.message());
  }
}

}  // namespace

Where parse_url(const std::string& url) {
  const auto parsed = boost::urls::parse_uri(url);
  const bool good = parsed && parsed->scheme_id() == boost::urls::scheme::https &&
                    !parsed->host().empty() && !parsed->has_userinfo() && !parsed->has_query() &&
                    !parsed->has_fragment() && (parsed->path().empty() || parsed->path() == "/");
  if (!good) throw Error(Code::kUsage, "'" + url + "' is not https://HOST[:PORT]");
  Where where;
  where.host = parsed->host_address();
  where.port = parsed->port().empty() ? "443" : std::string(parsed->port());
  where.authority = std::string(parsed->encoded_host_and_port());
  return where;
}

bool run_until(asio::io_context& io, Deadline deadline, const std::function<void()>& cancel) {
  io.restart();
  io.run_until(deadline);
  if (io.stopped()) return true;
  cancel();
  io.run();
  return false;
}

std::shared_ptr<const Context> client_context(std::shared_ptr<Library> library,
                                              const ClientOptions& options) {
  return std::make_shared<Context>(std::move(library), Side::kClient, options.identity,
                                   options.trust, PeerCertificate::kRequired);
}

TlsStream dial(asio::io_context& io, const std::shared_ptr<const Context>& context,
               const ClientOptions& options) {
  const Where where = parse_url(options.url);
  const Deadline deadline = std::chrono::steady_clock::now() + options.connect_timeout;
  Expected expected;
  expected.host = where.host;
  expected.kid = options.expected_kid;
  TlsStream stream(connect(io, where, deadline, options), context, expected);
  shake_hands(io, stream, deadline, options, where);
  return stream;
}

Error fault_of(TlsStream& stream, const Error& otherwise) {
  auto& session = stream.session();
  if (session.faulty() && session.fault().code() != Code::kPeer) return session.fault();
  // The alert that the peer sent before is more specific than a failed write.
  if (auto alert = session.last_words()) return *alert;
  return session.faulty() ? session.fault() : otherwise;
}

}  // namespace keyagent::tls
