// SPDX-License-Identifier: Apache-2.0
#pragma once
// The part `rekey:` of keyagentd.yml.

#include "agent/base/yaml_reader.h"
#include "agent/config/config.h"

namespace keyagent::config {

// Throws Error{kConfiguration} with file, line and fix.
RekeyConfig read_rekey(const YamlReader& rekey);

}  // namespace keyagent::config
