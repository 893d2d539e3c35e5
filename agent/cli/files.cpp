#include "agent/cli/files.h"

#include <botan/base64.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <functional>
#include <memory>

#include "agent/base/disk.h"
#include "agent/base/error.h"

namespace keyagent::cli {
namespace {

Fd open_input(const std::string& name) {
  if (name == "-") return Fd(::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3));
  Fd fd(::open(name.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) throw Error(Code::kUsage, "cannot read " + name + ": " + std::strerror(errno));
  return fd;
}

void read_all(const std::string& name, const std::function<void(ByteView)>& take) {
  const Fd fd = open_input(name);
  SecretBytes buffer(65536);
  for (;;) {
    const ssize_t count = ::read(fd.get(), buffer.data(), buffer.size());
    if (count == 0) return;
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw Error(Code::kUsage, "cannot read " + name + ": " + std::strerror(errno));
    take({buffer.data(), static_cast<std::size_t>(count)});
  }
}

SecretBytes first_line(int fd) {
  SecretBytes line;
  for (std::uint8_t byte = 0; line.size() < 256 && ::read(fd, &byte, 1) == 1 && byte != '\n';)
    line.push_back(byte);
  return line;
}

SecretBytes ask(const std::string& question) {
  const Fd terminal(::open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY));
  if (!terminal.valid())
    throw Error(Code::kUsage, "there is no terminal to ask for the PIN at; use file:/path or fd:N");
  termios before{};
  ::tcgetattr(terminal.get(), &before);
  termios quiet = before;
  quiet.c_lflag &= ~static_cast<tcflag_t>(ECHO);
  ::tcsetattr(terminal.get(), TCSAFLUSH, &quiet);
  const std::string text = question + ": ";
  const bool asked = ::write(terminal.get(), text.data(), text.size()) > 0;
  SecretBytes pin = first_line(terminal.get());
  ::tcsetattr(terminal.get(), TCSAFLUSH, &before);
  if (!asked || ::write(terminal.get(), "\n", 1) < 0)
    throw Error(Code::kUsage, "the terminal cannot be written");
  return pin;
}

SecretBytes pin_from(const std::string& source, const std::string& question) {
  if (source == "prompt") return ask(question);
  if (source.rfind("file:/", 0) == 0) {
    SecretBytes pin = read_secret_file(source.substr(5));
    if (!pin.empty() && pin.back() == '\n') pin.pop_back();
    return pin;
  }
  int fd = -1;
  const bool numbered =
      source.rfind("fd:", 0) == 0 &&
      std::from_chars(source.data() + 3, source.data() + source.size(), fd).ec == std::errc{};
  if (numbered && fd >= 0) return first_line(fd);
  throw Error(
      Code::kUsage,
      "a PIN source is file:/absolute/path, prompt or fd:N (a PIN itself is never an argument)");
}

}  // namespace

SecretBytes read_input(const std::string& name, std::size_t limit) {
  SecretBytes all;
  read_all(name, [&](ByteView bytes) {
    if (all.size() + bytes.size() > limit)
      throw Error(Code::kUsage, name + " is longer than " + std::to_string(limit) + " bytes");
    all.insert(all.end(), bytes.begin(), bytes.end());
  });
  return all;
}

Bytes digest_input(const std::string& name, const std::string& algorithm) {
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                        EVP_MD_CTX_free);
  EVP_DigestInit_ex(context.get(), EVP_get_digestbyname(algorithm.c_str()), nullptr);
  read_all(name,
           [&](ByteView bytes) { EVP_DigestUpdate(context.get(), bytes.data(), bytes.size()); });
  Bytes digest(EVP_MAX_MD_SIZE);
  unsigned size = 0;
  EVP_DigestFinal_ex(context.get(), digest.data(), &size);
  digest.resize(size);
  return digest;
}

namespace {

void write_all(int fd, ByteView bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(fd, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0)
      throw Error(Code::kUsage, std::string("cannot write the output: ") + std::strerror(errno));
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
}

}  // namespace

// A device or a pipe is written to: replacing it, as root may, would take it from everybody.
void write_output(const std::string& name, ByteView bytes) {
  if (name == "-") return write_all(STDOUT_FILENO, bytes);
  const auto path = std::filesystem::absolute(name);
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0 || S_ISREG(status.st_mode))
    return replace_file(path, bytes);
  const Fd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY));
  if (!fd.valid()) throw Error(Code::kUsage, "cannot write " + name + ": " + std::strerror(errno));
  write_all(fd.get(), bytes);
}

SecretBytes read_pin(const std::string& source, const std::string& question) {
  SecretBytes pin = pin_from(source, question);
  if (pin.empty()) throw Error(Code::kUsage, "the PIN is empty");
  return pin;
}

std::string to_base64(ByteView bytes, std::size_t wrap) {
  const std::string whole = Botan::base64_encode(bytes.data(), bytes.size());
  if (wrap == 0) return whole;
  std::string lines;
  for (std::size_t at = 0; at < whole.size(); at += wrap) lines += whole.substr(at, wrap) + "\n";
  return lines;
}

}  // namespace keyagent::cli
