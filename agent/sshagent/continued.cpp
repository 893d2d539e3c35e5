// SPDX-License-Identifier: Apache-2.0
#include "agent/sshagent/continued.h"

#include <utility>

#include "agent/base/log.h"

namespace keyagent::sshagent {

Continued::Continued(Then then, SshAgent::Answer give, SecretBytes denied)
    : then_(std::move(then)), give_(std::move(give)), denied_(std::move(denied)) {}

Continued::~Continued() {
  if (!answered_) give_(failure());
}

bool Continued::take(const wire::Response& response, std::optional<SteadyTime> when) {
  if (answered_.exchange(true)) return false;
  try {
    if (!response.has_failure()) {
      then_(response);
      return true;
    }
  } catch (const std::exception& error) {
    log_warning("sshagent", error.what());
  }
  SecretBytes body = response.failure().code() == wire::DENIED ? denied_ : failure();
  when ? give_.at(*when, std::move(body)) : give_(std::move(body));
  return true;
}

}  // namespace keyagent::sshagent
