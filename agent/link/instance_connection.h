// SPDX-License-Identifier: Apache-2.0
#pragma once
// The agent's one connection to its instance, kept by a thread: connect, be acknowledged, stay.

#include <functional>
#include <optional>
#include <string>
#include <thread>

#include "agent/base/error.h"
#include "agent/base/mutex.h"
#include "agent/link/answer.h"
#include "agent/link/epoch.h"
#include "agent/link/link_context.h"
#include "agent/link/link_state.h"
#include "agent/link/own_keys.h"

namespace keyagent::link {

enum class Phase { kNotEnrolled, kPending, kConnecting, kConnected, kRefusedByPeer, kUnreachable };
// "not_enrolled" "pending" "connecting" "connected" "refused_by_peer" "unreachable"
const char* name_of(Phase phase);

struct UplinkReport {
  Phase phase = Phase::kNotEnrolled;
  Code code = Code::kOk;  // of the last failure; kOk once connected
  std::string text;
  WallTime since{}, next_try{}, connected{}, last_heartbeat{};
  std::optional<tls::Peer> peer;  // of the current session
  std::string auth_kid;           // that the instance has acknowledged
  int failures = 0;
};

// The pause after this many consecutive failures: exponential, with a random part of one half, so
// that the agents of a fleet do not reconnect at once. Thread-safe.
std::chrono::milliseconds pause_after(int failures, const Timing& timing);

// What others do on the link. Called on its thread; may throw Error, which ends the session.
struct UplinkHandlers {
  using Send = std::function<void(const nlohmann::json&)>;
  std::function<bool()> poll;  // while pending: true when there is news of it
  std::function<bool()> busy;  // for hello
  std::function<void()> connected;
  // It has named our key in its welcome, or acknowledged a heartbeat; `limit` as
  // LastContact::acknowledged() takes it.
  std::function<void(std::chrono::milliseconds limit)> acknowledged;
  std::function<void(const Answer&)> message;
  std::function<void(const Send&)> chores;  // once a second while connected, and at each attempt,
                                            // then without `send`
};

// Thread-safe. The state is "connected" only after the instance has named our auth key in its
// welcome: in TLS 1.3 a client completes the handshake before the server has verified it (MISSION
// T6).
class InstanceConnection {
 public:
  InstanceConnection(const LinkContext& around, LinkStore& store, OwnKeys& keys,
                     TlsLibrary& library, UplinkHandlers handlers);
  ~InstanceConnection();

  void start();  // again: nothing
  void stop();
  // Something has changed: what is there ends, the next session begins at once.
  void reconnect();
  UplinkReport report() const;
  // An enrollment that came to nothing.
  void note_failure(const Error& error);
  // Until what was in progress when the state was removed is over; no longer than `patience`.
  void wait_left(std::chrono::milliseconds patience);
  // False when there is no session with this auth key after `patience`.
  bool wait_connected(const std::string& auth_kid, std::chrono::milliseconds patience);

 private:
  struct Session;
  void run();
  void attempt(const LinkState& state);
  void session(const LinkState& state);
  void welcome(Session& session, const LinkState& state);
  std::string next_session();
  void serve(Session& session);
  void send_heartbeat(Session& session);
  void hear_audit(const Answer& said);
  bool is_superseded(const LinkState& state);
  void failed(const LinkState& state, const Error& error);
  void note(Phase phase);
  bool pause(std::chrono::milliseconds time);  // until then, woken, or ended
  bool is_over();                              // ended, or to begin again

  const LinkContext& context_;
  LinkStore& store_;
  OwnKeys& keys_;
  TlsLibrary& library_;
  const UplinkHandlers handlers_;
  mutable Mutex mutex_;
  CondVar changed_;
  bool ended_ GUARDED_BY(mutex_) = false, again_ GUARDED_BY(mutex_) = false;
  UplinkReport report_ GUARDED_BY(mutex_);
  std::string told_;         // the thread's
  std::string session_kid_;  // the thread's: the auth key of the last session
  Epoch epoch_;              // the thread's
  std::thread thread_;
};

}  // namespace keyagent::link
