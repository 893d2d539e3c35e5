// SPDX-License-Identifier: Apache-2.0
#include "agent/wire/messages.h"

#include <openssl/crypto.h>

#include <limits>
#include <optional>

#include "agent/wire/keyagent.pb.h"

namespace keyagent::wire {
namespace {

void wipe_text(std::string& text) {
  OPENSSL_cleanse(text.data(), text.size());
  text.clear();
}

}  // namespace

SecretBytes serialize(const google::protobuf::MessageLite& message) {
  SecretBytes bytes(message.ByteSizeLong());
  if (bytes.size() > std::numeric_limits<int>::max() ||
      !message.SerializeToArray(bytes.data(), static_cast<int>(bytes.size())))
    throw Error(Code::kInternal, "a message could not be serialized");
  return bytes;
}

bool parse(ByteView bytes, google::protobuf::MessageLite& message) {
  return bytes.size() <= std::numeric_limits<int>::max() &&
         message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
}

void wipe(Request& request) {
  if (request.has_seal()) wipe_text(*request.mutable_seal()->mutable_plaintext());
  if (request.has_task_credential()) wipe_text(*request.mutable_task_credential()->mutable_grant());
  if (request.has_enroll()) wipe_text(*request.mutable_enroll()->mutable_token());
}

void wipe(Response& response) {
  if (response.has_open()) wipe_text(*response.mutable_open()->mutable_plaintext());
  if (response.has_decrypt()) wipe_text(*response.mutable_decrypt()->mutable_plaintext());
  if (response.has_agree()) wipe_text(*response.mutable_agree()->mutable_secret());
  if (response.has_credential_get()) wipe_text(*response.mutable_credential_get()->mutable_value());
  if (response.has_task_credential())
    wipe_text(*response.mutable_task_credential()->mutable_value());
  if (response.has_task_take()) wipe_text(*response.mutable_task_take()->mutable_grant());
  if (response.has_prove()) wipe_text(*response.mutable_prove()->mutable_proof());
}

Code code_of(int wire_code) {
  return ErrorCode_IsValid(wire_code) ? static_cast<Code>(wire_code) : Code::kInternal;
}

SecretBytes failure(std::uint64_t id, const Error& error) {
  Response response;
  response.set_id(id);
  auto* fault = response.mutable_failure();
  fault->set_code(static_cast<ErrorCode>(error.code()));
  fault->set_text(error.what());
  fault->set_kid(error.kid());
  return serialize(response);
}

namespace {

// Reads a base-128 number at `at`; nullopt: the bytes end, or it has more than 64 bits.
std::optional<std::uint64_t> take_varint(ByteView bytes, std::size_t& at) {
  std::uint64_t value = 0;
  for (unsigned shift = 0; shift < 64 && at < bytes.size(); shift += 7) {
    const std::uint8_t byte = bytes[at++];
    value |= static_cast<std::uint64_t>(byte & 0x7fU) << shift;
    if ((byte & 0x80U) == 0) return value;
  }
  return std::nullopt;
}

bool is_decryption(std::uint64_t field) {
  switch (field) {
    case Request::kOpenFieldNumber:
    case Request::kResealFieldNumber:
    case Request::kDecryptFieldNumber:
    case Request::kAgreeFieldNumber:
    case Request::kProveFieldNumber:
    case Request::kExchangeImportFieldNumber:
    case Request::kImportOutsideFieldNumber:
      return true;
    default:
      return false;
  }
}

}  // namespace

bool may_fail_on_a_beat(ByteView request) {
  enum Type : unsigned { kVarint = 0, kFixed64 = 1, kLength = 2, kFixed32 = 5 };
  std::size_t at = 0;
  while (at < request.size()) {
    const auto tag = take_varint(request, at);
    if (!tag || is_decryption(*tag >> 3)) return true;
    std::optional<std::uint64_t> skip;
    switch (*tag & 7U) {
      case kVarint:
        skip = take_varint(request, at) ? std::optional<std::uint64_t>(0) : std::nullopt;
        break;
      case kFixed64:
        skip = 8;
        break;
      case kLength:
        skip = take_varint(request, at);
        break;
      case kFixed32:
        skip = 4;
        break;
      default:
        break;
    }
    if (!skip || *skip > request.size() - at) return true;
    at += static_cast<std::size_t>(*skip);
  }
  return false;
}

bool repeatable(const Request& request) {
  switch (request.op_case()) {
    case Request::kKeyCreate:
    case Request::kKeyDestroy:
    case Request::kReload:
    case Request::kRekey:
    case Request::kRekeyAbort:
    case Request::kEnroll:
    case Request::kLeave:
    case Request::kImportOutside:  // its ticket serves once
    case Request::kTaskTake:       // the task in a lost answer would not be taken
    case Request::OP_NOT_SET:
      return false;
    default:
      return true;
  }
}

}  // namespace keyagent::wire
