// SPDX-License-Identifier: Apache-2.0
// keyagent worker

#include <signal.h>
#include <unistd.h>

#include "agent/base/error.h"
#include "agent/base/log.h"
#include "agent/cli/cli.h"
#include "agent/process/service_manager.h"
#include "agent/worker/worker.h"

namespace keyagent::cli {
namespace {

std::filesystem::path socket_of(const Session& session, const worker::WorkerConfig& config) {
  const bool said = !session.globals.socket.empty() || config.socket.empty();
  return said ? client::socket_path(session.globals.socket) : config.socket;
}

void check(Session& session, const std::string& file) {
  const auto config = worker::load_worker_config(file);
  Json list = Json::array();
  std::string text = "the worker configuration is valid:\n";
  for (const auto& each : config.handlers) {
    list.push_back({{"name", each.name},
                    {"program", each.program.string()},
                    {"seconds", each.seconds.count()},
                    {"memory", each.memory},
                    {"parallel", each.parallel}});
    text += "  " + each.name + "  " + each.program.string() + "  " +
            std::to_string(each.seconds.count()) + " s, " + std::to_string(each.parallel) +
            " at once\n";
  }
  session.tell({{"usable", true}, {"handlers", list}}, text);
}

// A file with a fault changes nothing.
void reload(worker::Worker& runner, const std::string& file) {
  process::notify_reloading();
  try {
    runner.use(worker::load_worker_config(file));
    log_info("worker", "reloaded: " + std::to_string(runner.places()) + " places");
  } catch (const Error& error) {
    log_error("worker",
              std::string("not reloaded, the previous file stays in effect: ") + error.what());
  }
  process::notify_ready("taking tasks");
}

void serve(Session& session, const std::string& file) {
  auto config = worker::load_worker_config(file);
  const auto socket = socket_of(session, config);
  // Block them before any thread starts: this thread receives all signals. SIGPIPE is ignored,
  // because a handler need not read its input.
  sigset_t signals;
  ::sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) ::sigaddset(&signals, signal);
  ::sigprocmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  worker::Worker runner(std::move(config), socket);
  log_info("worker", "taking tasks from " + socket.string() + ", " +
                         std::to_string(runner.places()) + " at once");
  process::notify_ready("taking tasks");
  bool draining = false;
  while (!draining || !runner.is_done()) {
    const timespec tick{0, 100000000L};
    const int signal =
        draining ? ::sigtimedwait(&signals, nullptr, &tick) : ::sigwaitinfo(&signals, nullptr);
    if (signal == SIGHUP && !draining) reload(runner, file);
    if (signal != SIGTERM && signal != SIGINT) continue;
    log_info("worker",
             draining ? "killing the running handlers" : "stopping; running handlers may finish");
    if (draining) runner.kill();
    if (!draining) process::notify_stopping();
    runner.drain();
    draining = true;
  }
  log_info("worker", "ended");
}

}  // namespace

void add_worker_command(CLI::App& app, Session& session) {
  auto file = std::make_shared<std::string>();
  auto only_check = std::make_shared<bool>(false);
  auto* worker = add_command(
      app, "worker", "run tasks of the instance with programs of this host",
      "  keyagent worker --config /etc/keyagent/worker.yml --check   report errors, start nothing\n"
      "  keyagent worker --config /etc/keyagent/worker.yml           as keyagent-worker.service "
      "does\n"
      "  keyagent why work deploy --uid 61190                        may that user take tasks for "
      "it?\n"
      "\n"
      "SIGTERM: takes no more tasks, exits when its handlers have ended; a second one kills them. "
      "SIGHUP:\n"
      "reloads the file. Manual: keyagent-worker(1).",
      [&session, file, only_check] {
        *only_check ? check(session, *file) : serve(session, *file);
      });
  worker->add_option("--config", *file, "file with the handlers (YAML)")->required();
  worker->add_flag("--check", *only_check, "check the file and its programs, then exit");
}

}  // namespace keyagent::cli
