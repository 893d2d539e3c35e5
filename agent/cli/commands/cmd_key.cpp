// SPDX-License-Identifier: Apache-2.0
// keyagent key create | list | show | public | destroy

#include <unistd.h>

#include <algorithm>
#include <iostream>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/cli/cli.h"
#include "agent/cli/files.h"
#include "agent/cli/table.h"
#include "agent/client/remote_keys.h"
#include "agent/envelope/envelope.h"
#include "agent/sshagent/ssh_key.h"

namespace keyagent::cli {
namespace {

// With a space at its end, however long it is.
std::string pad(std::string text, std::size_t width) {
  text.resize(std::max(text.size() + 1, width), ' ');
  return text;
}

std::string key_lines(const wire::Key& key) {
  return key.name() + "\n  kid        " + key.kid() + "\n  purpose    " + key.purpose() +
         "\n  algorithm  " + key.algorithm() +
         (key.envelope().empty() ? "" : ", sealed to by " + key.envelope()) + "\n  state      " +
         shown_state(key) +
         (key.usable()            ? ""
          : key.finding().empty() ? ""
                                  : " (NOT USABLE: " + key.finding() + ")") +
         "\n  created    " + key.created() + ", generation " + std::to_string(key.generation()) +
         (key.origin().empty() ? "" : "\n  origin     " + key.origin()) +
         (key.exchangeable()
              ? "\n"
                "  exchange   may leave the token wrapped for targets that the policy names"
              : "") +
         (key.accepts_cbc()
              ? "\n"
                "  content    ACCEPTS AES-CBC, which is not authenticated, and nothing else"
              : "") +
         (life_text(key).empty() ? "" : "\n  life       " + life_text(key)) +
         (key.used().empty() ? "" : "\n  last used  " + key.used()) +
         (certificate_text(key).empty() ? "" : "\n  " + certificate_text(key)) +
         (key.sealed() == 0 ? "" : "\n  sealed     " + std::to_string(key.sealed()) + " data") +
         "\n  CKA_ID     " + key.cka_id() + "\n";
}

void run_create(Session& session, const wire::KeyCreateRequest& wanted) {
  if (wanted.algorithm().rfind("rsa", 0) == 0 ||
      (wanted.algorithm().empty() && wanted.purpose() == "transport")) {
    session.note("Generating an RSA key in the token; this may take some seconds …");
  }
  wire::Request request;
  *request.mutable_key_create() = wanted;
  const auto response = session.call(request);
  const auto& reply = response.key_create();
  Json out = key_json(reply.key());
  out["created"] = reply.created();
  session.tell(out, (reply.created() ? "created " : "already exists: ") + key_lines(reply.key()));
}

void run_list(Session& session, bool all) {
  wire::Request request;
  request.mutable_key_list()->set_all(all);
  const auto response = session.call(request);
  Json out = Json::array();
  Table table({"NAME", "PURPOSE", "ALGORITHM", "STATE", "KID", "CONTENT"});
  for (const auto& key : response.key_list().keys()) {
    out.push_back(key_json(key));
    const bool fine = key.usable() || key.state() == "destroyed";
    table.add({key.name(), key.purpose(), key.algorithm(),
               fine ? key.state() : shown_state(key) + " (!)", key.kid(),
               key.accepts_cbc() ? "accepts AES-CBC" : ""});
  }
  session.tell(
      {{"keys", out}},
      table.text_or("No visible keys; create one with: keyagent key create NAME --purpose sign"));
}

void run_show(Session& session, const std::string& which, bool prove) {
  wire::Request request;
  request.mutable_key_show()->set_key(which);
  request.mutable_key_show()->set_prove(prove);
  const auto response = session.call(request);
  const auto& reply = response.key_show();
  Json out = key_json(reply.key());
  std::string text = key_lines(reply.key());
  Json history = Json::array();
  if (!reply.history().empty()) text += "  History:\n";
  for (const auto& each : reply.history()) {
    history.push_back({{"before", each.before()},
                       {"after", each.after()},
                       {"at", each.at()},
                       {"actor", each.actor()},
                       {"reason", each.reason()}});
    text += "    " + each.at() + "  " + pad(each.after(), 12) + each.reason() + ", by " +
            each.actor() + "\n";
  }
  out["history"] = history;
  if (!reply.custody().empty()) {
    Json facts = Json::object();
    text += "  In the token, checked now:\n";
    for (const auto& fact : reply.custody()) {
      facts[fact.name()] = {{"value", fact.value()}, {"good", fact.good()}};
      text += std::string("    ") + (fact.good() ? "ok " : "BAD") + " " + pad(fact.name(), 28) +
              fact.value() + "\n";
    }
    out["custody"] = facts;
    out["holds"] = reply.holds();
    text += reply.holds() && reply.key().exchangeable()
                ? "  The key leaves the token only wrapped and cannot be read.\n"
            : reply.holds() ? "  The key cannot leave the token.\n"
                            : "  THE TOKEN DOES NOT HOLD THIS KEY: see BAD above.\n";
    if (!reply.holds()) session.exit_status = exit_code(Code::kIntegrity);
  }
  session.tell(out, text);
}

std::string to_pem(const Bytes& spki) {
  return "-----BEGIN PUBLIC KEY-----\n" + to_base64(spki, 64) + "-----END PUBLIC KEY-----\n";
}

void run_public(Session& session, const std::string& which, const std::string& format,
                const std::string& output) {
  const auto info = client::RemoteKeys(session.agent()).find(which);
  if (info.spki.empty())
    throw Error(Code::kUsage, "key " + info.name + " is a secret key: it has no public part");
  const std::string pem = to_pem(info.spki);
  const Json jwk = info.accepts_cbc ? Json() : Json::parse(envelope::to_jwk(info));
  const std::string text = format == "jwk"   ? envelope::to_jwk(info) + "\n"
                           : format == "ssh" ? sshagent::authorized_key(info.spki, info.name) + "\n"
                                             : pem;
  if (!session.globals.json || output != "-")
    write_output(output, format == "der" ? ByteView(info.spki) : as_bytes(text));
  if (!session.globals.json) return;
  session.tell({{"kid", info.kid.text()},
                {"name", info.name},
                {"jwk", jwk},
                {"pem", pem},
                {"ssh", sshagent::authorized_key(info.spki, info.name)}},
               {});
}

void run_destroy(Session& session, const std::string& which, bool yes, const std::string& reason) {
  wire::Request show;
  show.mutable_key_show()->set_key(which);
  const auto shown = session.call(show);
  const std::string kid = shown.key_show().key().kid();
  if (!yes)
    confirm_by_kid(shown.key_show().key(), "destroy",
                   "This destroys key " + shown.key_show().key().name() +
                       " in the token permanently. Data sealed to it can no longer be opened.");
  wire::Request request;
  request.mutable_key_destroy()->set_key(kid);
  request.mutable_key_destroy()->set_confirm_kid(kid);
  request.mutable_key_destroy()->set_reason(reason);
  const auto response = session.call(request);
  session.tell(key_json(response.key_destroy().key()),
               "destroyed " + kid + "; verified: the token no longer holds it");
}

}  // namespace

void confirm_by_kid(const wire::Key& key, const std::string& verb, const std::string& warning) {
  if (::isatty(STDIN_FILENO) == 0)
    throw Error(Code::kConfirm, verb + "ing a key cannot be undone: confirm with --yes", key.kid());
  std::cerr << warning << "\nType its kid to confirm (" << key.kid() << "): ";
  std::string typed;
  std::getline(std::cin, typed);
  if (typed != key.kid())
    throw Error(Code::kConfirm, "the kid does not match; nothing was " + verb + "ed", key.kid());
}

void add_key_commands(CLI::App& app, Session& session) {
  CLI::App* key = app.add_subcommand("key", "create, list and destroy keys");
  key->require_subcommand(1);
  key->footer(
      "Examples:\n  keyagent key create backup-credentials --purpose transport\n  keyagent key "
      "list");

  auto wanted = std::make_shared<wire::KeyCreateRequest>();
  auto* create =
      add_command(*key, "create", "create a key in the token; reports an existing key of this name",
                  "  keyagent key create backup-credentials --purpose transport\n"
                  "  keyagent key create releases --purpose sign --algorithm ed25519",
                  [&session, wanted] { run_create(session, *wanted); });
  create
      ->add_option_function<std::string>(
          "NAME", [wanted](const std::string& v) { wanted->set_name(v); }, "a-z 0-9 . _ -")
      ->required();
  create
      ->add_option_function<std::string>(
          "--purpose", [wanted](const std::string& v) { wanted->set_purpose(v); },
          "the one purpose of the key: transport, sign, auth, storage, exchange, audit, identity, "
          "ca, confirm")
      ->required();
  create->add_option_function<std::string>(
      "--algorithm", [wanted](const std::string& v) { wanted->set_algorithm(v); },
      "rsa-2048, rsa-3072, rsa-4096, ec-p256, ec-p384, ed25519, aes-256 (default: by purpose)");
  create->add_option_function<std::string>(
      "--envelope", [wanted](const std::string& v) { wanted->set_envelope(v); },
      "how senders seal to it: RSA-OAEP, RSA-OAEP-256, ECDH-ES, ECDH-ES+A256KW, A256GCMKW");

  create->add_flag_callback(
      "--exchangeable", [wanted] { wanted->set_exchangeable(true); },
      "a storage key that may leave the token wrapped for targets that the policy names");

  create->add_flag_callback(
      "--accept-cbc", [wanted] { wanted->set_accepts_cbc(true); },
      "a transport key that opens CMS with AES-CBC content and nothing else: changes of such a "
      "message cannot be detected (see keyagent(1))");

  auto all = std::make_shared<bool>(false);
  auto* list = add_command(*key, "list", "list the keys that the policy lets you see",
                           "  keyagent key list\n  keyagent --json key list --all",
                           [&session, all] { run_list(session, *all); });
  list->add_flag("--all", *all, "include destroyed keys");

  struct Show {
    std::string key;
    bool prove = false;
  };
  auto show = std::make_shared<Show>();
  auto* show_command = add_command(
      *key, "show", "show one key; with --prove (action prove), try to extract it from the token",
      "  keyagent key show backup-credentials\n  keyagent key show backup-credentials --prove",
      [&session, show] { run_show(session, show->key, show->prove); });
  show_command->add_option("KEY", show->key, "name or kid")->required();
  show_command->add_flag("--prove", show->prove,
                         "read its attributes and try to read, wrap and copy it out of the token");

  struct Public {
    std::string key, format = "pem", output = "-";
  };
  auto pub = std::make_shared<Public>();
  auto* public_command =
      add_command(*key, "public", "print the public key, to seal to it or verify with it",
                  "  keyagent key public releases > releases.pem\n  keyagent key public "
                  "backup-credentials --format jwk",
                  [&session, pub] { run_public(session, pub->key, pub->format, pub->output); });
  public_command->add_option("KEY", pub->key, "name or kid")->required();
  public_command
      ->add_option("--format", pub->format, "pem, der, jwk, or ssh (a line of authorized_keys)")
      ->check(CLI::IsMember({"pem", "der", "jwk", "ssh"}));
  public_command->add_option("-o,--output", pub->output, "output file; - is standard output");

  add_key_pki_commands(*key, session);
  add_key_certificate_commands(*key, session);
  add_key_state_commands(*key, session);
  add_key_exchange_commands(*key, session);

  struct Destroy {
    std::string key, reason;
    bool yes = false;
  };
  auto destroy = std::make_shared<Destroy>();
  auto* destroy_command = add_command(
      *key, "destroy", "permanently destroy a key",
      "  keyagent key destroy old-key\n  keyagent key destroy old-key --yes --reason 'host "
      "retired'",
      [&session, destroy] { run_destroy(session, destroy->key, destroy->yes, destroy->reason); });
  destroy_command->add_option("KEY", destroy->key, "name or kid")->required();
  destroy_command->add_flag("--yes", destroy->yes, "skip the confirmation by kid");
  destroy_command->add_option("--reason", destroy->reason,
                              "reason for the ledger and the audit log");
}

}  // namespace keyagent::cli
