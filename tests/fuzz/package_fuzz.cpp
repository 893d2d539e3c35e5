// SPDX-License-Identifier: Apache-2.0
// Texts of a key exchange: what parses is within its bounds, and nothing is signed by a key that
// signed nothing.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "agent/base/error.h"
#include "agent/exchange/package.h"
#include "tests/support/software_keys.h"

namespace {

using namespace keyagent;

const PublicKeyInfo& identity() {
  static test::SoftwareKeys keys;
  static const PublicKeyInfo key = keys.add("identity", Purpose::kSign, KeyAlgorithm::kEcP256);
  return key;
}

// Everything wrong with bytes from outside is INTEGRITY: another code would be a way past it.
template <class Work>
bool taken(Work work) {
  try {
    work();
    return true;
  } catch (const Error& error) {
    if (error.code() != Code::kIntegrity) std::abort();
    return false;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = as_text({data, size});
  taken([&] {
    const auto package = exchange::parse_package(text);
    exchange::require_request_id(package.request);
    exchange::require_specification(package.specification);
    if (package.kid.text().size() != 32 || package.wrapped.empty()) std::abort();
  });
  taken([&] {
    if (exchange::parse_offer(text).oaep.empty()) std::abort();
  });
  if (taken([&] { exchange::open_package(identity(), text); })) std::abort();
  if (taken([&] { exchange::open_offer(identity(), text); })) std::abort();
  return 0;
}
