// SPDX-License-Identifier: Apache-2.0
#include "agent/envelope/challenge.h"

#include <algorithm>

#include "agent/base/encoding.h"

namespace keyagent::envelope {
namespace {

constexpr std::string_view kWords = "keyagent challenge 1\n";
constexpr std::size_t kSecret = 32;  // bytes

}  // namespace

SecretBytes new_challenge() {
  return random_secret(kSecret);
}

Bytes seal_challenge(const PublicKeyInfo& key, const SecretBytes& secret) {
  SecretBytes plaintext(kWords.begin(), kWords.end());
  plaintext.insert(plaintext.end(), secret.begin(), secret.end());
  return seal_jwe(key, ContentEncryption::kA256Gcm, plaintext);
}

std::optional<SecretBytes> secret_of_challenge(const SecretBytes& opened) {
  const bool is_one = opened.size() == kWords.size() + kSecret &&
                      std::equal(kWords.begin(), kWords.end(), opened.begin());
  if (!is_one) return std::nullopt;
  return SecretBytes(opened.begin() + kWords.size(), opened.end());
}

}  // namespace keyagent::envelope
