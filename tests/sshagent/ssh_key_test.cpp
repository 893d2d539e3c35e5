// SPDX-License-Identifier: Apache-2.0
// Blobs against those that ssh-keygen makes.
#include "agent/sshagent/ssh_key.h"

#include <gtest/gtest.h>
#include <openssl/evp.h>

#include <fstream>
#include <sstream>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/sshagent/ssh_wire.h"
#include "tests/sshagent/ssh_keygen.h"
#include "tests/support/software_keys.h"

namespace keyagent::sshagent {
namespace {

using test::from_base64;
using test::SshKeygen;

const char* const kKinds[] = {"ed25519",      "ecdsa -b 256", "ecdsa -b 384",
                              "ecdsa -b 521", "rsa -b 2048",  "rsa -b 3072"};

TEST(SshKey, BlobOfEachKindIsThatOfSshKeygen) {
  if (!SshKeygen::there()) GTEST_SKIP() << "ssh-keygen is not installed (openssh-client)";
  SshKeygen keygen;
  for (const std::string kind : kKinds) {
    keygen.make(kind);
    const Bytes blob = keygen.blob();
    const Bytes spki = spki_of_blob(blob);
    EXPECT_EQ(key_blob(spki), blob) << kind;
    EXPECT_EQ(authorized_key(spki, "a comment") + "\n", keygen.line("a comment")) << kind;
    EXPECT_EQ(fingerprint(blob), keygen.fingerprint()) << kind;
    if (kind != "ed25519") {  // for which ssh-keygen does not write one
      EXPECT_EQ(to_hex(spki), to_hex(keygen.spki())) << kind;
    }
  }
}

TEST(SshKey, SignatureOfSshKeygenVerifiesAndNothingElseDoes) {
  if (!SshKeygen::there()) GTEST_SKIP() << "ssh-keygen is not installed (openssh-client)";
  SshKeygen keygen, other;
  for (const std::string kind : kKinds) {
    keygen.make(kind);
    other.make(kind);
    const auto [data, signature] = keygen.sign("what is signed");
    EXPECT_TRUE(verify_blob(keygen.blob(), signature, data)) << kind;
    EXPECT_FALSE(verify_blob(other.blob(), signature, data)) << kind;
    EXPECT_FALSE(verify_blob(keygen.blob(), signature, as_bytes("something else"))) << kind;
    for (std::size_t at = 0; at < signature.size(); at += at < 40 ? 1 : 29) {
      Bytes wrong = signature;
      wrong[at] ^= 1;
      EXPECT_FALSE(verify_blob(keygen.blob(), wrong, data)) << kind << " byte " << at;
      wrong.resize(at);
      EXPECT_FALSE(verify_blob(keygen.blob(), wrong, data)) << kind << " cut at " << at;
    }
    Bytes longer = signature;
    longer.push_back(0);
    EXPECT_FALSE(verify_blob(keygen.blob(), longer, data)) << kind;
  }
}

TEST(SshKey, BlobThatIsNotWholeOrNotOfItsTypeIsRefused) {
  if (!SshKeygen::there()) GTEST_SKIP() << "ssh-keygen is not installed (openssh-client)";
  SshKeygen keygen;
  for (const std::string kind : kKinds) {
    keygen.make(kind);
    const Bytes blob = keygen.blob();
    for (std::size_t size = 0; size < blob.size(); ++size)
      EXPECT_THROW(spki_of_blob(ByteView(blob).first(size)), Error) << kind << " " << size;
    Bytes longer = blob;
    longer.push_back(0);
    EXPECT_THROW(spki_of_blob(longer), Error) << kind;
  }
}

TEST(SshKey, KeysThatAreNotUsedAreRefused) {
  const auto refused = [](const Writer& blob) {
    EXPECT_THROW(spki_of_blob(blob.bytes()), Error) << as_text(blob.bytes());
  };
  const Bytes modulus(256, 0xff), small(96, 0xff), huge(2049, 0xff);
  Bytes even = modulus;
  even.back() = 0xfe;
  const Bytes three{3}, one{1};
  refused(Writer().string("ssh-dss").mpint(three).mpint(modulus));
  refused(Writer().string("ssh-rsa").mpint(three).mpint(small));
  refused(Writer().string("ssh-rsa").mpint(three).mpint(huge));
  refused(Writer().string("ssh-rsa").mpint(three).mpint(even));
  refused(Writer().string("ssh-rsa").mpint(one).mpint(modulus));
  refused(Writer().string("ssh-rsa").mpint(Bytes(9, 0xff)).mpint(modulus));
  refused(Writer().string("ssh-ed25519").string(Bytes(31)));
  refused(Writer().string("ssh-ed25519-cert-v01@openssh.com").string(Bytes(32)));
  // A point that is not on the curve, one that is compressed, and the point at infinity.
  Bytes point(65, 1);
  point[0] = 4;
  const auto ec = [](const char* curve, const Bytes& at) {
    return Writer().string("ecdsa-sha2-nistp256").string(curve).string(at);
  };
  refused(ec("nistp256", point));
  refused(ec("nistp256", Bytes(33, 2)));
  refused(ec("nistp256", Bytes{0}));
  refused(ec("nistp384", point));
  refused(Writer().string("ecdsa-sha2-nistp192").string("nistp192").string(Bytes(49, 4)));
}

TEST(SshKey, RsaSignsWithSha2OnlyAndTheRestByItsKind) {
  EXPECT_FALSE(signature_for(KeyAlgorithm::kRsa2048, 0)) << "that would be SHA-1";
  EXPECT_FALSE(signature_for(KeyAlgorithm::kRsa2048, 1));
  EXPECT_EQ(signature_for(KeyAlgorithm::kRsa2048, kRsaSha256)->name, "rsa-sha2-256");
  EXPECT_EQ(signature_for(KeyAlgorithm::kRsa4096, kRsaSha512)->name, "rsa-sha2-512");
  EXPECT_EQ(signature_for(KeyAlgorithm::kEcP256, 0)->algorithm, SignatureAlgorithm::kEs256);
  EXPECT_EQ(signature_for(KeyAlgorithm::kEcP384, 0)->algorithm, SignatureAlgorithm::kEs384);
  EXPECT_EQ(signature_for(KeyAlgorithm::kEd25519, 0)->algorithm, SignatureAlgorithm::kEdDsa);
  EXPECT_FALSE(signature_for(KeyAlgorithm::kAes256, kRsaSha256));
}

// r and s that begin with a set bit or with zeros are one in two and one in 256.
TEST(SshKey, SignaturesOfManyShapesVerify) {
  test::SoftwareKeys keys;
  for (const auto algorithm :
       {KeyAlgorithm::kEcP256, KeyAlgorithm::kEcP384, KeyAlgorithm::kEd25519}) {
    const auto info = keys.add("k", Purpose::kSign, algorithm);
    const auto how = *signature_for(algorithm, 0);
    const Bytes blob = key_blob(info.spki);
    for (int i = 0; i < 600; ++i) {
      const std::string data = "data " + std::to_string(i);
      const Bytes raw =
          keys.sign(info.kid, how.algorithm, signature_input(how.algorithm, as_bytes(data)));
      ASSERT_TRUE(verify_blob(blob, signature_blob(how, raw), as_bytes(data))) << to_hex(raw);
    }
  }
}

}  // namespace
}  // namespace keyagent::sshagent
