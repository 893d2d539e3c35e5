// SPDX-License-Identifier: Apache-2.0
#pragma once
// The agent's own requests, through the gate as everyone's: authorized, queued, recorded.

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "agent/gate/gate.h"

namespace keyagent::link {

// Thread-safe. A call blocks only its caller: the thread that finishes in the token takes the next
// request that waits there, so each call is handed to the gate by a separate thread, and a busy
// token cannot keep the link's threads.
class GateClient {
 public:
  using Ask =
      std::function<void(const policy::Principal&, wire::Request, std::shared_ptr<gate::Reply>)>;
  static constexpr std::chrono::milliseconds kPatience{30000};

  // `ask`: Gate::handle. What it needs must live until stop() has returned.
  explicit GateClient(Ask ask);
  ~GateClient();

  // Asks as "internal:COMPONENT"; what fails counts against `subject` where it is given
  // (Principal::subject). Throws the gate's refusal as an Error with its code, text and
  // kid, and Error{kDeadline} when there was no answer at all. The caller wipes an answer that
  // holds a secret (wire/messages.h).
  wire::Response call(wire::Request request, const std::string& component = "link",
                      std::chrono::milliseconds patience = kPatience,
                      const std::string& subject = {});

  // No call begins anymore; those in progress are waited for, but not longer than `patience`: a
  // module may hang.
  void stop(std::chrono::milliseconds patience = std::chrono::seconds(5));

 private:
  struct Impl;
  const std::shared_ptr<Impl> impl_;
};

}  // namespace keyagent::link
