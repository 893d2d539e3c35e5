// SPDX-License-Identifier: Apache-2.0
#include "agent/link/link.h"

#include "agent/base/encoding.h"
#include "agent/base/log.h"
#include "agent/base/mutex.h"
#include "agent/link/alarms.h"
#include "agent/link/certificate_renewer.h"
#include "agent/link/contact.h"
#include "agent/link/credentials.h"
#include "agent/link/enrollment.h"
#include "agent/link/instance_confirmation.h"
#include "agent/link/network.h"
#include "agent/link/orders.h"
#include "agent/link/renewal.h"
#include "agent/link/tasks.h"
#include "agent/wire/diagnosis.h"

namespace keyagent::link {
namespace {

// How long a session may take to end when the instance is left.
constexpr std::chrono::seconds kFarewell{8};

std::string time_text(WallTime time) {
  return time == WallTime{} ? "" : rfc3339(time);
}

bool is_trusted(const std::shared_ptr<const LinkState>& state) {
  return state && state->stage == LinkState::Stage::kTrusted;
}

EnrollmentRequest wish_of(const wire::EnrollRequest& request, const std::string& agent_id) {
  EnrollmentRequest wish;
  wish.url = request.url();
  while (!wish.url.empty() && wish.url.back() == '/') wish.url.pop_back();
  wish.token.assign(request.token().begin(), request.token().end());
  wish.fingerprint = request.instance();
  wish.agent = request.agent().empty() ? agent_id : request.agent();
  if (!request.auth_key().empty()) wish.auth_key = request.auth_key();
  if (!request.transport_key().empty()) wish.transport_key = request.transport_key();
  wish.replace = request.replace();
  return wish;
}

void describe_session(const tls::Peer& peer, wire::Link& out) {
  out.set_peer(peer.address);
  out.set_peer_kid(peer.kid);
  out.set_peer_serial(peer.serial);
  out.set_peer_not_after(peer.valid_until);
  out.set_tls_version(peer.tls_version);
  out.set_cipher(peer.cipher);
  out.set_tls_group(peer.group);
}

const FindingKind& kind_of(const wire::Link& link) {
  if (link.state() == name_of(Phase::kUnreachable))
    return has_network(link.agents_url()) ? finding_kind("link-unreachable")
                                          : finding_kind("link-no-network");
  if (link.state() != name_of(Phase::kRefusedByPeer)) return finding_kind("link-faulty");
  // By the instance, or by its TLS, which has the certificate in its list.
  const bool revoked = link.code() == code_name(Code::kDenied) ||
                       link.text().find("certificate revoked") != std::string::npos;
  return revoked ? finding_kind("link-revoked") : finding_kind("link-refused");
}

}  // namespace

struct Link::Impl {
  const LinkContext around;
  GateClient gate;
  OwnKeys keys{gate};
  TlsLibrary library{gate};
  LinkStore store;
  LastContact contact{around, store};
  Enrollment enrollment{around, keys, library};
  Orders orders{around, store, keys};
  CertificateRenewer care{around, store, keys};
  InstanceConnection uplink;
  Credentials credentials{around, store, keys, library, uplink, contact};
  Tasks tasks{around, store, keys, library, uplink};
  InstanceConfirmation confirmation{around,  store,  keys,
                                    library, uplink, [this] { credentials.look_again(); }};
  Alarms alarms;
  Mutex enrolling;  // one at a time

  explicit Impl(LinkContext given)
      : around(std::move(given)),
        gate(around.ask),
        store(around.folder),
        uplink(around, store, keys, library, handlers()) {}

  UplinkHandlers handlers() {
    UplinkHandlers out;
    out.poll = [this] { return poll(); };
    out.busy = [this] { return rekeying(); };
    out.connected = [this] { greet(); };
    out.acknowledged = [this](std::chrono::milliseconds limit) { contact.acknowledged(limit); };
    out.message = [this](const Answer& message) { receive(message); };
    out.chores = [this](const UplinkHandlers::Send& send) {
      care.look();
      contact.save();
      if (!send) return;
      orders.look(send);
      alarms.deliver(send);
      patiently([this] { tasks.deliver(); });
      patiently([this] { credentials.work(); });
    };
    return out;
  }

  LinkState begin(const EnrollmentRequest& wish) {
    confirmation.set_enrolling(wish.replace);
    try {
      auto fresh = enrollment.begin(wish);
      confirmation.set_enrolling(false);
      return fresh;
    } catch (const Error& error) {
      confirmation.set_enrolling(false);
      if (error.code() != Code::kPeer || has_network(wish.url)) throw;
      throw Error(Code::kPeer, std::string(error.what()) + ": the agent's unit has no network; " +
                                   fix_of(finding_kind("link-no-network"), {}).text);
    }
  }

  void tell(keys::KeyEvent::Weight weight, const char* what, const std::string& kid, Code code,
            const std::string& detail) const {
    const std::string outcome = code == Code::kOk ? "ok" : std::string(code_name(code));
    if (around.tell) around.tell({weight, what, {}, kid, "internal:link", outcome, detail});
  }

  bool rekeying() {
    const auto state = store.get();
    if (!state) return false;
    wire::Request request;
    request.mutable_rekey_status();
    const auto response = gate.call(std::move(request));
    for (const auto& rekey : response.rekey_status().rekeys()) {
      const bool ours = rekey.name() == state->auth_key || rekey.name() == state->transport_key;
      if (ours && rekey.step() != "draining") return true;
    }
    return false;
  }

  bool poll() {
    const MutexLock lock(enrolling);
    const auto state = store.get();
    if (!state || state->stage != LinkState::Stage::kPending) return true;
    try {
      const auto trusted = enrollment.poll(*state);
      if (!trusted) return false;
      store.put(*trusted);
      tell(keys::KeyEvent::Weight::kInfo, "link.enrolled", trusted->certificates.begin()->first,
           Code::kOk, "as " + trusted->agent + " with instance " + trusted->instance);
      return true;
    } catch (const Error& error) {
      const bool over = error.code() == Code::kDenied || error.code() == Code::kIntegrity ||
                        error.code() == Code::kKeyNotPresent;
      if (!over) throw;
      uplink.note_failure(error);
      tell(keys::KeyEvent::Weight::kAlarm, "link.rejected", {}, error.code(), error.what());
      store.remove();
      return true;
    }
  }

  void greet() {
    orders.repeat();
    patiently([this] { refresh_revocations(); });
    credentials.look_again();
    tasks.news();
  }

  // What can be done at the next session too ends no session.
  template <class Work>
  static void patiently(Work work) {
    try {
      work();
    } catch (const Error& error) {
      log_warning("link", error.what());
    }
  }

  void refresh_revocations() {
    const auto state = store.get();
    if (!state) return;
    InstanceApi api(library.get(),
                    options_for(*state, keys.show(state->auth_key).kid(), around.timing));
    const std::string crl = api.crl();
    revocation_list_of_pem(crl, certificates_of_pem(state->ca).front());
    store.update([&](LinkState& kept) { kept.crl = crl; });
  }

  void receive(const Answer& message) {
    const std::string type = message.text("type");
    if (type == "rekey") orders.take(message.id("id"), message.text("key"));
    if (type == "credentials") credentials.changed(message.texts("names"));
    if (type == "tasks") tasks.news();
  }
};

Link::Link(LinkContext around) : impl_(std::make_unique<Impl>(std::move(around))) {}

Link::~Link() {
  stop();
}

void Link::start() {
  if (impl_->store.get()) impl_->uplink.start();
}

void Link::stop() {
  impl_->uplink.stop();
  impl_->gate.stop();
}

keys::Confirmation& Link::confirmation() {
  return impl_->confirmation;
}

// Idempotent, for scripts that run twice: the same request again reports the existing enrollment.
void Link::enroll(const wire::EnrollRequest& request, wire::EnrollReply& reply) {
  const MutexLock lock(impl_->enrolling);
  const auto wish = wish_of(request, impl_->around.agent_id);
  const auto known = impl_->store.get();
  if (known && !wish.replace) {
    const bool same = known->url == wish.url && known->agent == wish.agent &&
                      (wish.fingerprint.empty() || wish.fingerprint == known->ca_fingerprint);
    const bool again = same && (is_trusted(known) || wish.token.empty());
    if (again) return describe(*reply.mutable_link());
    if (!same)
      throw Error(Code::kExists, "this agent is enrolled at " + known->url + " as " + known->agent +
                                     "; end that first: keyagent leave, or use --replace");
  }
  auto fresh = impl_->begin(wish);
  const bool pending = fresh.stage == LinkState::Stage::kPending;
  // Leases are the other side's: to another, or as another, they mean nothing.
  const bool others =
      known && (known->ca_fingerprint != fresh.ca_fingerprint || known->agent != fresh.agent);
  // The stored epoch of the same instance stays valid.
  if (known && known->ca_fingerprint == fresh.ca_fingerprint) fresh.epoch = known->epoch;
  impl_->store.put(std::move(fresh));
  if (!pending) impl_->contact.acknowledged();
  if (known) impl_->credentials.forget_all();
  if (others) impl_->tasks.forget_all();
  impl_->uplink.start();
  impl_->uplink.reconnect();
  reply.set_changed(true);
  describe(*reply.mutable_link());
  // The thread may not have looked yet.
  reply.mutable_link()->set_state(name_of(pending ? Phase::kPending : Phase::kConnecting));
}

void Link::leave(wire::Link& reply) {
  const MutexLock lock(impl_->enrolling);
  impl_->store.remove();
  impl_->uplink.reconnect();
  impl_->uplink.wait_left(kFarewell);
  impl_->uplink.note_failure(Error(Code::kOk, {}));
  impl_->credentials.forget_all();
  impl_->tasks.forget_all();
  impl_->keys.forget_sealed();
  describe(reply);
  reply.set_state(name_of(Phase::kNotEnrolled));
}

void Link::credential(const std::string& name, wire::CredentialGetReply& reply) {
  impl_->credentials.get(name, reply);
}

void Link::credentials(wire::CredentialListReply& reply) {
  impl_->credentials.list(reply);
}

void Link::task_take(std::uint32_t uid, const wire::TaskTakeRequest& request,
                     wire::TaskTakeReply& reply) {
  impl_->tasks.take(uid, request, reply);
}

void Link::task_keep(std::uint32_t uid, const wire::TaskKeepRequest& request,
                     wire::TaskKeepReply& reply) {
  impl_->tasks.keep(uid, request, reply);
}

void Link::task_end(std::uint32_t uid, const wire::TaskEndRequest& request) {
  impl_->tasks.end(uid, request);
}

std::string Link::task_credential(std::uint32_t uid,
                                  const wire::TaskCredentialRequest& request) const {
  return impl_->tasks.credential_of(uid, request);
}

bool Link::runs_tasks(std::uint32_t uid) const {
  return impl_->tasks.runs_tasks(uid);
}

void Link::tasks(wire::TaskListReply& reply) const {
  impl_->tasks.list(reply);
}

void Link::describe(wire::Link& reply) const {
  const auto report = impl_->uplink.report();
  const auto state = impl_->store.get();
  reply.set_state(name_of(state ? report.phase : Phase::kNotEnrolled));
  if (report.code != Code::kOk) reply.set_code(std::string(code_name(report.code)));
  reply.set_text(report.text);
  reply.set_since(time_text(report.since));
  reply.set_next_try(time_text(report.next_try));
  reply.set_connected(time_text(report.connected));
  reply.set_last_heartbeat(time_text(report.last_heartbeat));
  reply.set_failures(static_cast<std::uint32_t>(report.failures));
  if (report.peer) describe_session(*report.peer, reply);
  reply.set_tasks_running(static_cast<std::uint32_t>(impl_->tasks.running()));
  reply.set_outcomes_waiting(static_cast<std::uint32_t>(impl_->tasks.waiting()));
  if (!state) return;
  if (state->stage == LinkState::Stage::kTrusted) {
    const auto age = impl_->contact.age();
    reply.set_last_contact(time_text(age.last));
    reply.set_credentials_until(time_text(age.until));
    reply.set_credentials_expired(age.expired);
  }
  reply.set_agent(state->agent);
  reply.set_instance(state->instance);
  reply.set_url(state->url);
  reply.set_agents_url(state->agents_url);
  reply.set_ca_fingerprint(state->ca_fingerprint);
  reply.set_auth_key(state->auth_key);
  reply.set_transport_key(state->transport_key);
  try {
    const std::string kid = impl_->keys.show(state->auth_key).kid();
    reply.set_auth_kid(kid);
    reply.set_transport_kid(impl_->keys.show(state->transport_key).kid());
    if (const auto chain = state->certificates.find(kid); chain != state->certificates.end()) {
      const Leaf leaf = leaf_of(certificates_of_pem(chain->second).front());
      reply.set_serial(leaf.serial);
      reply.set_not_after(leaf.valid_until);
      reply.set_renew_after(rfc3339(renew_at(leaf, kid)));
    }
  } catch (const Error& error) {
    if (reply.text().empty()) reply.set_text(error.what());
  }
}

void Link::report(const keys::KeyEvent& alarm) {
  impl_->alarms.add(alarm);
}

std::vector<wire::Diagnosis> Link::diagnose() const {
  wire::Link link;
  describe(link);
  std::vector<wire::Diagnosis> all;
  if (link.outcomes_waiting() >= impl_->around.tasks.waiting)
    all.push_back(wire::make_diagnosis(
        finding_kind("outcomes-waiting"),
        "the outcomes of " + std::to_string(link.outcomes_waiting()) +
            " tasks are not delivered to the instance; workers get no more tasks",
        {{"url", link.agents_url()}}, "tasks"));
  if (link.credentials_expired())
    all.push_back(
        wire::make_diagnosis(finding_kind("credentials-expired"),
                             "cached credentials are refused since " + link.credentials_until() +
                                 ": the instance was last reached at " + link.last_contact(),
                             {{"url", link.agents_url()}}, "credentials"));
  if (const auto unbound = impl_->credentials.unbound(); !unbound.empty())
    all.push_back(wire::make_diagnosis(finding_kind("credentials-unbound"),
                                       std::to_string(unbound.size()) +
                                           " envelopes of credentials do not state what they " +
                                           "are for, so they could be swapped: " + unbound.front() +
                                           (unbound.size() > 1 ? ", …" : ""),
                                       {}, "credentials"));
  const bool well = link.code().empty() || link.state() == name_of(Phase::kConnected);
  if (well) return all;
  auto& out = all.emplace_back();
  out = wire::make_diagnosis(
      kind_of(link), "the link to the instance is " + link.state() + ": " + link.text(),
      {{"url", link.state() == name_of(Phase::kUnreachable) ? link.agents_url() : link.url()},
       {"agent", link.agent()}},
      "link", link.auth_kid());
  out.set_code(link.code());
  return all;
}

}  // namespace keyagent::link
