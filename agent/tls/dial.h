// SPDX-License-Identifier: Apache-2.0
#pragma once
// A blocking TLS client on its own io_context.

#define BOOST_ERROR_CODE_HEADER_ONLY
#include <boost/asio/io_context.hpp>

#include "agent/tls/client.h"
#include "agent/tls/stream.h"

namespace keyagent::tls {

struct Where {
  std::string host, port;
  std::string authority;  // for the Host header
};
// Throws Error{kUsage} for anything but https://host[:port].
Where parse_url(const std::string& url);

using Deadline = std::chrono::steady_clock::time_point;

// Runs what was started on `io` until it is done or time is up: then `cancel` must make it end.
// False when time was up.
bool run_until(asio::io_context& io, Deadline deadline, const std::function<void()>& cancel);

std::shared_ptr<const Context> client_context(std::shared_ptr<Library> library,
                                              const ClientOptions& options);
// A session after its handshake, before `options.connect_timeout`. Throws Error.
TlsStream dial(asio::io_context& io, const std::shared_ptr<const Context>& context,
               const ClientOptions& options);

// The error of a failed stream: looks for an alert that came before the connection broke (RFC 8446
// §4.4.2.4: a client learns only now that it was refused). Without an alert, `otherwise`.
Error fault_of(TlsStream& stream, const Error& otherwise);

}  // namespace keyagent::tls
