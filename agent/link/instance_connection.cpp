// SPDX-License-Identifier: Apache-2.0
#include "agent/link/instance_connection.h"

#include <algorithm>
#include <utility>

#include "agent/base/encoding.h"
#include "agent/base/log.h"
#include "agent/link/certificates.h"
#include "agent/link/instance_api.h"

namespace keyagent::link {
namespace {

using namespace std::chrono_literals;
using Json = nlohmann::json;

constexpr std::chrono::milliseconds kLook = 1s;  // between two checks for work
constexpr std::chrono::milliseconds kOwnKey = 2s;
constexpr std::uint64_t kUnanswered = 3;  // heartbeats, then the link is dead
constexpr std::chrono::minutes kSkew{5};
constexpr std::uint64_t kMaxLimitSeconds = 10ULL * 365 * 86400;

// The instance has answered with a refusal, or is not authenticated.
bool is_refusal(Code code) {
  return code == Code::kRefusedByPeer || code == Code::kDenied || code == Code::kKeyState ||
         code == Code::kIntegrity;
}

Json brief(const wire::Key& key) {
  return {{"kid", key.kid()},
          {"name", key.name()},
          {"state", key.state()},
          {"generation", key.generation()}};
}

// ", ours SERIAL until DATE".
std::string own_certificate(const LinkState& state, const std::string& kid) {
  const auto chain = state.certificates.find(kid);
  if (chain == state.certificates.end()) return {};
  const Leaf leaf = leaf_of(certificates_of_pem(chain->second).front());
  return ", ours " + leaf.serial + " until " + leaf.valid_until;
}

void require_in_force(const wire::Key& key) {
  if (key.usable() && key.state() == name_of(KeyState::kActive)) return;
  throw Error(Code::kKeyLost,
              "key " + key.name() + " is " +
                  (key.usable() ? key.state() : "not usable: " + key.finding()) +
                  "; it is required for the link",
              key.kid());
}

}  // namespace

std::chrono::milliseconds pause_after(int failures, const Timing& timing) {
  const auto doubled = timing.first_pause * (1LL << std::clamp(failures - 1, 0, 16));
  const auto most = std::min<std::chrono::milliseconds>(doubled, timing.longest_pause);
  const Bytes draw = random_bytes(1);
  return most / 2 + most / 2 * draw.front() / 255;
}

const char* name_of(Phase phase) {
  switch (phase) {
    case Phase::kNotEnrolled:
      return "not_enrolled";
    case Phase::kPending:
      return "pending";
    case Phase::kConnecting:
      return "connecting";
    case Phase::kConnected:
      return "connected";
    case Phase::kRefusedByPeer:
      return "refused_by_peer";
    case Phase::kUnreachable:
      break;
  }
  return "unreachable";
}

// One WebSocket and its session state.
struct InstanceConnection::Session {
  Session(std::shared_ptr<tls::Library> library, tls::ClientOptions options)
      : link(std::move(library), std::move(options), "/v1/link") {}
  void send(const Json& message) { link.send(message.dump()); }

  tls::LinkClient link;
  std::string auth_kid, transport_kid, auth_name, transport_name;
  Json transport;  // the key in effect
  std::chrono::milliseconds heartbeat = 15s;
  std::uint64_t sent = 0, acknowledged = 0;
};

InstanceConnection::InstanceConnection(const LinkContext& around, LinkStore& store, OwnKeys& keys,
                                       TlsLibrary& library, UplinkHandlers handlers)
    : context_(around),
      store_(store),
      keys_(keys),
      library_(library),
      handlers_(std::move(handlers)),
      epoch_(around, store) {
  if (!store.fault().empty()) {
    report_.code = Code::kIntegrity;
    report_.text = store.fault();
  }
}

InstanceConnection::~InstanceConnection() {
  stop();
}

void InstanceConnection::start() {
  const MutexLock lock(mutex_);
  if (ended_ || thread_.joinable()) return;
  thread_ = std::thread([this] { run(); });
}

void InstanceConnection::stop() {
  {
    const MutexLock lock(mutex_);
    ended_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void InstanceConnection::reconnect() {
  const MutexLock lock(mutex_);
  again_ = true;
  changed_.notify_all();
}

UplinkReport InstanceConnection::report() const {
  const MutexLock lock(mutex_);
  return report_;
}

void InstanceConnection::note_failure(const Error& error) {
  const MutexLock lock(mutex_);
  report_.code = error.code();
  report_.text = error.what();
}

bool InstanceConnection::wait_connected(const std::string& auth_kid,
                                        std::chrono::milliseconds patience) {
  const MutexLock lock(mutex_);
  return changed_.wait_for(mutex_, patience, [&]() REQUIRES(mutex_) {
    return report_.phase == Phase::kConnected && report_.auth_kid == auth_kid;
  });
}

void InstanceConnection::wait_left(std::chrono::milliseconds patience) {
  const MutexLock lock(mutex_);
  changed_.wait_for(mutex_, patience,
                    [this]() REQUIRES(mutex_) { return report_.phase == Phase::kNotEnrolled; });
}

void InstanceConnection::note(Phase phase) {
  const MutexLock lock(mutex_);
  if (report_.phase == phase) return;
  report_.phase = phase;
  report_.since = context_.clock->now();
  report_.next_try = {};
  if (phase != Phase::kConnected) report_.peer.reset();
  changed_.notify_all();
}

bool InstanceConnection::pause(std::chrono::milliseconds time) {
  const MutexLock lock(mutex_);
  report_.next_try = context_.clock->now() + time;
  changed_.wait_for(mutex_, time, [this]() REQUIRES(mutex_) { return ended_ || again_; });
  report_.next_try = {};
  return !ended_;
}

bool InstanceConnection::is_over() {
  const MutexLock lock(mutex_);
  return ended_ || again_;
}

void InstanceConnection::run() {
  for (;;) {
    const auto state = store_.get();
    {
      MutexLock lock(mutex_);
      if (ended_) return;
      if (!state) {
        lock.unlock();
        note(Phase::kNotEnrolled);
        lock.lock();
        changed_.wait(mutex_, [this]() REQUIRES(mutex_) { return ended_ || again_; });
        again_ = false;
        continue;
      }
      again_ = false;
    }
    attempt(*state);
  }
}

void InstanceConnection::attempt(const LinkState& state) {
  try {
    if (handlers_.chores) handlers_.chores({});
    if (state.stage == LinkState::Stage::kPending) {
      note(Phase::kPending);
      if (handlers_.poll()) return;
      note_failure(Error(Code::kOk, {}));
      pause(context_.timing.poll);
    } else {
      session(state);
    }
  } catch (const Error& error) {
    if (!is_superseded(state)) failed(state, error);
  } catch (const std::exception& error) {
    failed(state, Error(Code::kInternal, error.what()));
  }
}

// The instance closes sessions of a superseded auth key. That is not a failure: reconnect without a
// pause.
bool InstanceConnection::is_superseded(const LinkState& state) {
  const std::string kid = std::exchange(session_kid_, {});
  try {
    return !kid.empty() && keys_.show(state.auth_key).kid() != kid;
  } catch (const Error&) {
    return false;
  }
}

void InstanceConnection::failed(const LinkState& state, const Error& error) {
  const bool pending = state.stage == LinkState::Stage::kPending;
  note(pending                    ? Phase::kPending
       : is_refusal(error.code()) ? Phase::kRefusedByPeer
                                  : Phase::kUnreachable);
  int failures = 0;
  WallTime heard{};
  {
    const MutexLock lock(mutex_);
    heard = report_.last_heartbeat;
    report_.code = error.code();
    report_.text = error.what();
    failures = ++report_.failures;
  }
  // Each setback is logged once; times and addresses in its text do not matter.
  const std::string news(code_name(error.code()));
  if (told_ != news) {
    keys::KeyEvent happening;
    happening.weight = is_refusal(error.code()) ? keys::KeyEvent::Weight::kAlarm
                                                : keys::KeyEvent::Weight::kWarning;
    happening.what = "link.down";
    happening.kid = error.kid();
    happening.actor = "internal:link";
    happening.outcome = code_name(error.code());
    happening.detail = error.what();
    if (heard != WallTime{}) happening.detail += "; last acknowledged " + rfc3339(heard);
    if (context_.tell) context_.tell(happening);
  }
  told_ = news;
  const auto patience = pause_after(failures, context_.timing);
  // A key that the token has lost, or does not show yet: retry sooner, because that does not reach
  // the instance.
  const bool own = error.code() == Code::kKeyLost;
  pause(pending ? context_.timing.poll : own ? std::min(patience, kOwnKey) : patience);
}

void InstanceConnection::session(const LinkState& state) {
  // Keep the last failure until a connection succeeds.
  if (report().failures == 0) note(Phase::kConnecting);
  const auto auth = keys_.show(state.auth_key), transport = keys_.show(state.transport_key);
  require_in_force(auth);
  session_kid_ = auth.kid();
  Session session(library_.get(), options_for(state, auth.kid(), context_.timing));
  session.auth_kid = auth.kid();
  session.transport_kid = transport.kid();
  session.transport = {{"spki", to_base64url(as_bytes(transport.spki()))},
                       {"envelope", transport.envelope()}};
  session.auth_name = state.auth_key;
  session.transport_name = state.transport_key;
  welcome(session, state);
  {
    const MutexLock lock(mutex_);
    report_.peer = session.link.peer();
    report_.auth_kid = session.auth_kid;
    report_.connected = report_.last_heartbeat = context_.clock->now();
    report_.code = Code::kOk;
    report_.text.clear();
    report_.failures = 0;
  }
  note(Phase::kConnected);
  told_.clear();
  const auto& peer = session.link.peer();
  keys::KeyEvent happening{keys::KeyEvent::Weight::kInfo,
                           "link.up",
                           state.auth_key,
                           auth.kid(),
                           "internal:link",
                           "ok",
                           {}};
  happening.detail = "instance " + state.instance + " at " + peer.address + ", " +
                     peer.tls_version + " with " + peer.group + ", its certificate " + peer.serial +
                     " until " + peer.valid_until + own_certificate(state, auth.kid());
  if (context_.tell) context_.tell(happening);
  if (handlers_.connected) handlers_.connected();
  serve(session);
}

// Synced before it is sent: a value that the instance acknowledged, but whose acknowledgment was
// lost, is sent again and does not look like a copy's. When the disk cannot be written, the last
// value is sent again.
std::string InstanceConnection::next_session() {
  const auto state = store_.get();
  if (!state || !state->next_session.empty()) return state ? state->next_session : std::string();
  const std::string fresh = to_base64url(random_bytes(24));
  try {
    store_.update([&](LinkState& kept) { kept.next_session = fresh; });
  } catch (const Error& error) {
    log_warning("link", error.what());
    return state->session;
  }
  return fresh;
}

// Sends "hello" and waits for "welcome", which names the auth key that the instance has for this
// agent. The session is established only then.
void InstanceConnection::welcome(Session& session, const LinkState& state) {
  Json hello{{"type", "hello"},
             {"version", context_.version},
             {"host", host_name()},
             {"auth_kid", session.auth_kid},
             {"transport_kid", session.transport_kid},
             {"busy", handlers_.busy && handlers_.busy()}};
  if (!state.epoch.empty()) hello["epoch"] = state.epoch;
  const std::string next = next_session();
  if (!next.empty()) {
    hello["session"] = state.session;
    hello["next_session"] = next;
  }
  if (!state.confirmation.empty()) {
    // For an instance that was restored from a backup. It checks whether it is of this key.
    hello["transport"] = session.transport;
    hello["transport"]["confirmation"] = state.confirmation;
  }
  session.send(hello);
  std::optional<std::string> text;
  try {
    text = session.link.receive(context_.timing.welcome);
  } catch (const Error& error) {
    if (error.code() != Code::kPeer) throw;
    throw Error(Code::kRefusedByPeer, std::string("before its welcome: ") + error.what());
  }
  if (!text) throw Error(Code::kPeer, "timeout while waiting for the instance's welcome");
  const Answer said(*text);
  if (said.text("type") != "welcome")
    throw Error(Code::kPeer, "the instance's first message was not a welcome");
  const auto require = [&](const char* field, const std::string& ours) {
    const std::string theirs = said.text(field);
    if (theirs == ours) return;
    throw Error(Code::kIntegrity, std::string("the instance's welcome is for another ") + field +
                                      ": " + escape_controls(theirs));
  };
  require("agent", state.agent);
  require("instance", state.instance);
  require("auth_kid", session.auth_kid);
  // The instance may not know the end of a rekey yet, but it must name one of our keys.
  const std::string sealed_to = said.text("transport_kid");
  const auto ours = keys_.generations(state.transport_key);
  if (std::none_of(ours.begin(), ours.end(), [&](const auto& k) { return k.kid() == sealed_to; }))
    throw Error(Code::kIntegrity, "the instance seals to a key that this agent does not have, " +
                                      escape_controls(sealed_to) +
                                      "; enroll again: keyagent enroll URL --replace");
  const double beat = std::clamp(said.seconds("heartbeat_s"), 0.1, 300.0);
  session.heartbeat = std::chrono::milliseconds(static_cast<long>(beat * 1000));
  epoch_.hear(state, said.text_or("epoch", {}));
  hear_audit(said);
  if (!next.empty() && said.text_or("session", {}) == next) {
    store_.update([&](LinkState& kept) {
      if (kept.next_session != next) return;
      kept.session = next;
      kept.next_session.clear();
    });
  }
  if (handlers_.acknowledged)
    handlers_.acknowledged(std::chrono::seconds(
        std::min<std::uint64_t>(said.number_or("credential_max_age_s", 0), kMaxLimitSeconds)));
  const auto off = parse_rfc3339(said.text("time")) - context_.clock->now();
  if (off > kSkew || off < -kSkew)
    log_warning("link", "the instance's clock says " + said.text("time") +
                            ": one of the two clocks is wrong");
}

void InstanceConnection::hear_audit(const Answer& said) {
  if (!context_.audit.hear || !said.has("audit")) return;
  context_.audit.hear(said.is_null("audit") ? std::nullopt
                                            : std::optional(said.object("audit").dump()));
}

void InstanceConnection::send_heartbeat(Session& session) {
  if (session.sent - session.acknowledged >= kUnanswered)
    throw Error(Code::kPeer, "the instance acknowledges no heartbeats");
  Json keys = Json::array();
  for (const auto& name : {session.auth_name, session.transport_name}) {
    for (const auto& key : keys_.generations(name)) keys.push_back(brief(key));
  }
  Json beat{{"type", "heartbeat"}, {"n", ++session.sent}, {"keys", keys}};
  const auto checkpoint = context_.audit.offer ? context_.audit.offer() : std::nullopt;
  if (checkpoint) beat["audit"] = checkpoint->empty() ? Json() : Json::parse(*checkpoint);
  session.send(beat);
}

void InstanceConnection::serve(Session& session) {
  const UplinkHandlers::Send send = [&](const Json& message) { session.send(message); };
  auto next_beat = std::chrono::steady_clock::now(), next_look = next_beat;
  while (!is_over()) {
    const auto now = std::chrono::steady_clock::now();
    if (now >= next_beat) {
      send_heartbeat(session);
      next_beat = now + session.heartbeat;
    }
    if (now >= next_look) {
      if (handlers_.chores) handlers_.chores(send);
      next_look = now + kLook;
    }
    const auto wait = std::min({next_beat, next_look}) - std::chrono::steady_clock::now();
    const auto text = session.link.receive(std::max<std::chrono::milliseconds>(
        1ms, std::chrono::duration_cast<std::chrono::milliseconds>(wait)));
    if (!text) continue;
    const Answer message(*text);
    if (message.text("type") != "heartbeat") {
      handlers_.message(message);
      next_look = {};
      continue;
    }
    const auto before = session.acknowledged;
    session.acknowledged = std::max(before, std::min(session.sent, message.number("n")));
    if (session.acknowledged > before && handlers_.acknowledged) handlers_.acknowledged({});
    hear_audit(message);
    if (const auto kept = store_.get(); kept) epoch_.hear(*kept, message.text_or("epoch", {}));
    const MutexLock lock(mutex_);
    report_.last_heartbeat = context_.clock->now();
  }
  session.link.close("the agent reconnects");
}

}  // namespace keyagent::link
