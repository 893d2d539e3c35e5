// SPDX-License-Identifier: Apache-2.0
#include "agent/link/orders.h"

#include <algorithm>
#include <vector>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/base/log.h"

namespace keyagent::link {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kMaxKept = 64;
constexpr std::size_t kMaxUnderWay = 16;

std::string reason_of(const std::string& id) {
  return "ordered by the instance, order " + id;
}

std::vector<wire::Rekey> rekeys(GateClient& gate) {
  wire::Request request;
  request.mutable_rekey_status()->set_all(true);
  const auto response = gate.call(std::move(request));
  const auto& all = response.rekey_status().rekeys();
  return {all.begin(), all.end()};
}

bool is_over(const std::string& step) {
  return step == "draining" || step == "destroyed" || step == "failed";
}

// The newest are kept: ids of rekeys grow.
void keep(LinkState& state, const std::string& id, std::uint64_t rekey) {
  state.orders[id] = rekey;
  while (state.orders.size() > kMaxKept) {
    state.orders.erase(
        std::min_element(state.orders.begin(), state.orders.end(),
                         [](const auto& a, const auto& b) { return a.second < b.second; }));
  }
}

}  // namespace

void Orders::take(const Json& theirs, const std::string& key) {
  const std::string id = theirs.is_string() ? theirs.get<std::string>() : theirs.dump();
  if (id.empty() || id.size() > 64 || escape_controls(id) != id) return;
  if (!orders_.contains(id) && orders_.size() >= kMaxUnderWay) {
    log_warning("link", "order " + id + " is ignored: " + std::to_string(kMaxUnderWay) +
                            " orders of the instance are in progress");
    return;
  }
  auto [known, fresh] = orders_.try_emplace(id);
  known->second.said.clear();
  if (!fresh) return;
  known->second.id = theirs;
  known->second.key = key;
  if (!budget_.take(key == "auth" ? key : "transport")) {
    known->second.failure = "the instance orders too many rekeys; try again in an hour";
    return;
  }
  begin(id, known->second);
}

// An order that was begun before a crash is found by its id in the ledger.
bool Orders::adopt(const LinkState& state, const std::string& id, Order& order,
                   const std::string& name) {
  if (const auto kept = state.orders.find(id); kept != state.orders.end()) {
    order.rekey = kept->second;
    return true;
  }
  for (const auto& rekey : rekeys(keys_.gate())) {
    if (rekey.name() != name || rekey.reason() != reason_of(id)) continue;
    order.rekey = rekey.id();
    return true;
  }
  return false;
}

void Orders::begin(const std::string& id, Order& order) {
  const auto state = store_.get();
  if (!state) return;
  if (order.key != "transport" && order.key != "auth") {
    order.failure = "the order is for an unknown key";
    return;
  }
  const std::string& name = order.key == "auth" ? state->auth_key : state->transport_key;
  try {
    if (!adopt(*state, id, order, name)) {
      wire::Request request;
      request.mutable_rekey()->set_name(name);
      request.mutable_rekey()->set_reason(reason_of(id));
      // Joins a rekey that is in progress.
      order.rekey = keys_.gate().call(std::move(request), "instance").rekey().rekey().id();
    }
    store_.update([&](LinkState& fresh) { keep(fresh, id, order.rekey); });
  } catch (const Error& error) {
    if (!retryable(error.code())) order.failure = error.what();
  }
}

void Orders::look(const UplinkHandlers::Send& send) {
  if (orders_.empty() || !send) return;
  for (auto& [id, order] : orders_) {
    if (order.rekey == 0 && order.failure.empty()) begin(id, order);
  }
  const auto all = rekeys(keys_.gate());
  for (auto each = orders_.begin(); each != orders_.end();) {
    auto& [id, order] = *each;
    Json report{{"type", "rekey"}, {"id", order.id}, {"step", "planned"},
                {"old_kid", ""},   {"new_kid", ""},  {"text", order.failure}};
    if (!order.failure.empty()) report["step"] = "failed";
    for (const auto& rekey : all) {
      if (order.rekey == 0 || rekey.id() != order.rekey) continue;
      const bool given_up = rekey.step() == "aborting" || rekey.step() == "aborted";
      report["step"] = given_up ? "failed" : rekey.step();
      report["old_kid"] = rekey.old_kid();
      report["new_kid"] = rekey.new_kid();
      report["text"] = given_up ? rekey.reason() : rekey.waits_for();
    }
    if (const std::string said = report.dump(); said != order.said) {
      send(report);
      order.said = said;
    }
    each = is_over(report["step"]) ? orders_.erase(each) : std::next(each);
  }
}

void Orders::repeat() {
  for (auto& [id, order] : orders_) order.said.clear();
}

}  // namespace keyagent::link
