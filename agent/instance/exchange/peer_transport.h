// SPDX-License-Identifier: Apache-2.0
#pragma once
// The transport to another instance. It is not trusted: all messages are signed.

#include <memory>
#include <string>

#include "agent/store/store.h"
#include "agent/tls/client.h"

namespace keyagent::instance {

// Thread-safe.
class PeerTransport {
 public:
  virtual ~PeerTransport() = default;
  // Gives it `text` and returns its answer. Throws Error: kPeer where it cannot be reached, what is
  // wrong with its certificate, and what is answered unsigned.
  virtual std::string post(const store::Peer& peer, const std::string& text) = 0;
};

// POST /v1/exchange at the peer's listen.api, whose certificate leads to the peer's CA.
class HttpsLine final : public PeerTransport {
 public:
  explicit HttpsLine(std::shared_ptr<tls::Library> library) : library_(std::move(library)) {}
  std::string post(const store::Peer& peer, const std::string& text) override;

 private:
  const std::shared_ptr<tls::Library> library_;
};

}  // namespace keyagent::instance
