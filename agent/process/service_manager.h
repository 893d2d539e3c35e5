// SPDX-License-Identifier: Apache-2.0
#pragma once
// systemd, where it is there: readiness, status, watchdog, a listening socket that outlives us.

#include <chrono>
#include <optional>
#include <string>

#include "agent/base/disk.h"

namespace keyagent::process {

// The first socket that was passed by socket activation.
std::optional<Fd> activated_socket();
void notify_ready(const std::string& status);
void notify_status(const std::string& status);
void notify_reloading();
void notify_stopping();
// The interval of the watchdog; nullopt: there is none.
std::optional<std::chrono::microseconds> watchdog_interval();
void notify_alive();

}  // namespace keyagent::process
