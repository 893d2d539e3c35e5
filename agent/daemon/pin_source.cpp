#include "agent/daemon/pin_source.h"

#include <fcntl.h>
#include <termios.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <string_view>
#include <utility>

#include "agent/base/disk.h"
#include "agent/base/error.h"

namespace keyagent::daemon {
namespace {

SecretBytes without_newline(SecretBytes pin) {
  if (!pin.empty() && pin.back() == '\n') pin.pop_back();
  if (pin.empty()) throw Error(Code::kConfiguration, "the PIN is empty");
  return pin;
}

SecretBytes from_credential(const std::string& name) {
  const char* folder = std::getenv("CREDENTIALS_DIRECTORY");
  if (folder == nullptr || name.find('/') != std::string::npos) {
    throw Error(Code::kConfiguration, "no systemd credential '" + name +
                                          "': give the unit LoadCredentialEncrypted=" + name +
                                          ":/path");
  }
  return without_newline(read_secret_file(std::filesystem::path(folder) / name));
}

// Turns echo off for its life, also when an exception passes.
class QuietTerminal {
 public:
  explicit QuietTerminal(int fd) : fd_(fd) {
    ::tcgetattr(fd_, &before_);
    termios quiet = before_;
    quiet.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    ::tcsetattr(fd_, TCSAFLUSH, &quiet);
  }
  ~QuietTerminal() { ::tcsetattr(fd_, TCSAFLUSH, &before_); }

 private:
  int fd_;
  termios before_{};
};

SecretBytes from_person() {
  const Fd terminal(::open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY));
  if (!terminal.valid())
    throw Error(
        Code::kConfiguration,
        "the PIN is to be asked for, but there is no terminal; use a 'credential' or a 'file'");
  constexpr std::string_view kQuestion = "PIN of the token: ";
  if (::write(terminal.get(), kQuestion.data(), kQuestion.size()) < 0)
    throw Error(Code::kConfiguration, "the terminal cannot be written");
  SecretBytes pin;
  {
    const QuietTerminal quiet(terminal.get());
    for (std::uint8_t byte = 0;
         ::read(terminal.get(), &byte, 1) == 1 && byte != '\n' && pin.size() < 256;)
      pin.push_back(byte);
  }
  if (::write(terminal.get(), "\n", 1) < 0)
    throw Error(Code::kConfiguration, "the terminal cannot be written");
  return without_newline(std::move(pin));
}

}  // namespace

pkcs11::PinSource make_pin_source(const config::PinFrom& from) {
  switch (from.kind) {
    case config::PinFrom::Kind::kSystemdCredential:
      return [name = from.value] { return from_credential(name); };
    case config::PinFrom::Kind::kFile:
      return [path = from.value] { return without_newline(read_secret_file(path)); };
    case config::PinFrom::Kind::kPrompt:
      break;
  }
  // Asked for once: a recovery in the night finds nobody at the terminal.
  return [kept = std::make_shared<SecretBytes>()] {
    if (kept->empty()) *kept = from_person();
    return *kept;
  };
}

}  // namespace keyagent::daemon
