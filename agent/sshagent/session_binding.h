// SPDX-License-Identifier: Apache-2.0
#pragma once
// The SSH sessions that a connection to the agent serves: session-bind@openssh.com (OpenSSH
// PROTOCOL.agent section 1).

#include <vector>

#include "agent/base/bytes.h"

namespace keyagent::sshagent {

// The session bindings of one connection. Not thread-safe: one request of a connection at a time.
class SessionBindings {
 public:
  // `message`: what follows the extension's name. Stores the session if the host key signed it.
  // Throws Error: malformed, not signed by the host key, already bound to another key, too many
  // sessions. A claim to forward is kept even when the rest is invalid.
  void bind(ByteView message);
  // The other end of this connection is, or may be, on another host.
  bool forwarded() const { return forwarded_; }
  // The key of the host that `data`, which is to be signed, logs in to: that of the session opened
  // by this end and named in `data` (RFC 4252 section 7). nullptr: no such session; the destination
  // is unknown.
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
