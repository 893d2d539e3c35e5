// SPDX-License-Identifier: Apache-2.0
#include "pkcs11/process_state.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <clocale>

namespace keyagent::pkcs11 {
namespace {

// The only way to read it is to set it; what another thread creates meanwhile is closed, not open.
unsigned read_umask() {
  const mode_t now = ::umask(0077);
  ::umask(now);
  return now;
}

}  // namespace

ProcessState::ProcessState()
    : umask_(read_umask()), folder_(::open(".", O_PATH | O_DIRECTORY | O_CLOEXEC)) {
  const char* locale = std::setlocale(LC_ALL, nullptr);
  if (locale != nullptr) locale_ = locale;
  for (int number = 1; number < kSignals; ++number)
    ::sigaction(number, nullptr, &signals_[static_cast<std::size_t>(number)]);
}

ProcessState::~ProcessState() {
  ::umask(umask_);
  if (folder_ >= 0) {
    // It was the working directory: only its removal's permissions could keep it from being so.
    [[maybe_unused]] const int moved = ::fchdir(folder_);
    ::close(folder_);
  }
  const char* locale = std::setlocale(LC_ALL, nullptr);
  if (locale == nullptr || locale_ != locale) std::setlocale(LC_ALL, locale_.c_str());
  for (int number = 1; number < kSignals; ++number) {
    const auto& before = signals_[static_cast<std::size_t>(number)];
    struct sigaction now {};
    if (::sigaction(number, nullptr, &now) != 0) continue;  // 32 and 33 are the thread library's
    if (now.sa_handler != before.sa_handler || now.sa_flags != before.sa_flags)
      ::sigaction(number, &before, nullptr);
  }
}

}  // namespace keyagent::pkcs11
