// SPDX-License-Identifier: Apache-2.0
// Messages between instances: what is taken is signed, addressed and in time, and everything else
// is INTEGRITY or, for JSON that lacks something, USAGE.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/instance/exchange/exchange_wire.h"
#include "tests/support/software_keys.h"

namespace {

using namespace keyagent;

const Bytes& identity() {
  static test::SoftwareKeys keys;
  static const Bytes spki = keys.add("identity", Purpose::kIdentity, KeyAlgorithm::kEcP256).spki;
  return spki;
}

template <class Read>
bool taken(Read read) {
  try {
    read();
    return true;
  } catch (const Error& error) {
    if (error.code() != Code::kIntegrity && error.code() != Code::kUsage) std::abort();
    return false;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(as_text({data, size}));
  instance::SignedMessage message;
  if (taken([&] { message = instance::read_signed(text); })) {
    if (message.kid != jwk_thumbprint(message.spki)) std::abort();
    taken([&] { instance::verified_message(message); });
    if (taken([&] {
          instance::verified_json(identity(), message.jws, envelope::Statement::kExchangeMessage);
        }))
      std::abort();
  }
  taken([&] {
    if (instance::epoch_in(text) < 0) std::abort();
  });
  // As if a peer had signed it.
  instance::Json payload;
  if (!taken([&] { payload = instance::parse_object(text); })) return 0;
  if (taken([&] { instance::require_addressed(payload, instance::kExchangeQuestion, "a", "b"); }) &&
      (instance::text_of(payload, "from") != "a" || instance::text_of(payload, "to") != "b"))
    std::abort();
  const auto now = parse_rfc3339("2026-11-21T12:00:00.000Z");
  if (taken([&] { instance::require_in_time(payload, now); }) &&
      parse_rfc3339(instance::text_of(payload, "expires")) < now - instance::kExchangeSkew)
    std::abort();
  return 0;
}
