// SPDX-License-Identifier: Apache-2.0
#pragma once
// A SoftHSM2 token of a test's own: a label, a serial, a PIN, a folder. Tests run on nothing else
// but tokens made here.

#include <filesystem>
#include <memory>
#include <string>

#include "pkcs11/token.h"
#include "tests/support/temp_folder.h"

namespace keyagent::test {

// One at a time in a process is visible to the module, which reads SOFTHSM2_CONF when it is
// initialized: make the token before the first pkcs11::Token, and let the last Token go before the
// next SoftHsm.
class SoftHsm {
 public:
  explicit SoftHsm(const std::string& label = "keyagent-test");

  // hsm-profiles/softhsm2.yml; its ${state} is this token's folder (options().state_folder).
  pkcs11::Profile profile() const;
  // The same behind tests/shim.
  pkcs11::Profile shimmed_profile() const;
  // Selected by label and serial, with the PIN, and with short pauses after failed recoveries.
  pkcs11::TokenOptions options() const;
  std::shared_ptr<pkcs11::Token> open() const;
  std::shared_ptr<pkcs11::Token> open_shimmed() const;

  // One more token beside this one, with the same PIN, for tests of two in one process. To be made
  // before the module is initialized: it reads its slots once.
  void add_token(const std::string& label) const;
  std::shared_ptr<pkcs11::Token> open_added(const std::string& label) const;

  const std::string& label() const { return label_; }
  const std::string& serial() const { return serial_; }
  const std::string& pin() const { return pin_; }
  const std::string& so_pin() const { return so_pin_; }
  const std::filesystem::path& folder() const { return folder_.path(); }
  std::filesystem::path conf() const { return folder() / "softhsm2.conf"; }

 private:
  TempFolder folder_;
  std::string label_, serial_, pin_ = "pin-4711-canary", so_pin_ = "so-pin-0815-canary";
};

}  // namespace keyagent::test
