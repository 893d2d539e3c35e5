// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the process takes from itself before it touches anything.

namespace keyagent::process {

// No core dumps, no ptrace by the same user, umask 077, SIGPIPE ignored, inherited descriptors
// beyond 2 closed unless passed on purpose, and only the few needed environment variables: LD_*,
// OPENSSL_*, SOFTHSM2_CONF and others that could steer a library are removed (RELIABILITY 116, 123,
// 124). Call first in main(), before any thread. Throws Error{kInternal}.
//
// If the environment has LD_*, the process executes itself again without them. OpenSSL reads no
// configuration file from here on. Memory is locked if the limit is unlimited.
void harden_process(char** argv, char** environment);

}  // namespace keyagent::process
