// SPDX-License-Identifier: Apache-2.0
#pragma once
// Messages between instances: signed by the sender's identity, for one recipient, single-use and
// short-lived. API.md, "Between instances".

#include <string>

#include "agent/base/error.h"
#include "agent/instance/common/json.h"
#include "agent/instance/common/recorder.h"
#include "agent/instance/exchange/exchange_surroundings.h"
#include "agent/instance/exchange/exchange_wire.h"
#include "agent/instance/exchange/key_exchange_backend.h"
#include "agent/store/store.h"

namespace keyagent::instance {

struct PeerMessage {
  store::Peer peer;
  std::string type, nonce;
  Json body;
};

// Thread-safe.
class ExchangeMessages {
 public:
  ExchangeMessages(KeyExchangeBackend& door, store::Store& store, Recorder& recorder,
                   const Clock& clock, ExchangeSurroundings& around)
      : door_(door), store_(store), recorder_(recorder), clock_(clock), around_(around) {}

  // What is sent, with the nonce that its answer has to repeat.
  struct Question {
    std::string text, nonce;
  };
  Question ask(const store::Peer& to, const std::string& type, const Json& body);
  std::string answer(const PeerMessage& question, const Json& body);
  std::string refuse(const PeerMessage& question, const Error& error);

  // Authenticates the sender before anything else is used. Throws Error{kDenied} with this side's
  // identity when it is not a peer, Error{kIntegrity} when the message is for another instance.
  PeerMessage open(const std::string& text);
  // Checks that the message is new, in time, and from a store that was not restored from a backup.
  void judge(const PeerMessage& question);
  // Returns the answer's body. Throws the error that the peer answered, and Error{kIntegrity} with
  // both fingerprints when another instance answers.
  Json read_answer(const store::Peer& from, const std::string& nonce, const std::string& text);

 private:
  std::string make(const store::Peer& to, const char* kind, const std::string& type,
                   const std::string& nonce, const Json& body);
  Json verified(const SignedMessage& message, const char* kind);
  void learn_epoch(store::Peer& peer, const Bytes& spki, const Json& payload);

  KeyExchangeBackend& door_;
  store::Store& store_;
  Recorder& recorder_;
  const Clock& clock_;
  ExchangeSurroundings& around_;
};

}  // namespace keyagent::instance
