// SPDX-License-Identifier: Apache-2.0
#pragma once
// Converts between Beast's messages and those of this interface.

#define BOOST_ERROR_CODE_HEADER_ONLY
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/http/string_body.hpp>

#include "agent/tls/server.h"

namespace keyagent::tls {

namespace http = boost::beast::http;

// Throws Error{kUsage} for a target that is not a path with an optional query, or has a control
// character.
HttpRequest from_beast(http::request<http::string_body>&& message, const Peer& peer);
http::response<http::string_body> to_beast(HttpResponse&& response);
HttpResponse from_beast(http::response<http::string_body>&& message);

// Overwrites what was read from the buffer, and leaves what is still in it.
void wipe_read(boost::beast::flat_buffer& buffer);

// The Error in the answer of failure(); nullopt for any other answer.
std::optional<Error> error_in(const HttpResponse& response);

}  // namespace keyagent::tls
