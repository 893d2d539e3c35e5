// SPDX-License-Identifier: Apache-2.0
// keyagent key certificate install | show | remove

#include "agent/base/error.h"
#include "agent/cli/cli.h"
#include "agent/cli/files.h"
#include "agent/pki/certificate_file.h"

namespace keyagent::cli {
namespace {

struct CertificateOptions {
  std::string key, file, authorities, host, format = "text", output = "-";
};

std::string joined(const google::protobuf::RepeatedPtrField<std::string>& words) {
  std::string out;
  for (const auto& word : words) out += (out.empty() ? "" : ", ") + word;
  return out;
}

std::string pem_of(const wire::CertificateReply& reply) {
  std::string pem;
  for (const auto& each : reply.chain()) pem += pki::certificate_pem(as_bytes(each.der()));
  return pem;
}

Json json_of(const wire::CertificateReply& reply) {
  Json chain = Json::array();
  for (const auto& each : reply.chain()) {
    chain.push_back({{"subject", each.subject()},
                     {"issuer", each.issuer()},
                     {"serial", each.serial()},
                     {"not_before", each.not_before()},
                     {"not_after", each.not_after()},
                     {"names", Json(std::vector(each.names().begin(), each.names().end()))},
                     {"uses", Json(std::vector(each.uses().begin(), each.uses().end()))}});
  }
  return {{"name", reply.key().name()},
          {"kid", reply.key().kid()},
          {"installed", reply.installed()},
          {"actor", reply.actor()},
          {"finding", reply.key().certificate_finding()},
          {"chain", chain},
          {"pem", pem_of(reply)}};
}

std::string text_of(const wire::CertificateReply& reply) {
  const auto& leaf = reply.chain(0);
  std::string text = "\n  subject    " + leaf.subject() + "\n  issuer     " + leaf.issuer() +
                     "\n  serial     " + leaf.serial() + "\n  valid      " +
                     leaf.not_before().substr(0, 10) + " to " + leaf.not_after().substr(0, 10);
  if (!leaf.names().empty()) text += "\n  names      " + joined(leaf.names());
  if (!leaf.uses().empty()) text += "\n  uses       " + joined(leaf.uses());
  for (int i = 1; i < reply.chain_size(); ++i)
    text += "\n  above it   " + reply.chain(i).subject() + ", valid to " +
            reply.chain(i).not_after().substr(0, 10);
  text += "\n  kid        " + reply.key().kid();
  if (!reply.key().certificate_finding().empty())
    text += "\n  NOTE       " + reply.key().certificate_finding();
  return text;
}

// A trust bundle has more than a request can carry; the agent gets the part that could matter, in
// DER, and verifies it.
std::vector<Bytes> authorities_for(const std::string& bundle, ByteView file) {
  std::vector<Bytes> all;
  try {
    all = pki::read_authorities(read_input(bundle, pki::kMaxTrustBundle));
  } catch (const pki::ChainError& error) {
    throw pki::ChainError(error.fault(), bundle + ": " + error.what());
  }
  return pki::relevant_authorities(all, pki::read_certificates(file));
}

void run_install(Session& session, const CertificateOptions& options) {
  const auto file = read_input(options.file, pki::kMaxCertificateFile);
  wire::Request request;
  auto& install = *request.mutable_certificate_install();
  install.set_key(options.key);
  install.set_file(file.data(), file.size());
  install.set_host(options.host);
  if (!options.authorities.empty()) {
    for (const auto& each : authorities_for(options.authorities, file))
      install.mutable_authorities()->append(as_text(each));
  }
  const auto response = session.call(request);
  const auto& reply = response.certificate_install();
  for (const auto& note : reply.notes()) session.note("note: " + note);
  Json out = json_of(reply);
  out["changed"] = reply.changed();
  out["notes"] = Json(std::vector(reply.notes().begin(), reply.notes().end()));
  session.tell(out, (reply.changed() ? "installed for " : "already installed for ") +
                        reply.key().name() + text_of(reply));
}

void run_show(Session& session, const CertificateOptions& options) {
  wire::Request request;
  request.mutable_certificate_show()->set_key(options.key);
  const auto response = session.call(request);
  const auto& reply = response.certificate_show();
  if (reply.chain().empty()) {
    throw Error(Code::kKeyState,
                "key " + reply.key().name() +
                    " has no certificate; request one with keyagent key csr, install it with "
                    "keyagent key certificate install",
                reply.key().kid());
  }
  const std::string text = options.format == "pem" ? pem_of(reply)
                           : options.format == "json"
                               ? json_of(reply).dump(2, ' ', false) + "\n"
                               : "certificate of " + reply.key().name() + text_of(reply) + "\n";
  if (!session.globals.json || options.output != "-") write_output(options.output, as_bytes(text));
  if (session.globals.json) session.tell(json_of(reply), {});
}

void run_remove(Session& session, const CertificateOptions& options) {
  wire::Request request;
  request.mutable_certificate_remove()->set_key(options.key);
  const auto response = session.call(request);
  const auto& reply = response.certificate_remove();
  session.tell(
      {{"name", reply.key().name()}, {"kid", reply.key().kid()}, {"changed", reply.changed()}},
      reply.changed() ? "the certificate of " + reply.key().name() + " is removed"
                      : "key " + reply.key().name() + " has no certificate");
}

}  // namespace

std::string certificate_text(const wire::Key& key) {
  const std::string& until = key.certificate_until();
  const std::string& finding = key.certificate_finding();
  if (until.empty() && finding.empty()) return {};
  return (until.empty() ? "NO CERTIFICATE" : "certificate until " + until.substr(0, 10)) +
         (finding.empty() ? "" : " (" + finding + ")");
}

void add_key_certificate_commands(CLI::App& key, Session& session) {
  CLI::App* certificate = key.add_subcommand("certificate", "manage the certificate of a key");
  certificate->require_subcommand(1);
  certificate->footer("Examples:\n  keyagent key certificate install web web.pem --ca ca.pem");

  auto install = std::make_shared<CertificateOptions>();
  auto* install_command =
      add_command(*certificate, "install", "verify a certificate chain and store it with the key",
                  "  keyagent key certificate install web web.pem --ca ca.pem\n"
                  "  keyagent key certificate install web chain.p7b --host www.example.org",
                  [&session, install] { run_install(session, *install); });
  install_command->add_option("KEY", install->key, "name or kid")->required();
  install_command
      ->add_option("FILE", install->file, "PEM, DER or PKCS#7, in any order; - is standard input")
      ->required();
  install_command->add_option("--ca", install->authorities,
                              "require a chain to an authority in this file: roots, or a bundle "
                              "such as /etc/ssl/certs/ca-certificates.crt");
  install_command->add_option("--host", install->host,
                              "require a certificate for this DNS name or IP address");

  auto show = std::make_shared<CertificateOptions>();
  auto* show_command = add_command(
      *certificate, "show", "show the certificate chain, the key's own certificate first",
      "  keyagent key certificate show web\n"
      "  keyagent key certificate show web --format pem -o /etc/nginx/web.pem",
      [&session, show] { run_show(session, *show); });
  show_command->add_option("KEY", show->key, "name or kid")->required();
  show_command->add_option("--format", show->format, "text, pem or json")
      ->check(CLI::IsMember({"text", "pem", "json"}));
  show_command->add_option("-o,--output", show->output, "output file; - is standard output");

  auto remove = std::make_shared<CertificateOptions>();
  auto* remove_command =
      add_command(*certificate, "remove", "remove the certificate of a key; the key stays",
                  "  keyagent key certificate remove web",
                  [&session, remove] { run_remove(session, *remove); });
  remove_command->add_option("KEY", remove->key, "name or kid")->required();
}

}  // namespace keyagent::cli
