// SPDX-License-Identifier: Apache-2.0
#pragma once
// Who is asked before some keys sign for ssh.

#include <functional>
#include <string>

#include "agent/policy/policy.h"

namespace keyagent::sshagent {

// What the confirmation program shows; none of it is secret.
struct Question {
  policy::Principal principal;
  std::string key, kid;
  std::string fingerprint;  // as `ssh-keygen -l` shows it: "SHA256:…"
  // The host key's, when the data belong to the session that the connection is bound to; else
  // empty: the destination is not authenticated.
  std::string destination;
  bool forwarded = false;
};

// Thread-safe.
class Confirmation {
 public:
  using Then = std::function<void(bool yes)>;

  virtual ~Confirmation() = default;
  virtual bool wanted(const std::string& key) const = 0;
  // Returns at once, or as soon as it is plain that the answer is no. `then` is called once, on any
  // thread.
  virtual void ask(Question question, Then then) = 0;
};

}  // namespace keyagent::sshagent
