// SPDX-License-Identifier: Apache-2.0
// keyagent instance certificate: what an external CA has to certify, and what it certified.

#include "agent/base/error.h"
#include "agent/cli/files.h"
#include "agent/cli/instance/cmd_instance.h"
#include "agent/cli/table.h"
#include "agent/pki/certificate_file.h"

namespace keyagent::cli {
namespace {

void run_list(Session& session, const InstanceOptions& options) {
  const Json answer = client_of(options).call("GET", "/v1/certificates");
  Table table({"AGENT", "KID", "UNTIL"});
  for (const auto& each : answer.at("requests"))
    table.add({text_at(each, "agent"), text_at(each, "kid"), text_at(each, "until")});
  session.tell(answer, table.text_or("none\n"));
}

void run_request(Session& session, const InstanceOptions& options) {
  const Json answer = client_of(options).call("GET", "/v1/certificates");
  for (const auto& each : answer.at("requests")) {
    if (each.at("agent") != options.agent) continue;
    const auto csr = each.at("csr").get<std::string>();
    if (!session.globals.json || options.output != "-") write_output(options.output, as_bytes(csr));
    if (session.globals.json) session.tell(each, {});
    return;
  }
  throw Error(Code::kUsage, "no request of agent " + options.agent + " waits for a certificate");
}

void run_import(Session& session, const InstanceOptions& options) {
  // Sent as PEM: JSON cannot hold the bytes of DER.
  std::string pem;
  for (const auto& each :
       pki::read_certificates(read_input(options.from, pki::kMaxCertificateFile)))
    pem += pki::certificate_pem(each);
  const Json answer = client_of(options).call(
      "POST", "/v1/agents/" + path_segment(options.agent) + "/certificate", {{"certificate", pem}});
  session.tell(answer, options.agent + " has certificate " +
                           answer.at("serial").get<std::string>() + " until " +
                           answer.at("not_after").get<std::string>());
}

}  // namespace

void add_instance_certificate_commands(CLI::App& instance, Session& session,
                                       const std::shared_ptr<InstanceOptions>& options) {
  auto* group = instance.add_subcommand(
      "certificate", "certificates of an external CA: export requests, import certificates");
  group->require_subcommand(1);
  auto& o = *options;
  add_command(*group, "list", "list the requests that wait for a certificate",
              "  keyagent instance certificate list",
              [&session, options] { run_list(session, *options); });
  auto* request = add_command(*group, "request",
                              "export the certification request of an agent, to take to the CA",
                              "  keyagent instance certificate request web1 -o web1.csr",
                              [&session, options] { run_request(session, *options); });
  request->add_option("AGENT", o.agent, "id of the agent")->required();
  request->add_option("-o,--output", o.output, "output file; - is standard output");
  auto* import =
      add_command(*group, "import", "import the certificate that the CA issued for an agent",
                  "  keyagent instance certificate import web1 web1.pem",
                  [&session, options] { run_import(session, *options); });
  import->add_option("AGENT", o.agent, "id of the agent")->required();
  import->add_option("FILE", o.from, "PEM file, certificates in any order; - is standard input")
      ->required();
}

}  // namespace keyagent::cli
