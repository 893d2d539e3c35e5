// SPDX-License-Identifier: Apache-2.0
// keyagent key reference | csr: makes a key of the agent usable by programs that read keys from
// files.

#include "agent/base/error.h"
#include "agent/cli/cli.h"
#include "agent/cli/files.h"
#include "agent/client/remote_keys.h"
#include "agent/openssl/reference.h"
#include "agent/openssl/signature_encoding.h"
#include "agent/pki/certification_request.h"

namespace keyagent::cli {
namespace {

struct PkiOptions {
  std::string key, subject, output = "-", algorithm;
  std::vector<std::string> alternative_names;
};

void run_reference(Session& session, const PkiOptions& options) {
  const auto info = client::RemoteKeys(session.agent()).find(options.key);
  const bool serves = signs(info.purpose) && !vouches(info.purpose);
  if (!serves && info.purpose != Purpose::kTransport)
    throw Error(Code::kUsage,
                "key " + info.name + " is for " + std::string(name_of(info.purpose)) +
                    "; OpenSSL programs use transport, sign and auth keys",
                info.kid.text());
  const std::string uri = openssl::reference_uri(info.name);
  const std::string pem = openssl::reference_pem(uri);
  if (!session.globals.json || options.output != "-") write_output(options.output, as_bytes(pem));
  if (session.globals.json) session.tell({{"name", info.name}, {"uri", uri}, {"pem", pem}}, {});
}

SignatureAlgorithm algorithm_of(const PkiOptions& options, const PublicKeyInfo& info) {
  // RS256 is what every certification authority takes.
  const auto algorithm = !options.algorithm.empty() ? signature_algorithm_of(options.algorithm)
                         : is_rsa(info.algorithm)   ? SignatureAlgorithm::kRs256
                                                    : default_signature(info.algorithm);
  if (!algorithm || !can_sign(info.algorithm, *algorithm))
    throw Error(Code::kUsage,
                "key " + info.name + " (" + std::string(name_of(info.algorithm)) +
                    ") does not sign with '" + options.algorithm + "'",
                info.kid.text());
  return *algorithm;
}

void run_csr(Session& session, const PkiOptions& options) {
  client::RemoteKeys keys(session.agent());
  const auto info = keys.find(options.key);
  const auto algorithm = algorithm_of(options, info);
  const auto sign = [&](ByteView message) {
    const Bytes signature = keys.sign_message(info.kid, algorithm, message);
    return ec_field_size(info.algorithm) > 0 ? openssl::ecdsa_der(signature) : signature;
  };
  const Bytes der = pki::make_request(info.spki, {options.subject, options.alternative_names},
                                      {openssl::algorithm_identifier(algorithm), sign});
  const std::string pem = pki::request_pem(der);
  if (!session.globals.json || options.output != "-") write_output(options.output, as_bytes(pem));
  if (session.globals.json)
    session.tell({{"name", info.name},
                  {"kid", info.kid.text()},
                  {"algorithm", name_of(algorithm)},
                  {"pem", pem}},
                 {});
}

}  // namespace

void add_key_pki_commands(CLI::App& key, Session& session) {
  auto reference = std::make_shared<PkiOptions>();
  auto* reference_command =
      add_command(key, "reference",
                  "write a PEM file that refers to the key, for programs that expect a key file",
                  "  keyagent key reference web -o /etc/nginx/web.key",
                  [&session, reference] { run_reference(session, *reference); });
  reference_command->add_option("KEY", reference->key, "name or kid")->required();
  reference_command->add_option("-o,--output", reference->output,
                                "output file; - is standard output");

  auto csr = std::make_shared<PkiOptions>();
  auto* csr_command = add_command(
      key, "csr", "create a certification request (PKCS#10), signed by the key in its token",
      "  keyagent key csr web --subject /C=DE/O=Example/CN=www.example.org --san "
      "DNS:www.example.org -o web.csr",
      [&session, csr] { run_csr(session, *csr); });
  csr_command->add_option("KEY", csr->key, "name or kid of an auth or sign key")->required();
  csr_command
      ->add_option("--subject", csr->subject,
                   "/C=…/ST=…/L=…/O=…/OU=…/CN=…/emailAddress=…, any of them; /UID=…+CN=… joins "
                   "two; optional if --san is given")
      ->expected(0, 1);  // --subject= is the empty one
  csr_command->add_option("--san", csr->alternative_names,
                          "DNS:name, IP:address, email:address or URI:uri; repeatable");
  csr_command->add_option("--algorithm", csr->algorithm,
                          "signature algorithm (RSA: default RS256)");
  csr_command->add_option("-o,--output", csr->output, "output file; - is standard output");
}

}  // namespace keyagent::cli
