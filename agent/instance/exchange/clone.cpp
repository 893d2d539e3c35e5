// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/exchange/clone.h"

#include <unistd.h>

#include <algorithm>

#include "agent/base/error.h"
#include "agent/instance/exchange/agent_key_exchange.h"
#include "agent/instance/exchange/exchanges.h"
#include "agent/provider/remote_backend.h"
#include "agent/store/clone.h"
#include "agent/store/data_keys.h"
#include "agent/store/exchanges.h"
#include "agent/store/specifications.h"

namespace keyagent::instance {
namespace {

// Nothing is sent or exported here, only a request is stored; a store that is empty is not a
// restored one.
class RequestsOnly final : public ExchangeSurroundings {
  std::string current_epoch() override { refuse(); }
  void judge_epoch(const std::string&, const std::string&) override { refuse(); }
  void require_accepted() override {}
  void require_exchange(const std::string&, const std::string&) override { refuse(); }
  void follow_import(const std::string&, const std::string&) override { refuse(); }
  [[noreturn]] static void refuse() {
    throw Error(Code::kUnsupported, "a clone only requests keys: the instance exchanges them");
  }
};

std::string counts_text(const store::CloneCounts& counts) {
  return std::to_string(counts.specifications) + " specifications, " +
         std::to_string(counts.data_keys) + " names of keys, " + std::to_string(counts.records) +
         " records, " + std::to_string(counts.credentials) + " credentials, " +
         std::to_string(counts.users) + " users";
}

// A key that is closed has no record.
std::vector<std::string> without_keys(store::Store& store) {
  std::vector<std::string> found;
  for (const auto& each : store.specifications().all()) {
    const auto keys = store.data_keys().list(each.name);
    if (std::any_of(keys.begin(), keys.end(), [](const auto& key) { return !key.closed; }))
      found.push_back(each.name);
  }
  return found;
}

}  // namespace

Cloned clone(const InstanceConfig& config, const CloneOptions& wish, const Clock& clock) {
  if (!is_frequency(wish.frequency) || wish.frequency == "adhoc")
    throw Error(Code::kUsage, "a clone must use one-time-clone or recurring-clone");
  store::Store store({config.store_url});
  Recorder recorder(store, clock);
  AgentKeyExchange door(config, clock);
  door.make_keys();
  if (const auto missing = door.cannot_exchange(); !missing.empty())
    throw Error(Code::kUnsupported, "this host's token lacks " + missing +
                                        ": a clone on this host could not read any data");

  HttpsLine line(std::make_shared<tls::Library>(
      std::make_shared<provider::RemoteBackend>(config.agent_socket)));
  RequestsOnly around;
  Exchanges exchanges(door, line, store, recorder, clock, around);
  const std::string by = "uid " + std::to_string(::geteuid());
  exchanges.peers().add(
      {{"name", wish.peer}, {"identity", wish.identity}, {"url", wish.url}, {"ca", wish.ca}}, by);

  Cloned done;
  done.identity = door.identity().kid.text();
  done.before = store.cloned_from() == wish.identity;
  if (!done.before)
    done.counts = store.clone({wish.store, wish.identity, wish.users}, [&](const auto& counts) {
      return recorder.make(Outcome::kDone, by, "instance.clone", wish.identity,
                           counts_text(counts));
    });
  done.specifications = without_keys(store);
  const auto asked =
      store.exchanges().list({.own = done.identity, .peer = wish.identity, .side = "target"});
  if (!asked.empty()) {
    done.request = asked.front().id;
  } else if (!done.specifications.empty()) {
    done.request = exchanges.request({{"peer", wish.peer},
                                      {"specifications", done.specifications},
                                      {"frequency", wish.frequency},
                                      {"rekey", wish.rekey}},
                                     by)["id"];
  }
  return done;
}

}  // namespace keyagent::instance
