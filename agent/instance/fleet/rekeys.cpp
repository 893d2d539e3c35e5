// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/fleet/rekeys.h"

#include <algorithm>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/instance/fleet/trust.h"
#include "agent/store/agents.h"
#include "agent/store/rekeys.h"
#include "agent/store/restoration.h"
#include "agent/store/settings.h"

namespace keyagent::instance {
namespace {

constexpr int kMaxTries = 5;

bool contains(const std::vector<std::string>& list, const std::string& value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

bool ended(const store::Rekey& rekey) {
  return rekey.state == "confirmed" || rekey.state == "failed" || rekey.state == "cancelled";
}

Json describe(const store::Rekey& rekey) {
  return {{"id", rekey.id},
          {"batch", rekey.batch},
          {"agent", rekey.agent},
          {"key", rekey.key},
          {"state", rekey.state},
          {"old_kid", rekey.old_kid},
          {"new_kid", rekey.new_kid},
          {"ordered_by", rekey.ordered_by},
          {"detail", rekey.detail},
          {"ordered", time_json(rekey.ordered)},
          {"changed", time_json(rekey.changed)},
          {"canary", rekey.canary}};
}

std::string setting_of(const std::string& batch) {
  return "rekey-batch/" + batch;
}

}  // namespace

Rekeys::Rekeys(store::Store& store, Links& links, Recorder& recorder, const Clock& clock)
    : store_(store), links_(links), recorder_(recorder), clock_(clock) {}

Json Rekeys::order(const Json& request, const std::string& by) {
  const auto ids = texts_of(request, "agents"), groups = texts_of(request, "groups");
  const bool all = flag_of(request, "all", false);
  const auto key = text_of(request, "key", "transport");
  if (key != "transport" && key != "auth")
    throw Error(Code::kUsage, "'key' must be transport or auth");
  const auto percent = number_of(request, "canary_percent", 10, 0, 100);
  const auto parallel = number_of(request, "parallel", 4, 1, 10000);
  std::vector<store::Agent> chosen;
  for (const auto& agent : store_.agents().all()) {
    const bool grouped = std::any_of(agent.groups.begin(), agent.groups.end(),
                                     [&](const auto& group) { return contains(groups, group); });
    const bool named = contains(ids, agent.id);
    if (named && agent.state != name_of(Trust::kTrusted))
      throw Error(Code::kKeyState, "the agent " + agent.id + " is " + agent.state);
    if ((all || grouped || named) && agent.state == name_of(Trust::kTrusted))
      chosen.push_back(agent);
  }
  for (const auto& id : ids) {
    if (!store_.agents().find(id)) throw Error(Code::kUsage, "there is no agent '" + id + "'");
  }
  if (chosen.empty()) throw Error(Code::kUsage, "no trusted agent matches");
  // A single agent needs no canary.
  const auto canaries =
      chosen.size() == 1 ? 0 : (chosen.size() * static_cast<std::size_t>(percent) + 99) / 100;
  const std::string batch = to_hex(random_bytes(8));
  std::vector<store::Rekey> rekeys;
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    store::Rekey rekey;
    rekey.batch = batch;
    rekey.agent = chosen[i].id;
    rekey.key = key;
    rekey.state = "ordered";
    rekey.old_kid = key == "auth" ? chosen[i].auth_kid : chosen[i].transport_kid;
    rekey.ordered_by = by;
    rekey.ordered = rekey.changed = clock_.now();
    rekey.canary = i < canaries;
    rekeys.push_back(std::move(rekey));
  }
  store_.rekeys().add_batch(rekeys, setting_of(batch), Json{{"parallel", parallel}}.dump());
  recorder_.record(Outcome::kDone, "user " + by, "rekey.order", batch,
                   std::to_string(chosen.size()) + " agents");
  store_.notify(kNotice);
  pump();
  Json out = list(batch);
  out["batch"] = batch;
  return out;
}

Json Rekeys::list(const std::string& batch) const {
  Json out = Json::array();
  for (const auto& each :
       batch.empty() ? store_.rekeys().list({}, false) : store_.rekeys().of_batch(batch))
    out.push_back(describe(each));
  return {{"rekeys", out}};
}

Json Rekeys::cancel(const std::string& batch, const std::string& by) {
  int count = 0;
  for (const auto& each : store_.rekeys().of_batch(batch)) {
    if (each.state == "ordered" && finish(each, "ordered", "cancelled", "by " + by)) ++count;
  }
  recorder_.record(Outcome::kDone, "user " + by, "rekey.cancel", batch,
                   std::to_string(count) + " orders");
  return list(batch);
}

bool Rekeys::finish(store::Rekey rekey, const std::string& from, const std::string& state,
                    const std::string& detail) {
  rekey.state = state;
  rekey.detail = detail;
  rekey.changed = clock_.now();
  const bool moved = state == "confirmed" ? store_.rekeys().confirm(rekey, from)
                                          : store_.rekeys().move(rekey, from);
  if (!moved) return false;
  if (state == "cancelled") return true;
  // There is a place for the next, which may be at another replica.
  store_.notify(kNotice);
  recorder_.record(state == "failed" ? Outcome::kFailed : Outcome::kDone, "agent " + rekey.agent,
                   "rekey." + state, std::to_string(rekey.id), detail);
  return true;
}

void Rekeys::send(const store::Rekey& rekey) {
  links_.send_order(rekey.agent, rekey.id,
                    {{"type", "rekey"}, {"id", std::to_string(rekey.id)}, {"key", rekey.key}});
}

void Rekeys::repeat(const std::string& agent_id) {
  if (store_.restoration().find()) return;
  for (const auto& each : store_.rekeys().sent(agent_id)) send(each);
}

void Rekeys::pump() {
  if (store_.restoration().find()) return;
  for (const auto& batch : store_.rekeys().ordered_batches()) pump(batch);
}

// What may be sent is decided by the store, when the order is claimed; here it is guessed, so that
// not every replica asks for every order.
void Rekeys::pump(const std::string& batch) {
  const auto setting = store_.settings().get(setting_of(batch));
  const auto most = setting ? number_of(parse_object(*setting), "parallel", 4, 1, 10000) : 4;
  const auto counts = store_.rekeys().count(batch);
  if (counts.failed > 0) {
    for (const auto& each : store_.rekeys().of_batch(batch)) {
      if (each.state == "ordered")
        finish(each, "ordered", "cancelled", "another agent of the batch failed");
    }
    return;
  }
  if (counts.under_way >= most) return;
  const auto places = static_cast<std::size_t>(most - counts.under_way);
  const auto ready =
      store_.rekeys().ready(batch, links_.replica(), counts.open_canaries > 0, places);
  if (ready.empty()) return;
  // A replica that ends here has lost nothing: repeat() sends it on the agent's next link.
  for (const auto& each : store_.rekeys().claim(batch, ready, most, clock_.now())) send(each);
}

void Rekeys::report(const std::string& agent_id, const Json& message) {
  const auto id = text_of(message, "id");
  if (id.empty() || id.size() > 18 || id.find_first_not_of("0123456789") != std::string::npos)
    throw Error(Code::kUsage, "'id' is not the id of an order");
  // Retried after a concurrent change at another replica.
  for (int i = 0; i < kMaxTries; ++i) {
    auto rekey = store_.rekeys().find(std::stoll(id));
    if (!rekey || rekey->agent != agent_id || ended(*rekey)) return;
    if (note(*std::move(rekey), message)) return;
  }
}

bool Rekeys::note(store::Rekey rekey, const Json& message) {
  const std::string from = rekey.state, step = text_of(message, "step");
  rekey.new_kid = text_of(message, "new_kid", rekey.new_kid);
  const auto text = text_of(message, "text", "").substr(0, 500);
  if (step == "failed" || step == "aborted" || step == "aborting")
    return finish(rekey, from, "failed", text.empty() ? step : text);
  const auto agent = store_.agents().find(rekey.agent);
  const auto& trusted = rekey.key == "auth" ? agent->auth_kid : agent->transport_kid;
  const bool done = step == "switched" || step == "draining" || step == "destroyed";
  if (done && trusted == rekey.new_kid && trusted != rekey.old_kid)
    return finish(rekey, from, "confirmed", step);
  rekey.state = step == "proved" || done ? "staged" : "sent";
  rekey.detail = text.empty() ? step : step + ": " + text;
  rekey.changed = clock_.now();
  return store_.rekeys().move(rekey, from);
}

}  // namespace keyagent::instance
