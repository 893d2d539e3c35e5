// SPDX-License-Identifier: Apache-2.0
#pragma once
// Control of the fault shim that is loaded in this process. The rules: tests/shim/README.md.

#include <cstdint>
#include <string>

#include "pkcs11/profile.h"

namespace keyagent::test::shim {

// The profile with the shim as its module, before the one that is installed. Throws
// std::runtime_error when none is.
pkcs11::Profile in_front_of(pkcs11::Profile profile);

// Replaces all rules and starts their counting again. Throws std::invalid_argument for a rule that
// does not parse.
void set_faults(const std::string& rules);
void clear();
// Calls of a function since the shim was loaded or counts were reset.
std::uint64_t count(const std::string& function);
void reset_counts();
// Sessions that the real module has open.
long sessions();
// Lets every call that a "hang" rule holds come back.
void release_hangs();

}  // namespace keyagent::test::shim
