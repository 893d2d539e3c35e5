// SPDX-License-Identifier: Apache-2.0
#pragma once
// Where the PIN comes from: a systemd credential, a file that only this user can read, or a person.
// Never argv, never the environment.

#include "agent/config/config.h"
#include "pkcs11/secret.h"

namespace keyagent::daemon {

// The source throws Error{kConfiguration} with the fix when it cannot give a PIN, or gives one
// that base/secret_text.h refuses: no try of the token is spent on it.
pkcs11::PinSource make_pin_source(const config::PinFrom& from);

}  // namespace keyagent::daemon
