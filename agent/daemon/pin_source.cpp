// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/pin_source.h"

#include <cstdlib>
#include <memory>
#include <utility>

#include "agent/base/error.h"
#include "agent/base/secret_text.h"
#include "agent/process/secret_prompt.h"

namespace keyagent::daemon {
namespace {

constexpr const char* kWhat = "the PIN";

SecretBytes from_credential(const std::string& name) {
  const char* folder = std::getenv("CREDENTIALS_DIRECTORY");
  if (folder == nullptr || name.find('/') != std::string::npos) {
    throw Error(Code::kConfiguration, "missing systemd credential '" + name +
                                          "': add to the unit LoadCredentialEncrypted=" + name +
                                          ":/path");
  }
  return read_secret_text(std::filesystem::path(folder) / name, kWhat);
}

}  // namespace

pkcs11::PinSource make_pin_source(const config::PinFrom& from) {
  switch (from.kind) {
    case config::PinFrom::Kind::kSystemdCredential:
      return [name = from.value] { return from_credential(name); };
    case config::PinFrom::Kind::kFile:
      return [path = from.value] { return read_secret_text(path, kWhat); };
    case config::PinFrom::Kind::kPrompt:
      break;
  }
  // Prompt only once: during a later recovery no user may be at the terminal.
  return [kept = std::make_shared<SecretBytes>()] {
    if (kept->empty())
      *kept = process::ask_secret("PIN of the token: ", kWhat,
                                  "set token.pin to a 'credential' or a 'file'");
    return *kept;
  };
}

}  // namespace keyagent::daemon
