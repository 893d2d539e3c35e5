// SPDX-License-Identifier: Apache-2.0
#pragma once
// What reading a ledger's texts shares.

#include <filesystem>
#include <optional>
#include <string>

#include "agent/base/error.h"

namespace keyagent::keys {

[[noreturn]] inline void throw_damaged(const std::filesystem::path& file, const std::string& what) {
  throw Error(Code::kIntegrity, "the ledger " + file.string() + " is damaged (" + what +
                                    "); nothing was changed; restore it from its newest backup");
}

// What a text of the ledger must parse as; a foreign word is damage.
template <class Value>
Value parsed(const std::optional<Value>& value, const std::filesystem::path& file,
             const std::string& what) {
  if (!value) throw_damaged(file, what);
  return *value;
}

}  // namespace keyagent::keys
