// SPDX-License-Identifier: Apache-2.0
// keyagent seal | open

#include <unistd.h>

#include "agent/base/error.h"
#include "agent/cli/cli.h"
#include "agent/cli/commands/public_file.h"
#include "agent/cli/files.h"
#include "agent/client/remote_keys.h"
#include "agent/envelope/envelope.h"
#include "agent/wire/messages.h"

namespace keyagent::cli {
namespace {

struct EnvelopeOptions {
  std::string file = "-", output = "-", key, public_file, format = "jwe", encryption = "A256GCM";
  std::string credential, agent, instance;  // what the envelope is bound to
  std::uint64_t version = 1;
};

// The instance that the agent of this host is enrolled at, where none is named.
std::string instance_of(Session& session, const EnvelopeOptions& options) {
  if (!options.instance.empty()) return options.instance;
  wire::Request request;
  request.mutable_link_status();
  const auto response = session.call(request);
  if (response.link_status().link().instance().empty())
    throw Error(Code::kUsage, "the agent is not enrolled; name the instance: --instance ID");
  return response.link_status().link().instance();
}

std::optional<envelope::Binding> binding_of(Session& session, const EnvelopeOptions& options) {
  if (options.credential.empty() != options.agent.empty())
    throw Error(Code::kUsage, "--credential and --agent must be given together");
  if (options.credential.empty()) return std::nullopt;
  if (options.format != "jwe")
    throw Error(Code::kUsage, "CMS cannot carry a credential's context; seal credentials as JWE");
  return envelope::Binding{instance_of(session, options), options.credential, options.version,
                           options.agent};
}

Bytes seal_by_agent(Session& session, const EnvelopeOptions& options,
                    const SecretBytes& plaintext) {
  wire::Request request;
  auto& seal = *request.mutable_seal();
  seal.set_key(options.key);
  seal.set_plaintext(plaintext.data(), plaintext.size());
  seal.set_content_encryption(options.encryption);
  const auto response = session.call(request);
  wire::wipe(request);
  const auto bytes = as_bytes(response.seal().envelope());
  return Bytes(bytes.begin(), bytes.end());
}

// The public key does not contain the state of the key: query the agent.
PublicKeyInfo key_to_seal_to(Session& session, const std::string& name) {
  wire::Request request;
  request.mutable_key_show()->set_key(name);
  const auto response = session.call(request);
  const auto& key = response.key_show().key();
  if (key.expired()) {
    throw Error(Code::kKeyState,
                "key " + key.name() +
                    " cannot be sealed to: its cryptoperiod and grace period ended at " +
                    key.refused_from() + "; run: keyagent rekey " + key.name(),
                key.kid());
  }
  return client::RemoteKeys(session.agent()).find(key.kid());
}

void run_seal(Session& session, const EnvelopeOptions& options) {
  if (options.key.empty() == options.public_file.empty())
    throw Error(Code::kUsage,
                "no key given: use --key NAME for a key of the agent, or --public FILE");
  const auto info = options.public_file.empty()
                        ? key_to_seal_to(session, options.key)
                        : read_public_file(options.public_file, Purpose::kTransport);
  const auto plaintext = read_input(options.file, envelope::kMaxPlaintext);
  const auto encryption = options.encryption == "A128GCM" ? envelope::ContentEncryption::kA128Gcm
                                                          : envelope::ContentEncryption::kA256Gcm;
  const auto binding = binding_of(session, options);
  Bytes sealed;
  if (info.spki.empty()) {
    if (binding) throw Error(Code::kUsage, "credentials must be sealed to transport keys");
    if (options.format != "jwe") throw Error(Code::kUsage, "storage keys support format jwe only");
    sealed = seal_by_agent(session, options, plaintext);
  } else {
    sealed = options.format == "jwe" ? envelope::seal_jwe(info, encryption, plaintext, binding)
                                     : envelope::seal_cms(info, encryption, plaintext);
  }
  if (options.format == "jwe") sealed.push_back('\n');
  write_output(options.output, sealed);
}

void run_open(Session& session, const EnvelopeOptions& options) {
  const auto sealed = read_input(options.file, envelope::kMaxEnvelope);
  wire::Request request;
  request.mutable_open()->set_envelope(sealed.data(), sealed.size());
  request.mutable_open()->set_key(options.key);
  auto response = session.call(request);
  const auto plaintext = as_bytes(response.open().plaintext());
  if (options.output == "-" && ::isatty(STDOUT_FILENO) != 0)
    session.note("(opened with key " + response.open().name() + "; writing to this terminal)");
  write_output(options.output, plaintext);
  wire::wipe(response);
}

}  // namespace

void add_envelope_commands(CLI::App& app, Session& session) {
  auto seal = std::make_shared<EnvelopeOptions>();
  auto* seal_command = add_command(
      app, "seal", "seal a secret to a key, locally; only a storage key needs the agent",
      "  printf %s \"$SECRET\" | keyagent seal - --key backup-credentials -o backup.jwe\n"
      "  keyagent seal password.txt --public backup.pem --format cms -o backup.cms",
      [&session, seal] { run_seal(session, *seal); });
  seal_command->add_option("FILE", seal->file, "file with the secret; - is standard input")
      ->required();
  seal_command->add_option("--key", seal->key,
                           "name or kid of a transport or storage key of the agent");
  seal_command->add_option(
      "--public", seal->public_file,
      "file with a public key (JWK, PEM, DER or a certificate); needs no agent");
  seal_command->add_option("--format", seal->format, "jwe or cms")
      ->check(CLI::IsMember({"jwe", "cms"}));
  seal_command->add_option("--encryption", seal->encryption, "A256GCM or A128GCM")
      ->check(CLI::IsMember({"A256GCM", "A128GCM"}));
  seal_command->add_option("--credential", seal->credential,
                           "name of a credential of an instance: binds the envelope to it, so the "
                           "agent opens it for nothing else (JWE)");
  seal_command->add_option("--agent", seal->agent,
                           "with --credential: the agent's id at the instance");
  seal_command->add_option(
      "--instance", seal->instance,
      "with --credential: the instance's id (default: the instance of this host's agent)");
  seal_command
      ->add_option("--credential-version", seal->version,
                   "with --credential: the version to seal for (default: 1)")
      ->check(CLI::PositiveNumber);
  seal_command->add_option("-o,--output", seal->output, "output file; - is standard output");

  auto open = std::make_shared<EnvelopeOptions>();
  auto* open_command =
      add_command(app, "open", "open an envelope (JWE or CMS) with the key it was sealed to",
                  "  keyagent open backup.jwe | restic --password-file /dev/stdin …\n"
                  "  openssl cms -encrypt … | keyagent open - --key backup-credentials",
                  [&session, open] { run_open(session, *open); });
  open_command->add_option("FILE", open->file, "file with the envelope; - is standard input")
      ->required();
  open_command->add_option("--key", open->key,
                           "name or kid, for CMS that names its recipient by certificate");
  open_command->add_option("-o,--output", open->output, "output file (0600); - is standard output");
}

}  // namespace keyagent::cli
