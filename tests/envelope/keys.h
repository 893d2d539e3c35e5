// SPDX-License-Identifier: Apache-2.0
#pragma once
// Keys that the envelope tests share (RSA generation is slow), and short ways to ask how a call
// failed.

#include <gtest/gtest.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/error.h"
#include "agent/envelope/envelope.h"
#include "tests/support/code_of.h"
#include "tests/support/software_keys.h"

namespace keyagent::test {

struct KeyCase {
  KeyAlgorithm algorithm;
  EnvelopeAlgorithm envelope;
};

// Every pair that can be sealed to.
inline std::vector<KeyCase> all_keys() {
  return {{KeyAlgorithm::kRsa2048, EnvelopeAlgorithm::kRsaOaep},
          {KeyAlgorithm::kRsa2048, EnvelopeAlgorithm::kRsaOaep256},
          {KeyAlgorithm::kRsa3072, EnvelopeAlgorithm::kRsaOaep256},
          {KeyAlgorithm::kEcP256, EnvelopeAlgorithm::kEcdhEs},
          {KeyAlgorithm::kEcP256, EnvelopeAlgorithm::kEcdhEsA256Kw},
          {KeyAlgorithm::kEcP384, EnvelopeAlgorithm::kEcdhEs},
          {KeyAlgorithm::kEcP384, EnvelopeAlgorithm::kEcdhEsA256Kw},
          {KeyAlgorithm::kAes256, EnvelopeAlgorithm::kA256GcmKw}};
}

inline std::vector<KeyCase> public_keys() {
  auto keys = all_keys();
  keys.pop_back();
  return keys;
}

inline std::string case_name(const testing::TestParamInfo<KeyCase>& info) {
  std::string name(name_of(info.param.algorithm));
  name += '_';
  name += name_of(info.param.envelope);
  for (char& c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  }
  return name;
}

inline SoftwareKeys& shared_keys() {
  // Never destroyed: libcrypto cleans up at exit before objects that were made before its first
  // use.
  static SoftwareKeys& keys = *new SoftwareKeys;
  return keys;
}

inline PublicKeyInfo shared_key(const KeyCase& wanted) {
  static std::vector<PublicKeyInfo> made;
  for (const PublicKeyInfo& key : made) {
    if (key.algorithm == wanted.algorithm && key.envelope == wanted.envelope) return key;
  }
  const Purpose purpose =
      wanted.algorithm == KeyAlgorithm::kAes256 ? Purpose::kStorage : Purpose::kTransport;
  made.push_back(shared_keys().add("shared", purpose, wanted.algorithm, wanted.envelope));
  return made.back();
}

inline std::string text_of(const SecretBytes& bytes) {
  return {bytes.begin(), bytes.end()};
}

inline SecretBytes secret(std::string_view text) {
  return {text.begin(), text.end()};
}

inline std::string input_error_text() {
  try {
    throw_input_error();
  } catch (const Error& e) {
    return e.what();
  }
}

inline testing::AssertionResult fails_as_input_or_unsupported(KeyOps& ops, const PublicKeyInfo& key,
                                                              ByteView envelope) {
  const Code code = code_of([&] { envelope::open(ops, key, envelope); });
  if (code == Code::kInput || code == Code::kUnsupported) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "answered " << code_name(code);
}

}  // namespace keyagent::test
