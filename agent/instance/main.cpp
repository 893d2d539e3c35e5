// SPDX-License-Identifier: Apache-2.0
// keyinstanced: the instance that agents enroll with.

#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>

#include "agent/base/disk.h"
#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/base/error_line.h"
#include "agent/base/log.h"
#include "agent/base/secret_text.h"
#include "agent/instance/ca/authority.h"
#include "agent/instance/ca/named_keys.h"
#include "agent/instance/common/users.h"
#include "agent/instance/exchange/clone.h"
#include "agent/instance/instance.h"
#include "agent/process/hardening.h"
#include "agent/store/agents.h"
#include "agent/store/enrollments.h"

namespace {

using namespace keyagent;

constexpr const char* kFooter =
    "Examples:\n"
    "  keyinstanced --config /etc/keyinstanced.yml check\n"
    "  keyinstanced --config /etc/keyinstanced.yml user alice --role admin --password-file "
    "alice.pw\n"
    "  keyinstanced --config /etc/keyinstanced.yml         run, as the systemd unit does\n"
    "\n"
    "Its keys are in the token of this host's keyagentd. Manual: keyinstanced(8).";

struct Arguments {
  std::string config, user, role, password_file, spki_sha256, backup, request = "-";
  bool allow_root = false, disable = false, enable = false;
  instance::CloneOptions clone;
};

// What users and agents pin: of the CA's key, and not the kid of that key.
void tell_fingerprint(ByteView ca_spki) {
  std::cout << "fingerprint: " << to_base64url(sha256(ca_spki))
            << " (for keyagent instance login --fingerprint, keyagent enroll --instance)\n";
}

void check(const Arguments& arguments) {
  const auto config = instance::load_config(arguments.config);
  store::Store store({config.store_url});
  std::cout << "configuration: instance " << config.id << "\n"
            << "store: " << store.describe() << "\n"
            << "agents: "
            << store.agents().all().size() +
                   store.enrollments().pending({}, system_clock().now()).size()
            << "\n";
  instance::HostKeys keys(config);
  if (config.outside) {
    instance::ExternalCa outside(*config.outside, store, system_clock());
    const auto chain =
        outside.server_chain(config.tls_key, keys.find(config.tls_key).spki, config.hosts.front());
    std::cout << "external CA: " << pki::certificate_facts(outside.root()).subject
              << "\ncertificate: until " << pki::certificate_facts(chain.front()).valid_until
              << "\n";
    outside.crl();
    tell_fingerprint(pki::certificate_facts(outside.root()).spki);
  }
  instance::require_named_keys(config, keys, store);
  for (const auto& name : {config.ca_key, config.tls_key, config.confirmation_key}) {
    if (config.outside && name == config.ca_key) continue;
    try {
      const auto key = keys.find(name);
      std::cout << "key " << name << ": " << key.kid.text() << "\n";
      if (name == config.ca_key) tell_fingerprint(key.spki);
    } catch (const Error& error) {
      if (error.code() == Code::kPeer) throw;
      std::cout << "key " << name << ": missing, created at the start (" << error.what() << ")\n";
    }
  }
}

// What an external CA certifies the instance's TLS key with.
void make_request(const Arguments& arguments) {
  const auto config = instance::load_config(arguments.config);
  instance::HostKeys keys(config);
  keys.create_missing();
  const Bytes der = keys.tls_request(instance::server_names(config));
  const auto pem = pki::request_pem(der);
  if (arguments.request == "-")
    std::cout << pem;
  else
    replace_file(arguments.request, as_bytes(pem), 0644);
}

SecretBytes read_password(const std::string& file) {
  if (file.empty()) return {};
  return read_secret_text(file, "the password");
}

void put_user(const Arguments& arguments) {
  const auto config = instance::load_config(arguments.config);
  store::Store store({config.store_url});
  instance::Recorder recorder(store, system_clock());
  instance::Users people(store, recorder, system_clock(),
                         {config.session_life, config.session_idle});
  instance::UserEdit edit;
  edit.password = read_password(arguments.password_file);
  if (!arguments.role.empty()) edit.role = arguments.role;
  if (!arguments.spki_sha256.empty())
    edit.spki_sha256 = arguments.spki_sha256 == "none" ? std::string() : arguments.spki_sha256;
  if (arguments.disable || arguments.enable) edit.disabled = arguments.disable;
  people.put(arguments.user, edit, "uid " + std::to_string(::geteuid()));
}

void put_clone(const Arguments& arguments) {
  const auto config = instance::load_config(arguments.config);
  const auto& wish = arguments.clone;
  const auto done = instance::clone(config, wish, system_clock());
  if (done.before)
    std::cout << "copied: nothing, the data of this source already exists here\n";
  else
    std::cout << "copied: specifications " << done.counts.specifications << ", records "
              << done.counts.records << " (credentials " << done.counts.credentials << "), users "
              << done.counts.users << "\n";
  std::cout << "identity: " << done.identity << "\n";
  if (done.request.empty()) {
    std::cout << "request: none, no record needs a key\n";
    return;
  }
  std::string options;
  for (const auto& each : done.specifications) options += " --specification " + each;
  std::cout << "request: " << done.request << ", sent when keyinstanced runs\n"
            << "\nAt " << wish.peer << ", to release the keys:\n"
            << "  keyagent instance peer add " << config.id << " --identity=" << done.identity
            << "\n  keyagent instance peer automatic " << config.id << " --frequency "
            << wish.frequency << options
            << "\n"
               "or, instead of the latter, when the request has arrived: keyagent instance "
               "exchange approve "
            << done.request
            << "\n"
               "Only exchangeable keys can be exported (specification create --exchangeable; "
               "credentials.exchangeable in\n"
               "keyinstanced.yml). `keyagent instance exchange show` lists the keys that were not: "
               "store those values again here.\n"
            << "\n"
               "The policy of its agent must allow the export of data.* to this identity; the "
               "agent here, the import from\n"
            << wish.identity << " (`peers` of a rule: keyagent(1)).\n";
}

int serve(const Arguments& arguments) {
  auto config = instance::load_config(arguments.config);
  configure_log(config.log_level, config.log_format);
  if (::geteuid() == 0 && !arguments.allow_root)
    throw Error(Code::kConfiguration,
                "keyinstanced does not run as root: use the keyinstanced systemd unit or another "
                "user (or --allow-root, in a dedicated container)");
  // Before any thread: all of them leave these to run().
  sigset_t signals;
  ::sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT}) ::sigaddset(&signals, signal);
  ::sigprocmask(SIG_BLOCK, &signals, nullptr);
  instance::Instance served(std::move(config));
  return served.run();
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("keyinstanced: manages agents: trust, sealed credentials, rekeys");
  app.footer(kFooter);
  app.set_version_flag("--version", std::string("keyinstanced ") + KEYAGENT_VERSION);
  app.add_option("--config", arguments.config, "configuration file (YAML)")->required();
  app.add_flag("--allow-root", arguments.allow_root, "run although the user is root");
  auto* check_command = app.add_subcommand("check", "check configuration, store and keys");
  auto* user = app.add_subcommand(
      "user",
      "add or change a user, on the instance's host; a change ends all of the user's sessions");
  user->add_option("NAME", arguments.user)->required();
  user->add_option("--role", arguments.role,
                   "admin, cryptographic-manager, operator or auditor; required for a new user");
  user->add_option("--password-file", arguments.password_file,
                   "password file: at least 12 characters, mode 0400");
  user->add_option(
      "--certificate-key", arguments.spki_sha256,
      "SHA-256 of the public key of a client certificate (base64url); none removes it");
  auto* disable = user->add_flag("--disable", arguments.disable, "disable the user");
  user->add_flag("--enable", arguments.enable, "enable a disabled user")->excludes(disable);
  auto* request = app.add_subcommand(
      "request", "write a certification request of the TLS key, for an external CA (ca.outside)");
  request->add_option("-o,--output", arguments.request, "output file; - is standard output");
  auto* backup = app.add_subcommand("backup", "copy the store (SQLite) while it is in use");
  backup->add_option("FILE", arguments.backup, "new file")->required();
  auto* clone = app.add_subcommand(
      "clone", "copy the data of another instance into an empty store, and request its keys");
  clone->footer(
      "Example:\n"
      "  keyinstanced --config /etc/keyinstanced.yml clone sqlite:///srv/berlin.db --peer berlin "
      "\\\n"
      "    --identity=KID --url https://keys.berlin.example.org:8443 --ca=FINGERPRINT\n"
      "\n"
      "KID and FINGERPRINT are printed by `keyagent instance exchange identity` at the source.");
  auto& wish = arguments.clone;
  clone
      ->add_option("STORE", wish.store,
                   "store of the source: sqlite:///FILE or postgresql://…; read only")
      ->required();
  clone->add_option("--peer", wish.peer, "name of the source at this instance")->required();
  clone->add_option("--identity", wish.identity, "kid of the source's identity")->required();
  clone->add_option("--url", wish.url, "https://NAME:PORT of its listen.api")->required();
  clone->add_option("--ca", wish.ca, "fingerprint of its CA")->required();
  clone->add_option("--frequency", wish.frequency, "one-time-clone or recurring-clone")
      ->check(CLI::IsMember({"one-time-clone", "recurring-clone"}))
      ->capture_default_str();
  clone->add_flag("--rekey", wish.rekey, "re-encrypt the data under new keys after the import");
  clone->add_flag("--with-users", wish.users, "also copy users, roles and password hashes");
  try {
    process::harden_process(argv, environ);
    app.parse(argc, argv);
    if (check_command->parsed()) return check(arguments), 0;
    if (user->parsed()) return put_user(arguments), 0;
    if (request->parsed()) return make_request(arguments), 0;
    if (clone->parsed()) return put_clone(arguments), 0;
    if (backup->parsed()) {
      store::Store({instance::load_config(arguments.config).store_url}).backup(arguments.backup);
      return 0;
    }
    return serve(arguments);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  } catch (const Error& error) {
    std::fprintf(stderr, "keyinstanced: %s\n",
                 error_line(code_name(error.code()), error.what()).c_str());
    return exit_code(error.code());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "keyinstanced: %s\n", error.what());
    return 4;
  }
}
