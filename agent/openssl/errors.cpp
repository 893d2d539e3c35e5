// SPDX-License-Identifier: Apache-2.0
// The agent's errors on OpenSSL's queue.

#include <array>
#include <cstdarg>

#include "agent/openssl/context.h"

namespace keyagent::openssl {
namespace {

void set_error(const Core& core, int reason, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  core.vset_error(core.handle, static_cast<std::uint32_t>(reason), format, arguments);
  va_end(arguments);
}

}  // namespace

// Reasons are the numbers of keyagent::Code, their texts its names.
const OSSL_ITEM* reason_strings() {
  constexpr int kCodes = static_cast<int>(kLastCode);
  static const auto kReasons = [] {
    std::array<OSSL_ITEM, kCodes + 1> items{};
    for (int code = 1; code <= kCodes; ++code) {
      items[static_cast<std::size_t>(code - 1)] = {
          static_cast<unsigned>(code),
          const_cast<char*>(code_name(static_cast<Code>(code)).data())};
    }
    return items;
  }();
  return kReasons.data();
}

void Context::raise(Code code, const std::string& text) const {
  if (core_.new_error == nullptr || core_.vset_error == nullptr) return;
  core_.new_error(core_.handle);
  if (core_.set_error_debug != nullptr)
    core_.set_error_debug(core_.handle, "keyagent", 0, "keyagent");
  set_error(core_, static_cast<int>(code), "%s: %s", std::string(code_name(code)).c_str(),
            text.c_str());
}

int Context::guarded(const std::function<int()>& work) const {
  try {
    return work();
  } catch (const Error& error) {
    raise(error.code(), error.what());
  } catch (const std::exception& error) {
    raise(Code::kInternal, error.what());
  }
  return 0;
}

}  // namespace keyagent::openssl
