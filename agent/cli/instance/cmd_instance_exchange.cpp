// SPDX-License-Identifier: Apache-2.0
// keyagent instance peer, exchange: keys from and to other instances.

#include <algorithm>

#include "agent/base/error.h"
#include "agent/base/error_line.h"
#include "agent/cli/instance/cmd_instance.h"
#include "agent/cli/poll_until_timeout.h"
#include "agent/cli/table.h"

namespace keyagent::cli {
namespace {

struct ExchangeOptions {
  std::string name, identity, replaces, url, ca, until, peer, id, reason, state, side,
      frequency = "adhoc";
  std::vector<std::string> specifications, frequencies, ids;
  bool all = false, rekey = false, wait = false, always = false;
  long hours = 24 * 7, period = 24, timeout = 0, count = 100;
};

std::string joined(const Json& list) {
  std::string out;
  for (const auto& each : list) out += (out.empty() ? "" : ", ") + each.get<std::string>();
  return out;
}

std::string exchange_path(const std::string& id, const char* verb = "") {
  return "/v1/exchanges/" + path_segment(id) + verb;
}

std::string specifications_of(const Json& exchange) {
  const auto& names = exchange.at("specifications");
  return names.empty() ? "all specifications" : joined(names);
}

std::string exchange_line(const Json& exchange) {
  const auto code = text_at(exchange, "code");
  return text_at(exchange, "id") + "  " + text_at(exchange, "state") +
         (code.empty() ? "" : "(" + code + ")") + "  " + text_at(exchange, "side") + " with " +
         text_at(exchange, "peer") + "  " + text_at(exchange, "frequency") + "  " +
         specifications_of(exchange) + "  " + text_at(exchange, "imported") + " of " +
         text_at(exchange, "total") + " keys  " + text_at(exchange, "created") + "\n";
}

std::string exchange_details(const Json& exchange) {
  std::string out = exchange_line(exchange);
  for (const char* name : {"source", "target", "requested_by", "approved_by", "text", "next_step",
                           "expires", "next", "transcript"}) {
    const auto text = text_at(exchange, name);
    if (!text.empty() && text != "-") out += std::string(name) + ": " + text + "\n";
  }
  if (exchange.value("rekey", false))
    out += "data is re-encrypted under new keys after the import\n";
  for (const auto& key : exchange.at("keys")) {
    const auto code = text_at(key, "code"), text = text_at(key, "text");
    out += "  " + text_at(key, "specification") + "  " + text_at(key, "kid") + "  " +
           text_at(key, "outcome") + (code.empty() ? "" : "(" + code + ")") +
           (text.empty() ? "" : "  " + text) + "\n";
  }
  return out;
}

bool exchange_has_ended(const Json& exchange) {
  const auto state = text_at(exchange, "state");
  for (const char* each : {"pending", "approved", "exported", "imported", "verified"}) {
    if (state == each) return false;
  }
  return true;
}

// Of a request that has ended.
int exit_of(const Json& exchange) {
  const auto state = text_at(exchange, "state");
  if (state == "failed") return exit_code(code_of_name(text_at(exchange, "code")));
  if (state != "complete") return exit_code(Code::kDenied);
  return exchange.at("imported") == exchange.at("total") ? 0 : exit_code(Code::kPartial);
}

std::string one_automatic(const Json& rule) {
  const auto& names = rule.at("specifications");
  const auto until = text_at(rule, "until");
  return joined(rule.at("frequencies")) + " of " +
         (names.empty() ? "all specifications" : joined(names)) + ", by " + text_at(rule, "by") +
         (until.empty() || until == "-" ? "" : ", until " + until);
}

std::string automatic_text(const Json& peer) {
  const Json& automatic = peer.at("automatic");
  if (!automatic.is_object()) return {};
  std::string out = one_automatic(automatic);
  for (const auto& each : automatic.value("also", Json::array())) out += "; " + one_automatic(each);
  return out;
}

std::string peers_text(const Json& peers) {
  Table table({"NAME", "IDENTITY", "URL", "LAST SEEN", "AUTOMATIC EXPORTS"});
  for (const auto& each : peers)
    table.add({text_at(each, "name"), text_at(each, "identity"), text_at(each, "url"),
               text_at(each, "seen"), automatic_text(each)});
  return table.text_or("none\n");
}

void run_peer_add(Session& session, const InstanceOptions& instance, const ExchangeOptions& o) {
  const Json answer = client_of(instance).call(
      "PUT", "/v1/peers/" + path_segment(o.name),
      {{"identity", o.identity}, {"url", o.url}, {"ca", o.ca}, {"replaces", o.replaces}});
  if (!tell_pending(session, answer)) session.tell(answer, peers_text(Json::array({answer})));
}

void run_peer_list(Session& session, const InstanceOptions& instance, const ExchangeOptions&) {
  const Json answer = client_of(instance).call("GET", "/v1/peers");
  session.tell(answer, peers_text(answer.at("peers")));
}

void run_peer_remove(Session& session, const InstanceOptions& instance, const ExchangeOptions& o) {
  const Json answer = client_of(instance).call("DELETE", "/v1/peers/" + path_segment(o.name));
  session.tell(answer, o.name + " is no longer a peer");
}

void run_automatic(Session& session, const InstanceOptions& instance, const ExchangeOptions& o) {
  const Json answer = client_of(instance).call(
      "PUT", "/v1/peers/" + path_segment(o.name) + "/automatic",
      {{"frequencies", o.frequencies}, {"specifications", o.specifications}, {"until", o.until}});
  if (!tell_pending(session, answer)) session.tell(answer, peers_text(Json::array({answer})));
}

void run_identity(Session& session, const InstanceOptions& instance, const ExchangeOptions&) {
  auto client = client_of(instance);
  Json answer = client.call("POST", "/v1/exchange/identity");
  const Json status = client.call("GET", "/v1/status");
  answer["ca"] = status.at("ca_fingerprint");
  answer["url"] = load_instance_profile(instance_profile_path(instance.profile)).url;
  session.tell(answer, "identity " + text_at(answer, "identity") +
                           "\n"
                           "at the other instance, after comparing this over a trusted channel: "
                           "keyagent instance peer add NAME --identity=" +
                           text_at(answer, "identity") + " --url " + text_at(answer, "url") +
                           " --ca=" + text_at(answer, "ca") + "\n");
}

void run_check(Session& session, const InstanceOptions& instance, const ExchangeOptions& o) {
  const Json answer = client_of(instance).call(
      "POST", "/v1/exchange/check", {{"peer", o.peer}, {"specifications", o.specifications}});
  std::string text;
  for (const auto& each : answer.at("checks")) {
    const bool passed = each.at("passed").get<bool>();
    const auto code = text_at(each, "code");
    text += std::string(passed ? "pass  " : "FAIL  ") + text_at(each, "what") + ": " +
            error_line(code, text_at(each, "text")) + "\n";
    if (!passed) session.exit_status = std::max(session.exit_status, exit_code(code_of_name(code)));
  }
  session.tell(answer, text);
}

void wait_for(Session& session, InstanceClient& client, const ExchangeOptions& o,
              const std::string& id) {
  const PollUntilTimeout patience(o.timeout);
  Json exchange = client.call("GET", exchange_path(id));
  while (!exchange_has_ended(exchange)) {
    patience.rest("the request is " + text_at(exchange, "state") +
                  " and continues: keyagent instance exchange show " + id);
    exchange = client.call("GET", exchange_path(id));
  }
  session.exit_status = exit_of(exchange);
  session.tell(exchange, exchange_details(exchange));
}

void run_request(Session& session, const InstanceOptions& instance, const ExchangeOptions& o) {
  auto client = client_of(instance);
  const Json answer = client.call("POST", "/v1/exchanges",
                                  {{"peer", o.peer},
                                   {"specifications", o.specifications},
                                   {"all", o.all},
                                   {"frequency", o.frequency},
                                   {"rekey", o.rekey},
                                   {"hours", o.hours},
                                   {"period_hours", o.period}});
  const auto id = text_at(answer, "id");
  if (!o.wait) return session.tell(answer, exchange_details(answer));
  session.note("the request " + id + " is " + text_at(answer, "state"));
  wait_for(session, client, o, id);
}

void run_list(Session& session, const InstanceOptions& instance, const ExchangeOptions& o) {
  const Json answer = client_of(instance).call(
      "GET", "/v1/exchanges?count=" + std::to_string(o.count) + "&state=" + path_segment(o.state) +
                 "&side=" + path_segment(o.side) + "&peer=" + path_segment(o.peer));
  Table table(
      {"ID", "STATE", "CODE", "SIDE", "PEER", "FREQUENCY", "SPECIFICATIONS", "KEYS", "CREATED"});
  for (const auto& each : answer.at("exchanges"))
    table.add({text_at(each, "id"), text_at(each, "state"), text_at(each, "code"),
               text_at(each, "side"), text_at(each, "peer"), text_at(each, "frequency"),
               specifications_of(each), text_at(each, "imported") + " of " + text_at(each, "total"),
               text_at(each, "created")});
  session.tell(answer, table.text_or("none\n"));
}

void run_show(Session& session, const InstanceOptions& instance, const ExchangeOptions& o) {
  auto client = client_of(instance);
  if (o.wait) return wait_for(session, client, o, o.id);
  const Json answer = client.call("GET", exchange_path(o.id));
  session.tell(answer, exchange_details(answer));
}

// After --always: everything that needs no person from now on.
std::string automatic_note(const Json& exchange) {
  if (!exchange.contains("automatic")) return {};
  return "requests of " + text_at(exchange, "peer") +
         " that are approved automatically: " + automatic_text(exchange) + "\n";
}

// Applies the verb to each id separately: a failure does not stop the others.
void run_verb(Session& session, const InstanceOptions& instance, const ExchangeOptions& o,
              const char* verb) {
  auto client = client_of(instance);
  Json done = Json::array();
  std::string text;
  for (const auto& id : o.ids) {
    try {
      done.push_back(client.call("POST", exchange_path(id, verb),
                                 {{"reason", o.reason}, {"always", o.always}}));
      text += exchange_line(done.back()) + automatic_note(done.back());
      if (done.back().contains("decision"))
        text += "--always needs approval by another person: keyagent instance decision approve " +
                text_at(done.back()["decision"], "id") + "\n";
    } catch (const Error& error) {
      if (o.ids.size() == 1 || layer_of(error.code()) == Layer::kPeer) throw;
      done.push_back({{"id", id}, {"error", error.what()}, {"code", code_name(error.code())}});
      text += id + "  " + error_line(code_name(error.code()), error.what()) + "\n";
      session.exit_status = exit_code(Code::kPartial);
    }
  }
  session.tell({{"exchanges", done}}, text);
}

using RunOnExchange = void (*)(Session&, const InstanceOptions&, const ExchangeOptions&);
using With = std::function<std::function<void()>(RunOnExchange)>;

void add_peer_commands(CLI::App& instance, ExchangeOptions& o, const With& with) {
  auto* peer = instance.add_subcommand("peer", "manage peer instances and their identities");
  peer->require_subcommand(1);
  auto* add = add_command(*peer, "add", "pin the identity of an instance, and set its address",
                          "  keyagent instance peer add berlin --identity=KID --url "
                          "https://keys.example.org:8443 --ca=FINGERPRINT",
                          with(run_peer_add));
  add->add_option("NAME", o.name, "name of the peer at this instance")->required();
  add->add_option("--identity", o.identity,
                  "kid of its identity, as keyagent instance exchange identity prints it there")
      ->required();
  add->add_option("--url", o.url, "its listen.api; not needed for a source that only answers");
  add->add_option("--ca", o.ca, "fingerprint of its CA");
  add->add_option("--replaces", o.replaces,
                  "the identity it replaces, after a rekey: policy and requests carry over");
  add_command(*peer, "list", "list the peers and their automatic exports",
              "  keyagent instance peer list", with(run_peer_list));
  add_command(*peer, "remove", "remove a peer: ends all exchange with it",
              "  keyagent instance peer remove berlin", with(run_peer_remove))
      ->add_option("NAME", o.name, "name of the peer")
      ->required();
  auto* automatic =
      add_command(*peer, "automatic", "set which requests of a target are approved automatically",
                  "  keyagent instance peer automatic berlin --frequency recurring-clone "
                  "--specification cards --until 2027-01-01T00:00:00Z\n"
                  "  keyagent instance peer automatic berlin           # none",
                  with(run_automatic));
  automatic->add_option("NAME", o.name, "name of the peer")->required();
  automatic->add_option("--frequency", o.frequencies,
                        "one-time-clone or recurring-clone; repeatable");
  automatic->add_option("--specification", o.specifications,
                        "specification; repeatable (default: all)");
  automatic->add_option("--until", o.until, "end of the permission, such as 2027-01-01T00:00:00Z");
}

void add_request(CLI::App& exchange, ExchangeOptions& o, const With& with) {
  auto* check =
      add_command(exchange, "check", "test everything that an exchange with a source needs",
                  "  keyagent instance exchange check berlin cards", with(run_check));
  check->add_option("PEER", o.peer, "name of the peer that has the keys")->required();
  check->add_option("SPECIFICATION", o.specifications, "specifications to test (default: all)");
  auto* request = add_command(
      exchange, "request", "request data keys from an instance",
      "  keyagent instance exchange request berlin cards pins --wait\n"
      "  keyagent instance exchange request berlin --all --frequency one-time-clone --rekey",
      with(run_request));
  request->add_option("PEER", o.peer, "the peer that has the keys")->required();
  request->add_option("SPECIFICATION", o.specifications, "specifications whose keys to request");
  request->add_flag("--all", o.all, "request all data keys of the source");
  request->add_option("--frequency", o.frequency, "adhoc, one-time-clone or recurring-clone")
      ->check(CLI::IsMember({"adhoc", "one-time-clone", "recurring-clone"}));
  request->add_option("--period", o.period, "hours between recurring requests (24)")
      ->check(CLI::Range(1, 24 * 366));
  request->add_flag("--rekey", o.rekey, "re-encrypt the data with new keys after the import");
  request->add_option("--hours", o.hours, "hours to wait for approval (168)")
      ->check(CLI::Range(1, 720));
  request->add_flag("--wait", o.wait,
                    "wait until it has ended; exit status 7 if not every key was imported");
  request->add_option("--timeout", o.timeout, "seconds to wait; 0: no limit");
}

void add_exchange_commands(CLI::App& exchange, ExchangeOptions& o, const With& with) {
  add_command(exchange, "identity", "show this instance's identity; creates its keys once",
              "  keyagent instance exchange identity", with(run_identity));
  add_request(exchange, o, with);
  auto* list = add_command(exchange, "list", "list requests for keys, in both directions",
                           "  keyagent instance exchange list --state pending --side source",
                           with(run_list));
  list->add_option("--state", o.state,
                   "pending, approved, exported, imported, verified, complete, rejected, expired, "
                   "failed or cancelled")
      ->check(CLI::IsMember({"pending", "approved", "exported", "imported", "verified", "complete",
                             "rejected", "expired", "failed", "cancelled"}));
  list->add_option("--side", o.side, "role of this instance: source or target")
      ->check(CLI::IsMember({"source", "target"}));
  list->add_option("--peer", o.peer, "only requests from or to this peer");
  list->add_option("--count", o.count, "maximum number of requests, newest first (100)")
      ->check(CLI::Range(1, 1000));
  auto* show = add_command(exchange, "show", "show one request with the result of each key",
                           "  keyagent instance exchange show 5f0c…", with(run_show));
  show->add_option("ID", o.id, "id of the request")->required();
  show->add_flag("--wait", o.wait,
                 "wait until it has ended; exit status 7 if not every key was imported");
  show->add_option("--timeout", o.timeout, "seconds to wait; 0: no limit");
  const auto verb = [&](const char* name, const char* what, RunOnExchange run) {
    auto* command =
        add_command(exchange, name, what,
                    std::string("  keyagent instance exchange ") + name + " 5f0c…", with(run));
    command->add_option("ID", o.ids, "request ids")->required();
    return command;
  };
  verb("approve", "at the source: let the keys leave for this target",
       [](Session& s, const InstanceOptions& i, const ExchangeOptions& e) {
         run_verb(s, i, e, "/approve");
       })
      ->add_flag(
          "--always", o.always,
          "and approve this target's requests of this kind automatically from now on, beside "
          "what is approved automatically already");
  verb("reject", "at the source: reject the request",
       [](Session& s, const InstanceOptions& i, const ExchangeOptions& e) {
         run_verb(s, i, e, "/reject");
       })
      ->add_option("--reason", o.reason, "reason, sent to the target");
  verb("cancel", "at either end: cancel the request",
       [](Session& s, const InstanceOptions& i, const ExchangeOptions& e) {
         run_verb(s, i, e, "/cancel");
       })
      ->add_option("--reason", o.reason, "reason, sent to the other end");
  verb("retry", "retry a failed request, or a waiting one now",
       [](Session& s, const InstanceOptions& i, const ExchangeOptions& e) {
         run_verb(s, i, e, "/retry");
       });
  verb("stop", "stop the repetition of a recurring request",
       [](Session& s, const InstanceOptions& i, const ExchangeOptions& e) {
         run_verb(s, i, e, "/stop");
       });
}

}  // namespace

void add_instance_exchange_commands(CLI::App& instance, Session& session,
                                    const std::shared_ptr<InstanceOptions>& options) {
  const auto own = std::make_shared<ExchangeOptions>();
  const With with = [&session, options, own](RunOnExchange run) {
    return [run, &session, options, own] { run(session, *options, *own); };
  };
  add_peer_commands(instance, *own, with);
  auto* exchange = instance.add_subcommand("exchange", "exchange data keys with other instances");
  exchange->require_subcommand(1);
  add_exchange_commands(*exchange, *own, with);
}

}  // namespace keyagent::cli
