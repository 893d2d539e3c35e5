// SPDX-License-Identifier: Apache-2.0
#include "agent/process/secret_prompt.h"

#include <fcntl.h>
#include <termios.h>
#include <unistd.h>

#include "agent/base/disk.h"
#include "agent/base/error.h"
#include "agent/base/secret_text.h"

namespace keyagent::process {
namespace {

// Turns echo off for its life, also when an exception passes.
class QuietTerminal {
 public:
  explicit QuietTerminal(int fd) : fd_(fd) {
    ::tcgetattr(fd_, &before_);
    termios quiet = before_;
    quiet.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    ::tcsetattr(fd_, TCSAFLUSH, &quiet);
  }
  ~QuietTerminal() {
    ::tcsetattr(fd_, TCSAFLUSH, &before_);
    [[maybe_unused]] const auto written = ::write(fd_, "\n", 1);
  }
  QuietTerminal(const QuietTerminal&) = delete;

 private:
  int fd_;
  termios before_{};
};

}  // namespace

SecretBytes ask_secret(const std::string& question, const std::string& what,
                       const std::string& otherwise) {
  const Fd terminal(::open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY));
  if (!terminal.valid())
    throw Error(Code::kConfiguration, "no terminal to prompt for " + what + " at; " + otherwise);
  const QuietTerminal quiet(terminal.get());
  if (::write(terminal.get(), question.data(), question.size()) < 0)
    throw Error(Code::kConfiguration, "the terminal cannot be written");
  return read_secret_line(terminal.get(), what);
}

}  // namespace keyagent::process
