// SPDX-License-Identifier: Apache-2.0
#include "tests/support/soft_hsm.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <stdexcept>

#include "tests/support/command.h"
#include "tests/support/shim_control.h"

namespace keyagent::test {
namespace {

pkcs11::Profile load() {
  return pkcs11::load_profile(std::filesystem::path(KEYAGENT_SOURCE) / "hsm-profiles/softhsm2.yml");
}

}  // namespace

SoftHsm::SoftHsm(const std::string& label) : label_(label) {
  std::filesystem::create_directory(folder() / "tokens");
  std::ofstream(conf()) << "directories.tokendir = " << (folder() / "tokens").string()
                        << "\nobjectstore.backend = file\nlog.level = ERROR\n";
  const std::string softhsm = "SOFTHSM2_CONF='" + conf().string() + "' softhsm2-util ";
  run_command(softhsm + "--init-token --free --label '" + label_ + "' --pin '" + pin_ +
              "' --so-pin '" + so_pin_ + "'");
  const std::string slots = run_command(softhsm + "--show-slots");
  const auto at = slots.find("Serial number:");
  serial_ = slots.substr(at + 14, slots.find('\n', at) - at - 14);
  serial_.erase(0, serial_.find_first_not_of(' '));
  serial_.erase(serial_.find_last_not_of(" \r\n") + 1);
}

pkcs11::Profile SoftHsm::profile() const {
  return load();
}

pkcs11::Profile SoftHsm::shimmed_profile() const {
  return shim::in_front_of(load());
}

pkcs11::TokenOptions SoftHsm::options() const {
  pkcs11::TokenOptions options;
  options.selector = {label_, serial_};
  options.pin = [pin = pin_] { return pkcs11::SecretBytes(pin.begin(), pin.end()); };
  options.state_folder = folder();
  options.backoff_first = std::chrono::milliseconds(5);
  options.backoff_most = std::chrono::milliseconds(40);
  return options;
}

std::shared_ptr<pkcs11::Token> SoftHsm::open() const {
  return std::make_shared<pkcs11::Token>(profile(), options());
}

void SoftHsm::add_token(const std::string& label) const {
  run_command("SOFTHSM2_CONF='" + conf().string() +
              "' softhsm2-util --init-token --free --label '" + label + "' --pin '" + pin_ +
              "' --so-pin '" + so_pin_ + "'");
}

std::shared_ptr<pkcs11::Token> SoftHsm::open_added(const std::string& label) const {
  auto added = options();
  added.selector = {label, ""};
  return std::make_shared<pkcs11::Token>(profile(), added);
}

std::shared_ptr<pkcs11::Token> SoftHsm::open_shimmed() const {
  return std::make_shared<pkcs11::Token>(shimmed_profile(), options());
}

}  // namespace keyagent::test
