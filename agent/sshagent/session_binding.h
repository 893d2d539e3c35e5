// SPDX-License-Identifier: Apache-2.0
#pragma once
// The SSH sessions that a connection to the agent serves: session-bind@openssh.com (OpenSSH
// PROTOCOL.agent section 1).

#include <vector>

#include "agent/base/bytes.h"

namespace keyagent::sshagent {

// What one connection has said of itself. Not thread-safe: one request of a connection at a time.
class SessionBindings {
 public:
  // `message`: what follows the extension's name. Remembers the session if the host key has signed
  // it. Throws Error: malformed, not signed so, bound otherwise before, too many. Whoever says that
  // he forwards is believed also when the rest is wrong, and from then on.
  void bind(ByteView message);
  // The other end of this connection is, or may be, on another host.
  bool forwarded() const { return forwarded_; }
  // The key of the host to which `data`, what is to be signed, log in: that of the session which
  // this end has opened itself and which they name (RFC 4252 section 7). nullptr: no such session,
  // and no one knows where a signature would go.
  const Bytes* host_of(ByteView data) const;
  std::size_t size() const { return sessions_.size(); }

 private:
  struct Session {
    Bytes id, host_key;
    bool forwarding = false;
  };
  std::vector<Session> sessions_;
  bool forwarded_ = false;
};

}  // namespace keyagent::sshagent
