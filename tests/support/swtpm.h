// SPDX-License-Identifier: Apache-2.0
#pragma once
// A TPM 2.0 of a test's own: swtpm, tpm2-abrmd on its own bus, and a tpm2-pkcs11 token in it.

#include <sys/types.h>

#include <memory>
#include <string>

#include "pkcs11/token.h"
#include "tests/support/temp_folder.h"

namespace keyagent::test {

// Everything that it starts ends with this object, and with the test program however that ends.
// Sets DBUS_SESSION_BUS_ADDRESS, TPM2_PKCS11_STORE and the TCTI variables of this process: one at a
// time, made before the first Token and by the thread that lives as long as it.
class Swtpm {
 public:
  explicit Swtpm(const std::string& label = "keyagent-test");
  ~Swtpm();
  Swtpm(const Swtpm&) = delete;

  // True when every program that this needs is installed; tests skip with missing() otherwise.
  static bool available() { return missing().empty(); }
  static std::string missing();

  pkcs11::Profile profile() const;          // hsm-profiles/tpm2.yml, for this TPM
  pkcs11::Profile shimmed_profile() const;  // the same behind tests/shim
  pkcs11::TokenOptions options() const;
  std::shared_ptr<pkcs11::Token> open() const;

  // The TPM loses its power: swtpm and its resource manager are killed. restart() brings both back
  // with the same state.
  void kill();
  void restart();

  // The resource manager alone.
  void kill_manager();
  void restart_manager();
  // A command of tpm2-tools past the resource manager, which must not run meanwhile: swtpm serves
  // one client at a time.
  void run_directly(const std::string& command) const;
  // As its owner's reset leaves it: another TPM, whose keys are gone.
  void clear();

  const std::string& label() const { return label_; }
  const std::string& pin() const { return pin_; }
  const std::string& so_pin() const { return so_pin_; }
  const std::filesystem::path& folder() const { return folder_.path(); }

 private:
  void start_bus();
  void start_tpm();
  void start_tpm_once();
  void start_manager();
  void make_token();

  TempFolder folder_;
  std::string label_, pin_ = "pin-4711-canary", so_pin_ = "so-pin-0815-canary";
  unsigned port_ = 0;
  pid_t bus_ = 0, tpm_ = 0, manager_ = 0;
};

}  // namespace keyagent::test
