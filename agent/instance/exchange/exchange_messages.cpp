// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/exchange/exchange_messages.h"

#include "agent/base/encoding.h"
#include "agent/instance/exchange/exchange_wire.h"
#include "agent/store/peers.h"

namespace keyagent::instance {
namespace {

using namespace std::chrono_literals;

constexpr auto kLife = 2min;  // of a message

// The peer's code and text, or a default if it sent none.
Error refused_by(const store::Peer& peer, const Json& error) {
  const auto code = code_of_name(text_of(error, "code", ""));
  return Error(code, peer.name + ": " + escape_controls(text_of(error, "text", "")).substr(0, 500),
               text_of(error, "kid", "").substr(0, 64));
}

}  // namespace

std::string ExchangeMessages::make(const store::Peer& to, const char* kind, const std::string& type,
                                   const std::string& nonce, const Json& body) {
  const auto own = door_.identity();
  const auto now = clock_.now();
  Json payload{{"format", 1},
               {"kind", kind},
               {"type", type},
               {"from", own.kid.text()},
               {"to", to.identity},
               {"nonce", nonce},
               {"issued", rfc3339(now)},
               {"expires", rfc3339(now + kLife)},
               {"epoch", around_.current_epoch()},
               {"known", to.epoch_jws}};
  Json out{{"spki", to_base64url(own.spki)}};
  const auto text_of_json = [](const Json& json) {
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
  };
  if (auto text = text_of_json(body); text.size() > kMaxSignedBody) {
    payload["body_sha256"] = to_base64url(sha256(as_bytes(text)));
    out["body"] = std::move(text);
  } else {
    payload["body"] = body;
  }
  out["message"] = door_.sign(envelope::Statement::kExchangeMessage, text_of_json(payload));
  return out.dump();
}

ExchangeMessages::Question ExchangeMessages::ask(const store::Peer& to, const std::string& type,
                                                 const Json& body) {
  around_.require_accepted();
  const auto nonce = to_base64url(random_bytes(16));
  return {make(to, kExchangeQuestion, type, nonce, body), nonce};
}

std::string ExchangeMessages::answer(const PeerMessage& question, const Json& body) {
  return make(question.peer, kExchangeAnswer, question.type, question.nonce, body);
}

std::string ExchangeMessages::refuse(const PeerMessage& question, const Error& error) {
  return answer(
      question,
      {{"error",
        {{"code", code_name(error.code())}, {"text", error.what()}, {"kid", error.kid()}}}});
}

Json ExchangeMessages::verified(const SignedMessage& message, const char* kind) {
  Json payload = verified_message(message);
  require_addressed(payload, kind, message.kid, door_.identity().kid.text());
  return payload;
}

PeerMessage ExchangeMessages::open(const std::string& text) {
  const auto outer = read_signed(text);
  auto peer = store_.peers().find(outer.kid);
  if (!peer)
    throw Error(Code::kDenied,
                "the identity " + outer.kid +
                    " is not a peer of this instance; add it with: keyagent instance peer add",
                door_.identity().kid.text());
  const Json payload = verified(outer, kExchangeQuestion);
  PeerMessage out{*std::move(peer), text_of(payload, "type"), text_of(payload, "nonce"), payload};
  if (out.nonce.empty() || out.nonce.size() > 64) refuse_message("no nonce");
  out.peer.spki = outer.spki;
  return out;
}

void ExchangeMessages::judge(const PeerMessage& question) {
  const auto expires = parse_rfc3339(text_of(question.body, "expires")) + 2 * kExchangeSkew;
  require_in_time(question.body, clock_.now());
  if (!store_.peers().use_nonce(question.peer.identity, question.nonce, expires))
    refuse_message("replayed message", question.peer.identity);
  auto peer = question.peer;
  learn_epoch(peer, question.peer.spki, question.body);
  around_.require_accepted();
}

void ExchangeMessages::learn_epoch(store::Peer& peer, const Bytes& spki, const Json& payload) {
  const auto known = text_of(payload, "known", "");
  if (!known.empty()) around_.judge_epoch("peer:" + peer.name, known);
  const auto jws = text_of(payload, "epoch", "");
  const auto number = epoch_in(jws);
  if (!jws.empty() && number < peer.epoch) {
    recorder_.record(Outcome::kAlarm, "peer " + peer.name, "exchange.restored", peer.identity,
                     "it was at event " + std::to_string(peer.epoch) + " and reports " +
                         std::to_string(number) + ": its store was restored from a backup");
    throw Error(Code::kKeyState,
                "the store of " + peer.identity +
                    " was restored from a backup: an admin there must accept it first (keyagent "
                    "instance restored --accept)",
                peer.identity);
  }
  store_.peers().note(peer.identity, number, jws, clock_.now());
  const auto stored = store_.peers().find(peer.identity);
  if (!stored || stored->spki == spki) return;
  auto changed = *stored;
  changed.spki = spki;
  store_.peers().update(changed);
}

Json ExchangeMessages::read_answer(const store::Peer& from, const std::string& nonce,
                                   const std::string& text) {
  const auto outer = read_signed(text);
  if (outer.kid != from.identity)
    refuse_message(
        "the instance at " + from.url + " is " + outer.kid + ", pinned is " + from.identity,
        outer.kid);
  const Json payload = verified(outer, kExchangeAnswer);
  if (text_of(payload, "nonce") != nonce)
    refuse_message("a response to another request", outer.kid);
  require_in_time(payload, clock_.now());
  auto peer = store_.peers().find(from.identity).value_or(from);
  learn_epoch(peer, outer.spki, payload);
  const auto body = payload.find("body");
  if (body == payload.end() || !body->is_object()) refuse_message("without a body", outer.kid);
  if (body->contains("error")) throw refused_by(from, body->at("error"));
  return *body;
}

}  // namespace keyagent::instance
