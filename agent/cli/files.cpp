// SPDX-License-Identifier: Apache-2.0
#include "agent/cli/files.h"

#include <botan/base64.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <functional>
#include <memory>

#include "agent/base/disk.h"
#include "agent/base/error.h"
#include "agent/base/secret_text.h"
#include "agent/process/secret_prompt.h"

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

// "PIN of the token" as a part of a sentence: "the PIN of the token".
std::string in_a_sentence(const std::string& question) {
  return question.empty() ? "the secret" : "the " + question;
}

}  // namespace

SecretBytes read_input(const std::string& name, std::size_t limit) {
  SecretBytes all;
  read_all(name, [&](ByteView bytes) {
    if (all.size() + bytes.size() > limit)
      throw Error(Code::kUsage, name + " exceeds " + std::to_string(limit) + " bytes");
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

// A device or a pipe is written to: replacing it, as root may, would take it from everyone.
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
  const std::string what = in_a_sentence(question);
  if (source == "prompt")
    return process::ask_secret(question + ": ", what, "use file:/path or fd:N");
  if (source.rfind("file:/", 0) == 0) return read_secret_text(source.substr(5), what);
  int fd = -1;
  const bool numbered =
      source.rfind("fd:", 0) == 0 &&
      std::from_chars(source.data() + 3, source.data() + source.size(), fd).ec == std::errc{};
  if (numbered && fd >= 0) return read_secret_line(fd, what);
  throw Error(
      Code::kUsage,
      "a PIN source is file:/absolute/path, prompt or fd:N (a PIN itself is never an argument)");
}

std::string to_base64(ByteView bytes, std::size_t wrap) {
  const std::string whole = Botan::base64_encode(bytes.data(), bytes.size());
  if (wrap == 0) return whole;
  std::string lines;
  for (std::size_t at = 0; at < whole.size(); at += wrap) lines += whole.substr(at, wrap) + "\n";
  return lines;
}

}  // namespace keyagent::cli
