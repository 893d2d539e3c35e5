// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a careless or hostile module does to the process that loaded it.

namespace keyagent::shim {

// Changes umask, working directory, locale and signal handlers, and prints a PIN.
void meddle();
// Leaks `bytes` bytes and a descriptor.
void leak(unsigned long bytes);
// Forks a child that ends.
void fork_child();
// Connects to `port` of this host, reads, writes, starts a program and more. `log` gets each
// attempt and its result.
void reach(unsigned long port, void (*log)(const char*));

}  // namespace keyagent::shim
