// SPDX-License-Identifier: Apache-2.0
// keyagent key offer | export | import | ticket: transfers a storage key from one agent to another,
// or imports one, without an instance.

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/base/ids.h"
#include "agent/base/strict_json.h"
#include "agent/cli/cli.h"
#include "agent/cli/commands/public_file.h"
#include "agent/cli/files.h"

namespace keyagent::cli {
namespace {

constexpr std::size_t kLargestOffer = 16 * 1024;
constexpr const char* kPrefix = "data.";

struct KeyExchangeOptions {
  std::string key, request, specification, source, target, package, brought, output = "-";
  std::string exchange_key = "exchange", identity = "exchange-identity";
};

std::string text_of(const std::string& bytes) {
  return to_base64url(as_bytes(bytes));
}

void run_offer(Session& session, const KeyExchangeOptions& options) {
  wire::Request request;
  request.mutable_exchange_offer()->set_exchange_key(options.exchange_key);
  request.mutable_exchange_offer()->set_identity(options.identity);
  const auto response = session.call(request);
  const auto& reply = response.exchange_offer();
  const Json offer{{"target", jwk_thumbprint(as_bytes(reply.target_spki()))},
                   {"identity", text_of(reply.target_spki())},
                   {"exchange", text_of(reply.exchange_spki())},
                   {"proof", reply.proof()}};
  write_output(options.output, as_bytes(offer.dump(2) + "\n"));
  session.note("The other side pins " + offer["target"].get<std::string>());
}

std::string member(const nlohmann::json& offer, const char* name, bool decode) {
  const auto it = offer.find(name);
  if (it == offer.end() || !it->is_string())
    throw Error(Code::kUsage, std::string("the offer has no \"") + name + "\"");
  const auto text = it->get<std::string>();
  if (!decode) return text;
  const auto bytes = from_base64url(text);
  if (!bytes) throw Error(Code::kUsage, std::string("the offer's \"") + name + "\" is damaged");
  return {bytes->begin(), bytes->end()};
}

void run_export(Session& session, const KeyExchangeOptions& options) {
  const auto file = read_input(options.target, kLargestOffer);
  const auto offer = parse_strict_object(as_text(file), {kLargestOffer, 2});
  if (!offer)
    throw Error(Code::kUsage,
                options.target + " is not an offer; create one with: keyagent key offer");
  wire::Request request;
  auto& order = *request.mutable_exchange_export();
  order.set_key(options.key.empty() ? kPrefix + options.specification : options.key);
  order.set_request(options.request);
  order.set_specification(options.specification);
  order.set_identity(options.identity);
  order.set_target(member(*offer, "target", false));
  order.set_target_spki(member(*offer, "identity", true));
  order.set_exchange_spki(member(*offer, "exchange", true));
  order.set_proof(member(*offer, "proof", false));
  const auto response = session.call(request);
  const auto& reply = response.exchange_export();
  write_output(options.output, as_bytes(reply.package() + "\n"));
  session.note("Key " + reply.kid() + ", wrapped for " + order.target());
}

void run_import(Session& session, const KeyExchangeOptions& options) {
  const auto file = read_input(options.package, kLargestOffer);
  std::string package(as_text(file));
  while (!package.empty() && (package.back() == '\n' || package.back() == '\r')) package.pop_back();
  const auto source = read_public_file(options.source, Purpose::kSign);
  wire::Request request;
  auto& order = *request.mutable_exchange_import();
  order.set_package(package);
  order.set_request(options.request);
  order.set_specification(options.specification);
  order.set_source_spki(source.spki.data(), source.spki.size());
  order.set_exchange_key(options.exchange_key);
  order.set_name(kPrefix + options.specification);
  const auto response = session.call(request);
  const auto& reply = response.exchange_import();
  Json out = key_json(reply.key());
  out["imported"] = reply.imported();
  session.tell(out, (reply.imported() ? "imported " : "already exists: ") + reply.key().kid() +
                        " as generation " + std::to_string(reply.key().generation()) + " of " +
                        reply.key().name() + ": it opens, but does not seal");
}

void run_ticket(Session& session, const KeyExchangeOptions& options) {
  session.note("Generating an RSA key in the token; this may take some seconds …");
  wire::Request request;
  request.mutable_import_ticket()->set_name(options.key);
  const auto response = session.call(request);
  const auto& reply = response.import_ticket();
  const std::string pem = "-----BEGIN PUBLIC KEY-----\n" +
                          to_base64(as_bytes(reply.key().spki()), 64) +
                          "-----END PUBLIC KEY-----\n";
  if (!session.globals.json || options.output != "-") write_output(options.output, as_bytes(pem));
  session.note("Wrap the key for it with RSAES-OAEP, " + reply.hash() + "; usable once, until " +
               reply.expires());
  if (!session.globals.json) return;
  session.tell({{"kid", reply.key().kid()},
                {"name", options.key},
                {"expires", reply.expires()},
                {"hash", reply.hash()},
                {"pem", pem}},
               {});
}

void run_bring(Session& session, const KeyExchangeOptions& options) {
  const auto file = read_input(options.package, kLargestOffer);
  wire::Request request;
  request.mutable_import_outside()->set_name(options.brought);
  request.mutable_import_outside()->set_wrapped(file.data(), file.size());
  const auto response = session.call(request);
  const auto& key = response.import_outside().key();
  session.tell(key_json(key), "brought in " + key.kid() + " as " + key.name() + ", " + key.state());
}

// One of two ways, each with what it needs.
void run_either(Session& session, const KeyExchangeOptions& options) {
  if (!options.brought.empty()) return run_bring(session, options);
  if (options.source.empty() || options.request.empty() || options.specification.empty())
    throw Error(
        Code::kUsage,
        "missing options: give --from, --request and --specification, or --from-outside NAME");
  run_import(session, options);
}

void add_binding(CLI::App& command, KeyExchangeOptions& options, bool required) {
  command.add_option("--request", options.request, "the id that both sides know it by")
      ->required(required);
  command
      .add_option("--specification", options.specification,
                  "the kind of data; its keys are named data.SPECIFICATION")
      ->required(required);
}

}  // namespace

void add_key_exchange_commands(CLI::App& key, Session& session) {
  auto offer = std::make_shared<KeyExchangeOptions>();
  auto* offer_command = add_command(
      key, "offer", "at the target: offer the key that sources wrap their keys for",
      "  keyagent key offer -o offer.json", [&session, offer] { run_offer(session, *offer); });
  offer_command->add_option("--exchange-key", offer->exchange_key, "an RSA exchange key");
  offer_command->add_option("--identity", offer->identity, "the identity key that attests it");
  offer_command->add_option("-o,--output", offer->output, "output file; - is standard output");

  auto out = std::make_shared<KeyExchangeOptions>();
  auto* export_command = add_command(
      key, "export",
      "at the source: export an exchangeable storage key, wrapped for a pinned target",
      "  keyagent key export --to offer.json --request 2026-1 --specification customers -o package",
      [&session, out] { run_export(session, *out); });
  export_command->add_option("KEY", out->key, "kid of a generation other than the active one");
  export_command->add_option("--to", out->target, "the target's offer")->required();
  add_binding(*export_command, *out, true);
  export_command->add_option("--identity", out->identity, "identity key of this side");
  export_command->add_option("-o,--output", out->output, "output file; - is standard output");

  auto in = std::make_shared<KeyExchangeOptions>();
  auto* import_command = add_command(
      key, "import", "at the target: import an exported key; repeating it changes nothing",
      "  keyagent key import package --from source.pem --request 2026-1 --specification customers\n"
      "  keyagent key import wrapped --from-outside data.customers",
      [&session, in] { run_either(session, *in); });
  import_command->add_option("PACKAGE", in->package, "package file; - is standard input")
      ->required();
  auto* from = import_command->add_option("--from", in->source,
                                          "public key of the source's identity, PEM or JWK");
  add_binding(*import_command, *in, false);
  import_command
      ->add_option("--from-outside", in->brought,
                   "import your own key, wrapped for the ticket of this name")
      ->excludes(from);
  import_command->add_option("--exchange-key", in->exchange_key,
                             "the exchange key that was offered");

  auto ticket = std::make_shared<KeyExchangeOptions>();
  auto* ticket_command =
      add_command(key, "ticket", "print a one-time public key to wrap your own key for",
                  "  keyagent key ticket data.customers -o ticket.pem\n"
                  "  openssl pkeyutl -encrypt -pubin -inkey ticket.pem -in key -out wrapped "
                  "-pkeyopt rsa_padding_mode:oaep\n"
                  "  keyagent key import wrapped --from-outside data.customers",
                  [&session, ticket] { run_ticket(session, *ticket); });
  ticket_command->add_option("NAME", ticket->key, "name of the storage key to create")->required();
  ticket_command->add_option("-o,--output", ticket->output, "output file; - is standard output");
}

}  // namespace keyagent::cli
