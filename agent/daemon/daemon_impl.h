// SPDX-License-Identifier: Apache-2.0
#pragma once
// The parts of a running agent and what they do together; daemon.cpp, bring_up.cpp, serving.cpp and
// reports.cpp only.

#include <atomic>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/audit/audit_log.h"
#include "agent/base/mutex.h"
#include "agent/daemon/audit_history.h"
#include "agent/daemon/checkpoint_signer.h"
#include "agent/daemon/daemon.h"
#include "agent/daemon/event_reporter.h"
#include "agent/daemon/issuing_rules.h"
#include "agent/daemon/limit_alarms.h"
#include "agent/daemon/link_service.h"
#include "agent/daemon/rekey_service.h"
#include "agent/daemon/ssh_face.h"
#include "agent/daemon/state_folder.h"
#include "agent/daemon/token_health_monitor.h"
#include "agent/gate/gate.h"
#include "agent/keys/key_store.h"
#include "agent/net/unix_server.h"
#include "agent/vault/token_vault.h"

namespace keyagent::daemon {

struct Daemon::Impl {
  config::AgentConfig config;
  StateFolder state;
  const SteadyTime started = system_clock().now_steady();
  audit::AuditLog audit;
  EventReporter chronicle{audit};
  std::atomic<bool> reconciled{false};
  std::shared_ptr<pkcs11::Token> token;
  vault::TokenVault vault;
  keys::KeyStore keys;
  AuditHistory history;
  Mutex signer_mutex;
  std::unique_ptr<CheckpointSigner> signer GUARDED_BY(signer_mutex);
  // The caretaker's: why not reconciled, and what was found, for the log once.
  std::string setback;
  Mutex damage_mutex;
  std::string damage GUARDED_BY(damage_mutex);  // of an object of ours in the token, for doctor
  std::set<std::string> told_findings;
  Recheck recheck;
  bool claimed = false;  // the owner marker is in the token
  SteadyTime claim_due{};
  bool rechecks = false;  // this round only searches for missing keys
  LimitAlarms limit_alarms{[this](const auto& each) { tell(each); }};
  SteadyTime limits_due{};

  Mutex policy_mutex;
  std::shared_ptr<const policy::Policy> policy GUARDED_BY(policy_mutex);
  WallTime policy_loaded GUARDED_BY(policy_mutex);
  IssuingInForce issuing{config.issuing};
  std::atomic<std::size_t> max_connections{config.connections};
  std::atomic<std::size_t> max_unfinished{config.unfinished_bytes_per_uid};
  std::atomic<std::size_t> max_history{config.ledger_history};

  Mutex gate_mutex;
  CondVar gate_opened;
  std::atomic<bool> gate_ready{false};
  class AroundTheGate;
  std::unique_ptr<gate::Surroundings> around;  // what the gate asks of all this
  std::unique_ptr<gate::Gate> gate;
  // Stopped before the threads below, which may hang in the module, and destroyed after them,
  // because they use its figures and its timer.
  std::unique_ptr<net::UnixServer> server;
  std::unique_ptr<SshFace> ssh;  // ends before `server`, whose timer its requests use
  SteadyTime stuck_since{};

  // Calls the gate like any other client, from the gate's start to its stop.
  LinkService link;
  // They have dedicated threads, because their calls may hang in the module.
  RekeyService rekeys;
  TokenHealthMonitor caretaker;

  explicit Impl(config::AgentConfig config_in);
  ~Impl();
  void end_service();
  void stop();

  // bring_up.cpp: the token, the keys in it, and what their health needs once a second.
  pkcs11::TokenOptions token_options();
  void note_token(pkcs11::TokenState state, const std::string& detail);
  void bring_up_keys();
  void note_damage(const std::string& what);
  bool ensure_audit_key();
  void tell_findings();
  void follow_audit_key();
  void resume_changes();
  void watch_limits();
  void heal();
  void watch();
  [[noreturn]] void end_stuck();

  // serving.cpp: authentication of callers, and the policy.
  sshagent::SshAgent::Ask asker();
  void load_policy();
  std::shared_ptr<const policy::Policy> current_policy();
  void open_gate();
  void open_ssh(unsigned threads);
  void receive(const policy::Principal& peer, ByteView frame, net::Responder responder);
  std::string reload();
  void reload_quietly();

  // reports.cpp: events, status and diagnoses.
  void tell(const keys::KeyEvent& happening);
  std::string use_only() const;
  std::vector<LimitUsage> usage() const;
  void complete(wire::StatusReply& reply);
  std::vector<wire::Diagnosis> diagnose();
  std::string status_line();
};

}  // namespace keyagent::daemon
