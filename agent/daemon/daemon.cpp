// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/daemon.h"

#include <signal.h>
#include <unistd.h>

#include <thread>
#include <utility>

#include "agent/base/error.h"
#include "agent/base/log.h"
#include "agent/daemon/daemon_impl.h"
#include "agent/daemon/options.h"
#include "agent/daemon/owner_marker.h"
#include "agent/process/service_manager.h"

namespace keyagent::daemon {

using namespace std::chrono_literals;

Daemon::Impl::Impl(config::AgentConfig config_in)
    : config(std::move(config_in)),
      state(config.state_folder),
      audit(audit_options(config)),
      token(std::make_shared<pkcs11::Token>(config.profile, token_options())),
      vault(token),
      keys({config.state_folder, &system_clock(), config.agent_id, config.ledger_history}, vault),
      history(audit, keys, vault, config.audit_folder, [this](const auto& each) { tell(each); }),
      link(config, asker(), [this](const keys::KeyEvent& each) { chronicle.key(each); },
           {[this] { return history.offer(); }, [this](const auto& kept) { history.hear(kept); }}),
      rekeys(
          keys, config.rekey, link.confirmation(), [this](const auto& each) { tell(each); },
          [this] { return reconciled.load() && use_only().empty(); },
          [this] { follow_audit_key(); }),
      caretaker([this] { heal(); }) {
  load_policy();
  const auto loaded = token->status();
  chronicle.daemon_if_possible("start", "version " KEYAGENT_VERSION "; module " +
                                            loaded.module.string() + " sha256 " +
                                            loaded.module_sha256);
  bring_up_keys();
  // Callers may be served when the rest fails: they use what would go first.
  try {
    open_gate();
    caretaker.start();
    rekeys.start();
    link.start();
  } catch (...) {
    end_service();
    throw;
  }
}

Daemon::Impl::~Impl() {
  end_service();
  audit.set_signer({});
  audit.checkpoint();
}

void Daemon::Impl::end_service() {
  link.stop();
  if (gate) gate->stop();
  ssh.reset();
  if (server) server->stop();
  rekeys.stop();
  caretaker.stop();
}

// Waits at most 5 s for requests in flight, but not for threads stuck in a PKCS#11 module.
void Daemon::Impl::stop() {
  process::notify_stopping();
  std::thread([] {
    std::this_thread::sleep_for(8s);
    ::_exit(4);
  }).detach();
  end_service();
  chronicle.daemon_if_possible("stop", "orderly");
  audit.checkpoint();
  if (reconciled) history.anchor(true);
  release_token(vault);
}

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
