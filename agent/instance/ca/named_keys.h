// SPDX-License-Identifier: Apache-2.0
#pragma once
// Which keys the instance's data are for. The store names them, so that a replica whose host has
// others ends at its start, and makes none.

#include "agent/instance/common/host_keys.h"
#include "agent/store/store.h"

namespace keyagent::instance {

// REQUIRES nothing: call it before HostKeys::create_missing(). Throws Error{kIntegrity} when the
// store names a key that the host's agent does not have.
void require_named_keys(const InstanceConfig& config, HostKeys& keys, store::Store& store);

// Writes down the keys in effect, once the CA is up; again after a rekey of one of them. Throws as
// above when another replica has just named others.
void name_keys(const InstanceConfig& config, HostKeys& keys, store::Store& store);

}  // namespace keyagent::instance
