#pragma once
// Control of the fault shim that is loaded in this process. The rules: tests/shim/README.md.

#include <cstdint>
#include <string>

namespace keyagent::test::shim {

// Replaces all rules and starts their counting anew. Throws std::invalid_argument for a rule that
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
