// SPDX-License-Identifier: Apache-2.0
// keyagent sign | verify

#include <botan/base64.h>
#include <botan/exceptn.h>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/cli/cli.h"
#include "agent/cli/commands/public_file.h"
#include "agent/cli/files.h"
#include "agent/client/remote_keys.h"
#include "agent/envelope/container.h"
#include "agent/envelope/envelope.h"

namespace keyagent::cli {
namespace {

struct SignOptions {
  std::string key, public_file, algorithm, file = "-", output = "-", format = "openssl", signature;
};

const char* digest_name(DigestAlgorithm digest) {
  return digest == DigestAlgorithm::kSha512   ? "SHA512"
         : digest == DigestAlgorithm::kSha384 ? "SHA384"
                                              : "SHA256";
}

SignatureAlgorithm choose(const PublicKeyInfo& info, const std::string& wanted) {
  auto algorithm = default_signature(info.algorithm);
  if (!wanted.empty()) algorithm = signature_algorithm_of(wanted);
  if (!algorithm || !can_sign(info.algorithm, *algorithm)) {
    throw Error(Code::kUsage,
                "key " + info.name + " (" + std::string(name_of(info.algorithm)) +
                    ") does not sign " + (wanted.empty() ? "at all" : wanted) +
                    "; RSA: RS256 … PS512, ec-p256: ES256, ec-p384: ES384, ed25519: EdDSA");
  }
  return *algorithm;
}

// What goes to KeyOps::sign: the digest, or for EdDSA the message.
Bytes signed_input(const std::string& file, SignatureAlgorithm algorithm) {
  const auto digest = digest_of(algorithm);
  if (digest != DigestAlgorithm::kNone) return digest_input(file, digest_name(digest));
  const auto message = read_input(file, envelope::kMaxPlaintext);
  return Bytes(message.begin(), message.end());
}

Bytes from_base64(const std::string& name, std::string_view text) {
  try {
    const auto bytes = Botan::base64_decode(std::string(envelope::trimmed(text)), true);
    return Bytes(bytes.begin(), bytes.end());
  } catch (const Botan::Exception&) {
    throw Error(Code::kUsage, "cannot read the signature: " + name + " is not base64");
  }
}

bool is_ecdsa(SignatureAlgorithm algorithm) {
  return algorithm == SignatureAlgorithm::kEs256 || algorithm == SignatureAlgorithm::kEs384;
}

void run_sign(Session& session, const SignOptions& options) {
  client::RemoteKeys keys(session.agent());
  const auto info = keys.find(options.key);
  const auto algorithm = choose(info, options.algorithm);
  if (options.format == "jws") {
    const auto payload = read_input(options.file, envelope::kMaxPlaintext);
    const std::string jws = envelope::sign_jws(keys, info, algorithm, payload) + "\n";
    return write_output(options.output, as_bytes(jws));
  }
  const Bytes raw = keys.sign(info.kid, algorithm, signed_input(options.file, algorithm));
  const Bytes signature =
      options.format == "openssl" && is_ecdsa(algorithm) ? ecdsa_to_der(raw) : raw;
  const std::string base64 = to_base64(signature) + "\n";
  if (!session.globals.json || options.output != "-")
    write_output(options.output,
                 options.format == "base64" ? as_bytes(base64) : ByteView(signature));
  if (!session.globals.json) return;
  session.tell({{"kid", info.kid.text()},
                {"key", info.name},
                {"algorithm", name_of(algorithm)},
                {"signature", to_base64(signature)}},
               {});
}

void run_verify_jws(Session& session, const SignOptions& options) {
  const auto info = options.public_file.empty()
                        ? client::RemoteKeys(session.agent()).find(options.key)
                        : read_public_file(options.public_file, Purpose::kSign);
  const auto algorithm = choose(info, options.algorithm);
  const auto given = read_input(options.signature, 64 * 1024);
  Bytes signature(given.begin(), given.end());
  bool good = true;
  if (options.format == "jws") {
    write_output(options.output, envelope::verify_jws(info, envelope::trimmed(as_text(signature))));
  } else {
    if (options.format == "base64") signature = from_base64(options.signature, as_text(signature));
    if (options.format == "openssl" && is_ecdsa(algorithm)) {
      try {
        signature = ecdsa_from_der(signature, ec_field_size(info.algorithm));
      } catch (const Error&) {
        signature.clear();
      }
    }
    good = envelope::verify_signature(info.spki, algorithm, signed_input(options.file, algorithm),
                                      signature);
  }
  if (!good)
    throw Error(Code::kIntegrity,
                "the signature does not verify with key " +
                    (info.name.empty() ? info.kid.text() : info.name),
                info.kid.text());
  if (options.format != "jws")
    session.tell({{"verified", true}, {"kid", info.kid.text()}, {"algorithm", name_of(algorithm)}},
                 "the signature verifies (" + std::string(name_of(algorithm)) + ", kid " +
                     info.kid.text() + ")");
}

constexpr const char* kFormats =
    "openssl (DER for ECDSA, raw otherwise), raw (r||s), base64 (of raw), jws";

}  // namespace

void add_sign_commands(CLI::App& app, Session& session) {
  auto sign = std::make_shared<SignOptions>();
  auto* sign_command = add_command(
      app, "sign", "sign a file with a sign key; hashes locally, signs in the token",
      "  keyagent sign release.tar --key releases -o release.sig\n"
      "  keyagent key public releases > releases.pem\n"
      "  openssl dgst -sha256 -verify releases.pem -signature release.sig release.tar      "
      "(ec-p256, RS256)\n"
      "  openssl pkeyutl -verify -pubin -inkey k.pem -rawin -in FILE -sigfile FILE.sig     "
      "(ed25519)\n"
      "  echo '{\"sub\":\"me\"}' | keyagent sign - --key releases --format jws",
      [&session, sign] { run_sign(session, *sign); });
  sign_command->add_option("FILE", sign->file, "file to sign; - is standard input")->required();
  sign_command->add_option("--key", sign->key, "name or kid of a sign key")->required();
  sign_command->add_option(
      "--algorithm", sign->algorithm,
      "RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 EdDSA (default: by key)");
  sign_command->add_option("--format", sign->format, kFormats)
      ->check(CLI::IsMember({"openssl", "raw", "base64", "jws"}));
  sign_command->add_option("-o,--output", sign->output, "output file; - is standard output");

  auto verify = std::make_shared<SignOptions>();
  auto* verify_command = add_command(
      app, "verify", "verify a signature with a public key; exit status 6 if it does not verify",
      "  keyagent verify release.tar --signature release.sig --key releases\n"
      "  keyagent verify release.tar --signature release.sig --public releases.pem",
      [&session, verify] { run_verify_jws(session, *verify); });
  verify_command->add_option("FILE", verify->file,
                             "file that was signed; - is standard input (not needed for jws)");
  verify_command->add_option("--signature", verify->signature, "file with the signature")
      ->required();
  auto* key = verify_command->add_option("--key", verify->key, "name or kid of a key of the agent");
  auto* file = verify_command->add_option(
      "--public", verify->public_file,
      "file with a public key (PEM, DER, JWK or a certificate); needs no agent");
  key->excludes(file);
  verify_command->add_option("--algorithm", verify->algorithm, "signature format, as for sign");
  verify_command->add_option("--format", verify->format, kFormats)
      ->check(CLI::IsMember({"openssl", "raw", "base64", "jws"}));
  verify_command->add_option("-o,--output", verify->output, "for jws: output file for the payload");
}

}  // namespace keyagent::cli
