// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a caller may put into the texts of a request, checked before anything records or logs them.

#include <string_view>

#include "agent/wire/keyagent.pb.h"

namespace keyagent::gate {

// Every string of the request is valid UTF-8 without control characters and no longer than its
// field's limit (RELIABILITY 155); the default limit is 256 bytes. Fields of bytes are checked by
// the operations. Throws Error{kUsage} that names the field and the limit, and repeats nothing of
// its content.
void check_request(const wire::Request& request);

// The same for a name that was inside of bytes, as an envelope's kid is. `what`: for the message.
void check_name(const char* what, std::string_view name);

}  // namespace keyagent::gate
