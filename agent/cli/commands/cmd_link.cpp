// SPDX-License-Identifier: Apache-2.0
// keyagent enroll | leave | credential: this agent and its instance.

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "agent/base/error.h"
#include "agent/base/error_line.h"
#include "agent/base/secret_text.h"
#include "agent/cli/cli.h"
#include "agent/cli/files.h"
#include "agent/cli/poll_until_timeout.h"
#include "agent/cli/table.h"
#include "agent/wire/messages.h"

namespace keyagent::cli {
namespace {

using namespace std::chrono_literals;

// How long others may stand before us at the instance, and the agent may be away.
constexpr auto kPatience = 30s;
constexpr std::size_t kLongestToken = 1024;

struct Enrollment {
  std::string url, token, token_file, instance, agent, auth_key, transport_key;
  bool replace = false, wait = false;
  long timeout = 0;
};

// A secret is never an argument (RELIABILITY 123): it comes from a file, a pipe or a terminal.
SecretBytes read_token(const Enrollment& wish) {
  if (!wish.token.empty() && !wish.token_file.empty())
    throw Error(Code::kUsage, "give either --token or --token-file, not both");
  const std::string what = "the enrollment token";
  if (!wish.token_file.empty()) return read_secret_text(wish.token_file, what);
  if (wish.token == "-") return secret_text(read_input("-", kLongestToken), what);
  if (wish.token == "prompt") return read_pin("prompt", "enrollment token");
  if (!wish.token.empty()) {
    throw Error(Code::kUsage,
                "the enrollment token must not be an argument: other users see it in the process "
                "list; use --token-file FILE, --token - (standard input) or --token prompt");
  }
  return {};
}

wire::Link look(Session& session) {
  wire::Request request;
  request.mutable_link_status();
  return session.call(request).link_status().link();
}

Error failure_of(const wire::Link& link, const std::string& what) {
  const Code code = code_of_name(link.code());
  return Error(code == Code::kOk ? Code::kPeer : code, what + ": " + link.text(), link.auth_kid());
}

// Waits until the instance has acknowledged our key, or has refused it.
wire::Link wait_for(Session& session, wire::Link link, long timeout) {
  const PollUntilTimeout patience(timeout, 200ms);
  std::string told;
  while (link.state() != "connected") {
    if (link.state() == "not_enrolled") throw failure_of(link, "the enrollment was rejected");
    if (link.state() == "refused_by_peer")
      throw failure_of(link, "the instance refuses this agent");
    const std::string news = link.state() + (link.text().empty() ? "" : ": " + link.text());
    if (news != told) session.note(news);
    told = news;
    patience.rest("the agent is " + link.state() +
                  " and continues in the background; check: keyagent status");
    link = look(session);
  }
  return link;
}

void run_enroll(Session& session, const Enrollment& wish) {
  wire::Request request;
  auto& enroll = *request.mutable_enroll();
  const SecretBytes token = read_token(wish);
  if (token.empty() && wish.instance.empty())
    throw Error(Code::kUsage,
                "no instance given: use a token (--token-file FILE) or the fingerprint of its CA "
                "(--instance)");
  enroll.set_url(wish.url);
  enroll.set_token(token.data(), token.size());
  enroll.set_instance(wish.instance);
  enroll.set_agent(wish.agent);
  enroll.set_auth_key(wish.auth_key);
  enroll.set_transport_key(wish.transport_key);
  enroll.set_replace(wish.replace);
  const auto response = session.call(request);
  wire::wipe(request);
  auto link = response.enroll().link();
  const bool pending = link.state() == "pending";
  if (pending)
    session.note("ask the instance's operator to approve " + link.agent() + " with fingerprint " +
                 link.auth_kid());
  if (wish.wait) link = wait_for(session, link, wish.timeout);
  session.tell(link_json(link),
               link.state() == "pending"
                   ? "pending: ask for approval of fingerprint " + link.auth_kid() + " (agent " +
                         link.agent() + "); the agent continues in the background"
                   : "enrolled as " + link.agent() + " with instance " + link.instance() + " (" +
                         link.state() + "), key " + link.auth_kid());
}

void run_leave(Session& session) {
  wire::Request request;
  request.mutable_leave();
  const auto response = session.call(request);
  session.tell(
      link_json(response.leave().link()),
      "local enrollment removed; the instance trusts this agent until its operator revokes it");
}

// Someone else's credential may be on its way: that passes.
wire::Response call_patiently(Session& session, const wire::Request& request) {
  const auto end = std::chrono::steady_clock::now() + kPatience;
  for (;;) {
    try {
      return session.call(request);
    } catch (const Error& error) {
      if (error.code() != Code::kBusy || std::chrono::steady_clock::now() > end) throw;
    }
    std::this_thread::sleep_for(50ms);
  }
}

Json credential_json(const wire::Credential& credential) {
  return {{"name", credential.name()},       {"type", credential.type()},
          {"version", credential.version()}, {"kid", credential.kid()},
          {"cached", credential.cached()},   {"fetched", credential.fetched()},
          {"bound", !credential.unbound()}};
}

void run_get(Session& session, const std::string& name, const std::string& output) {
  wire::Request request;
  request.mutable_credential_get()->set_name(name);
  auto response = call_patiently(session, request);
  const auto& reply = response.credential_get();
  if (reply.credential().cached())
    session.note("the instance is unreachable; using cached version " +
                 std::to_string(reply.credential().version()) + " of " +
                 reply.credential().fetched());
  // With --json the value goes to a file, or nowhere: an object on a terminal is not for secrets.
  if (!session.globals.json || output != "-") write_output(output, as_bytes(reply.value()));
  if (session.globals.json) session.tell(credential_json(reply.credential()), {});
  wire::wipe(response);
}

void run_link_list(Session& session) {
  wire::Request request;
  request.mutable_credential_list();
  const auto response = call_patiently(session, request);
  Json list = Json::array();
  Table table({"NAME", "TYPE", "VERSION", "COPY OF", "CONTEXT"});
  for (const auto& each : response.credential_list().credentials()) {
    list.push_back(credential_json(each));
    table.add({each.name(), each.type(), std::to_string(each.version()),
               each.cached() ? each.fetched() : "", each.unbound() ? "unbound" : ""});
  }
  session.tell({{"credentials", list}}, table.text_or("No visible credentials."));
}

void add_enroll(CLI::App& app, Session& session) {
  auto wish = std::make_shared<Enrollment>();
  auto* enroll = add_command(
      app, "enroll", "enroll this agent with an instance",
      "  keyagent enroll https://instance.example.org:8443 --token-file token\n"
      "  ssh operator keyagent instance token | keyagent enroll "
      "https://instance.example.org:8443 --token -\n"
      "  keyagent enroll https://instance.example.org:8443 --instance FINGERPRINT --wait",
      [&session, wish] { run_enroll(session, *wish); });
  enroll->add_option("URL", wish->url, "https://HOST:PORT of the instance")->required();
  enroll->add_option("--token-file", wish->token_file,
                     "file with the enrollment token (mode 0600)");
  enroll->add_option("--token", wish->token,
                     "- (standard input) or prompt; never the token itself");
  enroll->add_option(
      "--instance", wish->instance,
      "without a token: the fingerprint of the instance's CA; an operator must approve the agent");
  enroll->add_option("--agent-id", wish->agent,
                     "agent id at the instance (default: the agent's own)");
  enroll->add_option("--auth-key", wish->auth_key, "the key for TLS (default: identity)");
  enroll->add_option("--transport-key", wish->transport_key,
                     "the key for credentials (default: credentials)");
  enroll->add_flag("--replace", wish->replace,
                   "enroll again, also after the token with the old keys was lost (needs an "
                   "enrollment token for this id)");
  enroll->add_flag("--wait", wish->wait, "wait until the instance has acknowledged the key");
  enroll
      ->add_option(
          "--timeout", wish->timeout,
          "with --wait: seconds, then exit status 7; enrollment continues in the background")
      ->check(CLI::Range(1L, 86400L));
}

}  // namespace

Json link_json(const wire::Link& link) {
  return {{"state", link.state()},
          {"code", link.code()},
          {"text", link.text()},
          {"since", link.since()},
          {"next_try", link.next_try()},
          {"failures", link.failures()},
          {"agent", link.agent()},
          {"instance", link.instance()},
          {"url", link.url()},
          {"agents_url", link.agents_url()},
          {"ca_fingerprint", link.ca_fingerprint()},
          {"auth_key", link.auth_key()},
          {"auth_kid", link.auth_kid()},
          {"transport_key", link.transport_key()},
          {"transport_kid", link.transport_kid()},
          {"serial", link.serial()},
          {"not_after", link.not_after()},
          {"renew_after", link.renew_after()},
          {"peer", link.peer()},
          {"peer_kid", link.peer_kid()},
          {"peer_serial", link.peer_serial()},
          {"peer_not_after", link.peer_not_after()},
          {"tls_version", link.tls_version()},
          {"cipher", link.cipher()},
          {"tls_group", link.tls_group()},
          {"connected", link.connected()},
          {"last_heartbeat", link.last_heartbeat()},
          {"last_seen", link.last_heartbeat()},
          {"last_contact", link.last_contact()},
          {"credentials_until", link.credentials_until()},
          {"credentials_expired", link.credentials_expired()},
          {"tasks_running", link.tasks_running()},
          {"outcomes_waiting", link.outcomes_waiting()}};
}

std::string link_text(const wire::Link& link) {
  if (link.state() == "not_enrolled" && link.code().empty()) return {};
  std::string text = link.state();
  if (!link.instance().empty())
    text += ", as " + link.agent() + " with instance " + link.instance();
  if (link.state() == "pending")
    text +=
        ": ask for approval of fingerprint " + link.auth_kid() + " (agent " + link.agent() + ")";
  if (!link.code().empty()) text += "\n  " + error_line(link.code(), link.text());
  if (!link.next_try().empty()) text += "\n  next try " + link.next_try();
  if (!link.peer().empty())
    text += "\n  peer " + link.peer() + ", " + link.tls_version() + " with " + link.tls_group() +
            ", certificate " + link.peer_serial() + " until " + link.peer_not_after() +
            "\n  last heartbeat " + link.last_heartbeat();
  if (!link.serial().empty())
    text += "\n  own certificate " + link.serial() + " until " + link.not_after() +
            ", renewed from " + link.renew_after() + "\n  key " + link.auth_kid();
  if (!link.credentials_until().empty() && link.peer().empty())
    text += "\n  last contact " + link.last_contact() + "; cached credentials are " +
            (link.credentials_expired() ? "refused since " : "usable until ") +
            link.credentials_until();
  if (link.tasks_running() + link.outcomes_waiting() > 0)
    text += "\n  tasks: " + std::to_string(link.tasks_running()) + " run, " +
            std::to_string(link.outcomes_waiting()) + " outcomes not delivered to the instance";
  return text;
}

void add_link_commands(CLI::App& app, Session& session) {
  add_enroll(app, session);
  add_command(app, "leave", "leave the instance; the keys stay", "  keyagent leave",
              [&session] { run_leave(session); });
  auto* credential = app.add_subcommand("credential", "credentials of an instance");
  credential->require_subcommand(1);
  credential->footer(
      "Examples:\n  keyagent credential list\n  keyagent credential get db-main -o "
      "/run/app/db.json");
  auto name = std::make_shared<std::string>();
  auto output = std::make_shared<std::string>("-");
  auto* get = add_command(*credential, "get", "get a credential, opened in the token",
                          "  keyagent credential get db-main -o /run/app/db.json\n"
                          "  keyagent credential get db-main | jq -r .password",
                          [&session, name, output] { run_get(session, *name, *output); });
  get->add_option("NAME", *name, "name of the credential at the instance")->required();
  get->add_option("-o,--output", *output, "output file (0600); - is standard output");
  add_command(*credential, "list", "list the credentials of this agent that you may get",
              "  keyagent credential list", [&session] { run_link_list(session); });
}

}  // namespace keyagent::cli
