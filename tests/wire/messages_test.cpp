// SPDX-License-Identifier: Apache-2.0
#include "agent/wire/messages.h"

#include <gtest/gtest.h>

#include "agent/wire/keyagent.pb.h"

namespace keyagent::wire {
namespace {

TEST(WireCodes, EveryCodeHasTheSameNumberAndNameOnBothSides) {
  const auto* codes = ErrorCode_descriptor();
  EXPECT_EQ(codes->value_count(), static_cast<int>(kLastCode) + 1);
  for (int i = 0; i < codes->value_count(); ++i) {
    const auto* value = codes->value(i);
    EXPECT_EQ(value->name(), code_name(static_cast<Code>(value->number())));
    EXPECT_EQ(code_of(value->number()), static_cast<Code>(value->number()));
  }
}

TEST(WireCodes, NumberOfALaterVersionIsInternal) {
  EXPECT_EQ(code_of(4711), Code::kInternal);
}

TEST(Messages, RequestSurvivesTheWay) {
  Request request;
  request.set_id(7);
  request.mutable_sign()->set_key("release");
  Request back;
  ASSERT_TRUE(parse(serialize(request), back));
  EXPECT_EQ(back.id(), 7u);
  EXPECT_EQ(back.sign().key(), "release");
}

TEST(Messages, Fault115_MalformedBytesAreRefused) {
  Request request;
  EXPECT_FALSE(parse(Bytes(64, 0xff), request));
}

TEST(Messages, WipeLeavesNoPlaintextBehind) {
  Response response;
  auto* plaintext = response.mutable_open()->mutable_plaintext();
  plaintext->assign(100, 'p');
  const char* where = plaintext->data();
  wipe(response);
  EXPECT_TRUE(response.open().plaintext().empty());
  EXPECT_EQ(std::string(where + 1, 99), std::string(99, '\0'));
}

TEST(Messages, WipeOverwritesWhatWasDecryptedAndAgreedOn) {
  Response decrypted, agreed;
  decrypted.mutable_decrypt()->set_plaintext(std::string(100, 's'));
  agreed.mutable_agree()->set_secret(std::string(100, 's'));
  const char* places[] = {decrypted.decrypt().plaintext().data(), agreed.agree().secret().data()};
  wipe(decrypted);
  wipe(agreed);
  EXPECT_TRUE(decrypted.decrypt().plaintext().empty());
  EXPECT_TRUE(agreed.agree().secret().empty());
  for (const char* place : places) EXPECT_EQ(std::string(place + 1, 99), std::string(99, '\0'));
}

TEST(Messages, WipeLeavesNoCredentialAnswerOrEnrollmentTokenBehind) {
  const auto left = [](std::string& secret, const auto& wiped) {
    secret.assign(100, 'p');
    const char* where = secret.data();
    wiped();
    return std::string(where + 1, 99);
  };
  Response credential, proof;
  Request enroll;
  EXPECT_EQ(left(*credential.mutable_credential_get()->mutable_value(), [&] { wipe(credential); }),
            std::string(99, '\0'));
  EXPECT_EQ(left(*proof.mutable_prove()->mutable_proof(), [&] { wipe(proof); }),
            std::string(99, '\0'));
  EXPECT_EQ(left(*enroll.mutable_enroll()->mutable_token(), [&] { wipe(enroll); }),
            std::string(99, '\0'));
}

TEST(Messages, FailureCarriesCodeTextAndKid) {
  Response response;
  ASSERT_TRUE(parse(failure(9, Error(Code::kKeyState, "destroyed", "kid-1")), response));
  EXPECT_EQ(response.id(), 9u);
  EXPECT_EQ(response.failure().code(), KEY_STATE);
  EXPECT_EQ(response.failure().text(), "destroyed");
  EXPECT_EQ(response.failure().kid(), "kid-1");
}

TEST(Messages, OnlyWhatChangesNothingIsRepeated) {
  Request request;
  EXPECT_FALSE(repeatable(request));
  request.mutable_sign();
  EXPECT_TRUE(repeatable(request));
  request.mutable_key_create();
  EXPECT_FALSE(repeatable(request));
  request.mutable_key_destroy();
  EXPECT_FALSE(repeatable(request));
}

}  // namespace
}  // namespace keyagent::wire
