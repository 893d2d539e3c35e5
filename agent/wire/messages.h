// SPDX-License-Identifier: Apache-2.0
#pragma once
// Messages to bytes and back, without leaving copies of a secret behind. The protobuf headers stay
// out of this one.

#include "agent/base/bytes.h"
#include "agent/base/error.h"

namespace google::protobuf {
class MessageLite;
}

namespace keyagent::wire {

class Request;
class Response;

// The message's bytes, written once, straight into memory that is wiped.
SecretBytes serialize(const google::protobuf::MessageLite& message);

// False when `bytes` are not such a message; `message` is unspecified then.
bool parse(ByteView bytes, google::protobuf::MessageLite& message);

// Overwrites the fields that may hold a secret (what is sealed, opened, decrypted or agreed on, a
// credential, a token of enrollment). Call it when the message has been used.
void wipe(Request& request);
void wipe(Response& response);

// Maps an error code of the wire to the program's: the same numbers. An unknown number is
// kInternal.
Code code_of(int wire_code);

// A Response that carries a failure. `id` 0: a failure of the connection, not of a request
// (PROTOCOL.md).
SecretBytes failure(std::uint64_t id, const Error& error);

// Whether a failure of this Request must be answered at a fixed interval (open, reseal, decrypt,
// agree, prove, import). Checks the outermost fields only; true also for bytes that are not a
// message.
bool may_fail_on_a_beat(ByteView request);

// May the request be sent a second time when the first answer was lost? (Reads, sign, open,
// seal, decrypt and agree: yes.)
bool repeatable(const Request& request);

}  // namespace keyagent::wire
