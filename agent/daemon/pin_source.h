#pragma once
// Where the PIN comes from: a systemd credential, a file that only this user can read, or a person.
// Never argv, never the environment.

#include "agent/config/config.h"
#include "pkcs11/secret.h"

namespace keyagent::daemon {

// The source throws Error{kConfiguration} with the cure when it cannot give a PIN. One trailing
// newline is cut off.
pkcs11::PinSource make_pin_source(const config::PinFrom& from);

}  // namespace keyagent::daemon
