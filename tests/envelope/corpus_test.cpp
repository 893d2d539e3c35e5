// SPDX-License-Identifier: Apache-2.0
// The seeds and old findings of the fuzz targets, through the same calls in every build.

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/envelope/keys.h"

namespace keyagent::envelope {
namespace {

std::vector<std::filesystem::path> files_of(const char* target) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(KEYAGENT_FUZZ_CORPUS) / target)) {
    files.push_back(entry.path());
  }
  EXPECT_FALSE(files.empty());
  return files;
}

Bytes content_of(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return Bytes(std::istreambuf_iterator<char>(in), {});
}

TEST(Corpus, Fault115_NoEnvelopeOfAnotherKeyOpensOrCrashes) {
  for (const char* target : {"jwe", "cms"}) {
    for (const auto& file : files_of(target)) {
      const Bytes envelope = content_of(file);
      for (const auto& wanted : test::all_keys()) {
        const auto key = test::shared_key(wanted);
        EXPECT_TRUE(test::fails_as_input_or_unsupported(test::shared_keys(), key, envelope))
            << file;
      }
    }
  }
}

TEST(Corpus, Fault115_JwkComesBackOrIsRefused) {
  for (const auto& file : files_of("jwk")) {
    const Bytes bytes = content_of(file);
    const std::string_view text = as_text(bytes);
    const Code code = code_of([&] {
      const PublicKeyInfo key = from_jwk(text.substr(0, text.find('\n')));
      EXPECT_EQ(from_jwk(to_jwk(key)).spki, key.spki) << file;
    });
    EXPECT_EQ(code, file.filename() == "name_twice" ? Code::kUsage : Code::kOk) << file;
  }
}

}  // namespace
}  // namespace keyagent::envelope
