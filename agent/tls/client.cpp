// SPDX-License-Identifier: Apache-2.0
#include "agent/tls/client.h"

#include <poll.h>

#define BOOST_ERROR_CODE_HEADER_ONLY
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/write.hpp>

#include "agent/base/wiping.h"
#include "agent/tls/dial.h"
#include "agent/tls/http.h"

namespace keyagent::tls {
namespace {

constexpr std::uint64_t kLargestAnswer = 64ULL << 20;  // bytes

}  // namespace

struct Client::Impl {
  Impl(std::shared_ptr<Library> library, ClientOptions settings)
      : options(std::move(settings)),
        where(parse_url(options.url)),
        context(client_context(std::move(library), options)) {}

  // An idle server sends nothing: anything readable is the end of the connection.
  bool usable() {
    if (!stream || !stream->socket().is_open()) return false;
    pollfd waiting{stream->socket().native_handle(), POLLIN, 0};
    if (::poll(&waiting, 1, 0) == 0) return true;
    char byte = 0;
    std::size_t count = 0;
    return stream->session().read({&byte, 1}, count) == Step::kWantRead;
  }

  // False when the connection of an earlier call is used again.
  bool open() {
    if (usable()) return false;
    stream.reset();
    buffer.clear();
    stream.emplace(dial(io, context, options));
    peer = stream->session().peer(address_of(stream->socket()));
    return true;
  }

  void send(Deadline deadline, const http::request<http::string_body>& request) {
    run(deadline, "sending a request",
        [&](auto done) { http::async_write(*stream, request, std::move(done)); });
  }

  // Runs one operation of the stream; throws where it failed.
  template <class Start>
  void run(Deadline deadline, const char* doing, Start&& start) {
    error_code result;
    start([&](error_code error, std::size_t) { result = error; });
    const bool in_time = run_until(io, deadline, [&] { stream->close(); });
    if (in_time && !result) return;
    const std::string text =
        !in_time ? "did not respond within " + std::to_string(options.timeout.count()) + " ms"
                 : std::string("was lost while ") + doing + ": " + result.message();
    const Error lost(Code::kPeer, "the connection to " + where.authority + " " + text);
    const Error why =
        in_time ? fault_of(*stream, lost) : Error(Code::kPeer, where.authority + " " + text);
    stream.reset();
    throw Error(why);
  }

  http::request<http::string_body> request(
      const std::string& method, const std::string& target, const std::string& body,
      const std::map<std::string, std::string>& headers) const {
    http::request<http::string_body> message;
    message.method_string(method);
    message.target(target);
    message.set(http::field::host, where.authority);
    if (!body.empty()) message.set(http::field::content_type, "application/json");
    for (const auto& [name, value] : headers) message.set(name, value);
    message.body() = body;
    message.prepare_payload();
    return message;
  }

  const ClientOptions options;
  const Where where;
  const std::shared_ptr<const Context> context;
  asio::io_context io{1};
  std::optional<TlsStream> stream;
  boost::beast::flat_buffer buffer;
  Peer peer;
};

Client::Client(std::shared_ptr<Library> library, ClientOptions options)
    : impl_(std::make_unique<Impl>(std::move(library), std::move(options))) {}

Client::~Client() {
  if (impl_->stream) impl_->stream->farewell();
}

HttpResponse Client::call(const std::string& method, const std::string& target,
                          const std::string& body,
                          const std::map<std::string, std::string>& headers) {
  auto& impl = *impl_;
  auto request = impl.request(method, target, body, headers);
  const Wiping wiping(request.body());
  const bool fresh = impl.open();
  const Deadline deadline = std::chrono::steady_clock::now() + impl.options.timeout;
  try {
    impl.send(deadline, request);
  } catch (const Error& error) {
    // The server ended the idle connection at this very moment. It cannot have acted: it did not
    // get the request's last byte.
    if (fresh || error.code() != Code::kPeer || std::chrono::steady_clock::now() >= deadline) throw;
    impl.open();
    impl.send(deadline, request);
  }
  http::response_parser<http::string_body> parser;
  parser.body_limit(kLargestAnswer);
  parser.skip(method == "HEAD");
  impl.run(deadline, "waiting for the response", [&](auto done) {
    http::async_read(*impl.stream, impl.buffer, parser, std::move(done));
  });
  wipe_read(impl.buffer);
  if (!parser.get().keep_alive()) {
    impl.stream->farewell();
    impl.stream.reset();
  }
  auto response = from_beast(parser.release());
  if (const auto error = error_in(response)) throw Error(*error);
  return response;
}

const Peer& Client::peer() const {
  return impl_->peer;
}

}  // namespace keyagent::tls
