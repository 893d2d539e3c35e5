// SPDX-License-Identifier: Apache-2.0
#include "agent/process/service_manager.h"

#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <time.h>

#include "agent/base/error.h"

namespace keyagent::process {

std::optional<Fd> activated_socket() {
  const int count = ::sd_listen_fds(0);
  if (count <= 0) return std::nullopt;
  if (count > 1)
    throw Error(Code::kConfiguration,
                "socket activation passed several sockets; keyagentd takes one");
  Fd fd(SD_LISTEN_FDS_START);
  if (::sd_is_socket_unix(fd.get(), SOCK_STREAM, 1, nullptr, 0) <= 0) {
    throw Error(Code::kConfiguration,
                "the activated socket is not a listening unix stream socket: ListenStream=/run/… "
                "in the .socket unit");
  }
  return fd;
}

void notify_ready(const std::string& status) {
  ::sd_notify(0, ("READY=1\nSTATUS=" + status).c_str());
}

void notify_status(const std::string& status) {
  ::sd_notify(0, ("STATUS=" + status).c_str());
}

void notify_reloading() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  const auto usec = static_cast<unsigned long long>(now.tv_sec) * 1000000ULL +
                    static_cast<unsigned long long>(now.tv_nsec) / 1000ULL;
  ::sd_notify(0, ("RELOADING=1\nMONOTONIC_USEC=" + std::to_string(usec)).c_str());
}

void notify_stopping() {
  ::sd_notify(0, "STOPPING=1");
}

std::optional<std::chrono::microseconds> watchdog_interval() {
  std::uint64_t usec = 0;
  if (::sd_watchdog_enabled(0, &usec) <= 0) return std::nullopt;
  return std::chrono::microseconds(usec);
}

void notify_alive() {
  ::sd_notify(0, "WATCHDOG=1");
}

}  // namespace keyagent::process
