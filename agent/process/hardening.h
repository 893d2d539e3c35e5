// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the process takes from itself before it touches anything.

namespace keyagent::process {

// No core dumps, no ptrace by the same user, umask 077, SIGPIPE ignored, descriptors beyond 2 that
// no one passed on purpose closed, and an environment of the few names that are needed: LD_*,
// OPENSSL_*, SOFTHSM2_CONF and whatever else could steer a library are gone (RELIABILITY 116, 123,
// 124). Call first in main(), before any thread. Throws Error{kInternal}.
//
// An environment with LD_* ends this program image: the process starts itself again without them.
// OpenSSL reads no configuration file from here on. Memory is locked where the limit has no end.
void harden_process(char** argv, char** environment);

}  // namespace keyagent::process
