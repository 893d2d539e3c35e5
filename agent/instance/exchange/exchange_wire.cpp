// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/exchange/exchange_wire.h"

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/envelope/envelope.h"

namespace keyagent::instance {
namespace {

constexpr std::chrono::hours kLongestLife{1};

}  // namespace

void refuse_message(const std::string& why, const std::string& kid) {
  throw Error(Code::kIntegrity, "instance message rejected: " + why, kid);
}

SignedMessage read_signed(const std::string& text) {
  const Json outer = parse_object(text);
  SignedMessage out{
      text_of(outer, "message"), {}, bytes_of(outer, "spki"), text_of(outer, "body", "")};
  out.kid = jwk_thumbprint(out.spki);
  return out;
}

Json verified_json(const Bytes& spki, const std::string& jws, envelope::Statement statement) {
  const auto key = envelope::key_of_spki(spki, Purpose::kIdentity);
  return parse_object(as_text(envelope::verify_statement(key, jws, statement)));
}

Json verified_message(const SignedMessage& message) {
  Json payload = verified_json(message.spki, message.jws, envelope::Statement::kExchangeMessage);
  const bool beside = payload.contains("body_sha256");
  if (!beside && message.body.empty()) return payload;
  const auto hash = to_base64url(sha256(as_bytes(message.body)));
  if (!beside || payload.contains("body") || text_of(payload, "body_sha256") != hash)
    refuse_message("its body does not match its signature", message.kid);
  payload.erase("body_sha256");
  payload["body"] = parse_object(message.body);
  return payload;
}

void require_addressed(const Json& payload, const std::string& kind, const std::string& from,
                       const std::string& to) {
  if (number_of(payload, "format", 0, 0, 1000) != 1 || text_of(payload, "kind") != kind)
    refuse_message("unexpected kind or format");
  if (text_of(payload, "from") != from)
    refuse_message("signed by " + from + ", claiming to be " + text_of(payload, "from"), from);
  if (text_of(payload, "to") != to)
    refuse_message("this is the instance " + to + ", it was for " + text_of(payload, "to"), to);
}

void require_in_time(const Json& payload, WallTime now) {
  const auto issued = parse_rfc3339(text_of(payload, "issued"));
  const auto expires = parse_rfc3339(text_of(payload, "expires"));
  if (expires <= issued || expires - issued > kLongestLife || issued > now + kExchangeSkew ||
      expires < now - kExchangeSkew)
    refuse_message("issued " + rfc3339(issued) + ", valid until " + rfc3339(expires) +
                   ", here it is " + rfc3339(now) + ": it is too old, or a clock is wrong");
}

std::int64_t epoch_in(const std::string& jws) {
  if (jws.empty()) return 0;
  const auto first = jws.find('.'), last = jws.rfind('.');
  if (first == std::string::npos || first == last) refuse_message("no JWS");
  const auto payload = from_base64url(std::string_view(jws).substr(first + 1, last - first - 1));
  if (!payload) refuse_message("no JWS");
  return number_of(parse_object(as_text(*payload)), "epoch", 0, 0, INT64_MAX);
}

}  // namespace keyagent::instance
