// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/exchange/peer_transport.h"

#include "agent/base/error.h"

namespace keyagent::instance {

std::string HttpsLine::post(const store::Peer& peer, const std::string& text) {
  if (peer.url.empty())
    throw Error(Code::kConfiguration, "the peer " + peer.name +
                                          " has no address; run: keyagent instance peer add " +
                                          peer.name + " --url URL …");
  tls::ClientOptions options;
  options.url = peer.url;
  options.trust.anchor_spki_sha256 = peer.ca;
  tls::Client client(library_, options);
  return client.call("POST", "/v1/exchange", text).body;
}

}  // namespace keyagent::instance
