#include "agent/daemon/daemon.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include "agent/audit/audit_log.h"
#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/base/log.h"
#include "agent/daemon/audit_history.h"
#include "agent/daemon/checkpoint_signer.h"
#include "agent/daemon/event_reporter.h"
#include "agent/daemon/issuing_rules.h"
#include "agent/daemon/link_service.h"
#include "agent/daemon/options.h"
#include "agent/daemon/owner_marker.h"
#include "agent/daemon/pin_source.h"
#include "agent/daemon/rekey_service.h"
#include "agent/daemon/socket_folder.h"
#include "agent/daemon/ssh_face.h"
#include "agent/daemon/token_health_monitor.h"
#include "agent/gate/gate.h"
#include "agent/keys/key_store.h"
#include "agent/net/unix_server.h"
#include "agent/process/service_manager.h"
#include "agent/vault/token_vault.h"
#include "agent/wire/messages.h"

namespace keyagent::daemon {
namespace {

using namespace std::chrono_literals;

// Threads beyond those that may be inside the token: one always reads, refuses and reports.
constexpr unsigned kSpareThreads = 2;

class NetReply final : public gate::Reply {
 public:
  explicit NetReply(net::Responder responder) : responder_(std::move(responder)) {}
  bool answer(const wire::Response& response) override {
    return responder_.answer(wire::serialise(response));
  }
  void answer_at(SteadyTime when, const wire::Response& response) override {
    responder_.answer_at(when, wire::serialise(response));
  }

 private:
  const net::Responder responder_;
};

}  // namespace

struct Daemon::Impl {
  config::AgentConfig config;
  const FileLock state_lock;
  const SteadyTime started = system_clock().now_steady();
  audit::AuditLog audit;
  EventReporter chronicle{audit};
  std::atomic<bool> reconciled{false};
  std::shared_ptr<pkcs11::Token> token;
  vault::TokenVault vault;
  keys::KeyStore keys;
  AuditHistory history;
  std::mutex signer_mutex;
  std::unique_ptr<CheckpointSigner> signer;  // guarded by signer_mutex
  // The caretaker's: why not reconciled, and what was found, for the log once.
  std::string setback;
  std::set<std::string> told_findings;
  Recheck recheck;
  bool rechecks = false;  // this round only looks for keys that were missing

  std::mutex policy_mutex;
  std::shared_ptr<const policy::Policy> policy;  // guarded by policy_mutex
  WallTime policy_loaded;                        // guarded by policy_mutex
  IssuingInForce issuing{config.issuing};

  std::unique_ptr<gate::Gate> gate;
  std::unique_ptr<net::UnixServer> server;
  net::UnixServer* serving = nullptr;  // `server`, also while it ends
  std::unique_ptr<SshFace> ssh;        // ends before `server`, whose timer its requests use
  SteadyTime stuck_since{};

  // Asks the gate as everybody does, from its start to its stop.
  LinkService link;
  // Threads of their own, because all of this may hang in the module.
  RekeyService rekeys;
  TokenHealthMonitor caretaker;

  explicit Impl(config::AgentConfig config_in)
      : config(std::move(config_in)),
        state_lock((make_private_folder(config.state_folder), config.state_folder / "agent.lock")),
        audit(audit_options(config)),
        token(std::make_shared<pkcs11::Token>(config.profile, token_options())),
        vault(token),
        keys({config.state_folder, &system_clock(), config.agent_id}, vault),
        history(audit, keys, vault, config.audit_folder, [this](const auto& each) { tell(each); }),
        link(config, asker(), [this](const keys::KeyEvent& each) { chronicle.key(each); }),
        rekeys(
            keys, config.rekey, link.confirmation(), [this](const auto& each) { tell(each); },
            [this] { return reconciled.load(); }, [this] { follow_audit_key(); }),
        caretaker([this] { heal(); }) {
    load_policy();
    const auto loaded = token->status();
    chronicle.daemon("start", "version " KEYAGENT_VERSION "; module " + loaded.module.string() +
                                  " sha256 " + loaded.module_sha256);
    bring_up_keys();
    open_gate();
    caretaker.start();
    rekeys.start();
    link.start();
  }

  // Gate::handle, for those that are made before the gate.
  sshagent::SshAgent::Ask asker() {
    return
        [this](const auto& principal, wire::Request request, std::shared_ptr<gate::Reply> reply) {
          gate->handle(principal, std::move(request), std::move(reply));
        };
  }

  // Of a key: into log and audit log, an alarm to the instance too.
  void tell(const keys::KeyEvent& happening) {
    chronicle.key(happening);
    if (happening.weight == keys::KeyEvent::Weight::kAlarm) link.report(happening);
  }

  pkcs11::TokenOptions token_options() {
    pkcs11::TokenOptions options;
    options.selector = {config.token_label, config.token_serial};
    options.pin = make_pin_source(config.pin);
    options.refused_pin_file = config.state_folder / "refused-pin";
    options.state_folder = config.state_folder;
    options.on_state = [this](pkcs11::TokenState state, const std::string& detail) {
      note_token(state, detail);
    };
    return options;
  }

  void note_token(pkcs11::TokenState state, const std::string& detail) {
    if (state != pkcs11::TokenState::kUp) reconciled = false;
    chronicle.token(state, detail);
  }

  void load_policy() {
    auto fresh = policy::load_policy(config.policy.string());
    const std::lock_guard guard(policy_mutex);
    policy = std::move(fresh);
    policy_loaded = system_clock().now();
  }

  std::shared_ptr<const policy::Policy> current_policy() {
    const std::lock_guard guard(policy_mutex);
    return policy;
  }

  // Owner, ledger and audit key, as soon as the token is there. Token faults are for later; the
  // rest ends the start.
  void bring_up_keys() {
    try {
      claim_token(vault, Owner::self(config.state_folder), config.take_over);
      keys.reconcile();
      const auto made =
          keys.create({KeyName(config.audit_key), Purpose::kAudit, std::nullopt, std::nullopt});
      if (made.created) chronicle.daemon("key.create", "audit key " + made.record.kid.text());
      history.check_at_start();
      follow_audit_key();
      reconciled = true;
      setback.clear();
      tell_findings();
    } catch (const Error& error) {
      const bool later = (retryable(error.code()) && error.code() != Code::kBusy) ||
                         error.code() == Code::kTokenFull;
      const bool pin = error.code() == Code::kPinRefused || error.code() == Code::kPinLocked;
      // A ledger that must not be obeyed is served as it is: nothing can be used, and `keyagent
      // doctor` says why.
      const bool rollback = error.code() == Code::kIntegrity;
      if (!later && !pin && !rollback) throw;
      if (setback != error.what()) log_error("keys", error.what());
      setback = error.what();
    }
  }

  // Each once, and what is over. A key that its use missed was said then.
  void tell_findings() {
    std::set<std::string> now;
    for (const auto& finding : keys.findings()) {
      now.insert(finding.text);
      const bool said = rechecks && finding.kind == keys::Finding::Kind::kKeyLost;
      if (!said && !told_findings.contains(finding.text)) log_warning("keys", finding.text);
    }
    for (const auto& text : told_findings)
      if (!now.contains(text)) log_info("keys", "no longer: " + text);
    told_findings = std::move(now);
  }

  // Checkpoints are signed by the active generation of the audit key, from its switch on.
  void follow_audit_key() {
    const auto record = keys.find(config.audit_key);
    const std::lock_guard guard(signer_mutex);
    if (record.state != KeyState::kActive || (signer && signer->kid() == record.kid)) return;
    auto fresh = std::make_unique<CheckpointSigner>(keys.ops(), record.kid,
                                                    *default_signature(record.algorithm));
    audit.set_signer([use = fresh.get()](ByteView payload) { return use->sign(payload); });
    // The log may still be inside the last one.
    audit.checkpoint();
    signer = std::move(fresh);
  }

  void open_gate() {
    auto listener = process::activated_socket();
    if (!listener) {
      make_socket_folder(config.socket);
      listener = net::listen_unix(config.socket, config.socket_mode, config.socket_group);
    }
    const gate::GateOptions options = gate_options(config);
    const auto threads =
        static_cast<unsigned>(options.token_operations) + kSpareThreads + LinkService::kThreads;
    // The server's threads may call the gate before `gate` is set: they wait for it.
    std::unique_lock ready(gate_mutex);
    server = std::make_unique<net::UnixServer>(
        std::move(*listener), threads, limits_of(config),
        [this](const policy::Principal& peer, ByteView frame, net::Responder responder) {
          receive(peer, frame, std::move(responder));
        },
        net::protocol_farewell, wire::may_fail_on_a_beat);
    serving = server.get();
    gate = std::make_unique<gate::Gate>(options, services(),
                                        [this](SteadyTime when, std::function<void()> task) {
                                          serving->at(when, std::move(task));
                                        });
    gate_ready = true;
    ready.unlock();
    gate_opened.notify_all();
    if (config.ssh) open_ssh(threads);
  }

  void open_ssh(unsigned threads) {
    make_socket_folder(config.ssh->path);
    ssh = std::make_unique<SshFace>(*config.ssh, threads, limits_of(config), asker(),
                                    [this](const policy::Principal& who, audit::Event event) {
                                      if (event.outcome == "ok")
                                        return audit.record_now(std::move(event));
                                      gate->record_refusal(who, std::move(event));
                                    });
    log_info("daemon", "serving ssh at " + config.ssh->path.string());
  }

  std::mutex gate_mutex;
  std::condition_variable gate_opened;
  std::atomic<bool> gate_ready{false};

  void receive(const policy::Principal& peer, ByteView frame, net::Responder responder) {
    if (!gate_ready.load(std::memory_order_acquire)) {
      std::unique_lock ready(gate_mutex);
      gate_opened.wait(ready, [this] { return gate_ready.load(); });
    }
    wire::Request request;
    if (!wire::parse(frame, request)) {
      responder.answer(
          wire::failure(0, Error(Code::kUsage, "the frame holds no request of this protocol")));
      return;
    }
    gate->handle(peer, std::move(request), std::make_shared<NetReply>(std::move(responder)));
  }

  gate::Services services() {
    gate::Services out;
    out.keys = &keys;
    out.rekeys = &rekeys.runner();
    out.periods = [this] { return rekeys.periods(); };
    out.wake_rekeys = [this] { rekeys.wake(); };
    out.vault = &vault;
    out.audit = &audit;
    out.clock = &system_clock();
    out.audit_folder = config.audit_folder;
    out.audit_anchors = [this] { return history.anchors(); };
    out.policy = [this] { return current_policy(); };
    out.describe = [this](wire::StatusReply& reply) { describe(reply); };
    out.diagnose = [this] { return diagnose(); };
    out.issuing = [this] { return issuing.get(); };
    out.reload = [this] {
      const auto accepted = history.accept();
      if (!accepted.empty()) chronicle.daemon("audit.accept", accepted);
      return reload() + (accepted.empty() ? "" : "; " + accepted);
    };
    out.link = link.hooks();
    return out;
  }

  void describe(wire::StatusReply& reply) {
    reply.set_version(KEYAGENT_VERSION);
    reply.set_agent_id(config.agent_id);
    reply.set_pid(static_cast<std::uint32_t>(::getpid()));
    const auto up = system_clock().now_steady() - started;
    reply.set_uptime_ms(static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::milliseconds>(up).count()));
    reply.set_config_path(config.source.string());
    reply.set_connections(static_cast<std::uint32_t>(serving->stats().connections));
    link.describe(*reply.mutable_link());
    const std::lock_guard guard(policy_mutex);
    reply.set_policy_loaded(rfc3339(policy_loaded));
  }

  std::vector<wire::Diagnosis> diagnose() {
    std::vector<wire::Diagnosis> out;
    for (const auto& finding : config::check_config(config.source)) {
      wire::Diagnosis diagnosis;
      diagnosis.set_severity(finding.severity);
      diagnosis.set_code("CONFIGURATION");
      diagnosis.set_subject(finding.where);
      diagnosis.set_text(finding.text);
      diagnosis.set_cure(finding.cure);
      out.push_back(std::move(diagnosis));
    }
    if (const auto fault = rekeys.clock_fault(); !fault.empty()) {
      wire::Diagnosis diagnosis;
      diagnosis.set_severity("warning");
      diagnosis.set_code("KEY_STATE");
      diagnosis.set_subject("clock");
      diagnosis.set_text(fault + "; until it is trusted nothing expires and nothing is destroyed");
      diagnosis.set_cure("set the clock; if it is right as it is: keyagent reload");
      out.push_back(std::move(diagnosis));
    }
    for (auto& each : history.diagnose()) out.push_back(std::move(each));
    for (auto& each : link.diagnose()) out.push_back(std::move(each));
    return out;
  }

  // Policy and limits; what else changed in the file needs a restart, and is said. A file with a
  // fault changes nothing.
  std::string reload() {
    const auto fresh = config::load_config(config.source);
    load_policy();
    serving->set_limits(limits_of(fresh));
    if (ssh) ssh->set_limits(limits_of(fresh));
    gate->forgive(fresh.failures_per_key_per_day);
    rekeys.reload(fresh.rekey);
    issuing.set(fresh.issuing);
    const bool restart = fresh.token_uri != config.token_uri || fresh.socket != config.socket ||
                         fresh.ssh != config.ssh || fresh.state_folder != config.state_folder;
    const std::string text =
        std::string("policy, limits and cryptoperiods are in force") +
        (restart ? "; token, sockets and state folder change at the next start" : "");
    chronicle.daemon("config.reload", text);
    log_info("daemon", "reloaded: " + text);
    return text;
  }

  void reload_quietly() {
    process::notify_reloading();
    try {
      reload();
    } catch (const Error& error) {
      log_error("daemon",
                std::string("not reloaded, the old policy stays in force: ") + error.what());
    }
    process::notify_ready(status_line());
  }

  std::string status_line() {
    const auto status = token->status();
    return status.state == pkcs11::TokenState::kUp ? "token " + status.label + " is up"
                                                   : "token: " + status.detail;
  }

  // Once a second: heal the token and finish what waited for it.
  void heal() {
    const auto status = token->status();
    if (status.stuck_calls != 0) return;
    if (status.state != pkcs11::TokenState::kUp && !token->check_health()) return;
    rechecks = reconciled && recheck.due(keys.misses_keys(), system_clock().now_steady());
    if (rechecks) reconciled = false;
    if (!reconciled) bring_up_keys();
    if (reconciled) history.anchor();
  }

  // Ends a process whose module hangs, and one that must not have this token.
  void watch() {
    caretaker.rethrow_failure();
    const auto now = system_clock().now_steady();
    // One call that hangs is enough: its session and its thread come back in no other way.
    const auto status = token->status();
    if (status.stuck_calls == 0 && status.state != pkcs11::TokenState::kStuck) {
      stuck_since = {};
    } else if (stuck_since == SteadyTime{}) {
      stuck_since = now;
    } else if (now - stuck_since > config.stuck_exit) {
      end_stuck();
    }
  }

  [[noreturn]] void end_stuck() {
    log_error("daemon", "the module has not come back for " +
                            std::to_string(config.stuck_exit.count() / 1000) +
                            " s; ending, the service manager restarts me");
    try {
      chronicle.daemon("stop", "the PKCS#11 module hangs");
    } catch (const Error&) {
      // The end must not depend on the disk.
    }
    ::_exit(4);
  }

  void end_service() {
    link.stop();
    if (gate) gate->stop();
    ssh.reset();
    server.reset();
    rekeys.stop();
    caretaker.stop();
  }

  // At most 5 s for what is in flight. Whoever is inside a module that hangs is not waited for.
  void stop() {
    process::notify_stopping();
    std::thread([] {
      std::this_thread::sleep_for(8s);
      ::_exit(4);
    }).detach();
    end_service();
    chronicle.daemon("stop", "orderly");
    audit.checkpoint();
    if (reconciled) history.anchor(true);
    release_token(vault);
  }

  ~Impl() {
    end_service();
    audit.set_signer({});
    audit.checkpoint();
  }
};

Daemon::Daemon(config::AgentConfig config) : impl_(std::make_unique<Impl>(std::move(config))) {}
Daemon::~Daemon() = default;

int Daemon::run() {
  sigset_t signals;
  ::sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) ::sigaddset(&signals, signal);
  process::notify_ready(impl_->status_line());
  log_info("daemon", "serving " + impl_->config.socket.string());
  const auto watchdog = process::watchdog_interval();
  const timespec tick{watchdog && *watchdog < 2s ? 0 : 1,
                      watchdog && *watchdog < 2s ? 200000000L : 0};
  for (;;) {
    const int signal = ::sigtimedwait(&signals, nullptr, &tick);
    if (signal == SIGTERM || signal == SIGINT) break;
    if (signal == SIGHUP) impl_->reload_quietly();
    impl_->watch();
    process::notify_alive();
  }
  log_info("daemon", "stopping");
  impl_->stop();
  return 0;
}

}  // namespace keyagent::daemon
