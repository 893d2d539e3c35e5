// SPDX-License-Identifier: Apache-2.0
#include "agent/link/link_state.h"

#include <nlohmann/json.hpp>
#include <set>

#include "agent/base/disk.h"
#include "agent/base/error.h"
#include "agent/base/leftovers.h"
#include "agent/base/log.h"
#include "agent/base/strict_json.h"

namespace keyagent::link {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr int kFormat = 1;
// With a revocation list of 100,000 certificates.
constexpr JsonLimits kStateLimits{16 << 20, 2};

struct Text {
  const char* name;
  std::string LinkState::*member;
};
constexpr Text kTexts[] = {
    {"url", &LinkState::url},
    {"ca_fingerprint", &LinkState::ca_fingerprint},
    {"agent", &LinkState::agent},
    {"auth_key", &LinkState::auth_key},
    {"transport_key", &LinkState::transport_key},
    {"enrolment", &LinkState::enrollment},
    {"challenge", &LinkState::challenge},
    {"instance", &LinkState::instance},
    {"agents_url", &LinkState::agents_url},
    {"ca", &LinkState::ca},
    {"crl", &LinkState::crl},
    {"confirmation_key", &LinkState::confirmation_key},
    {"rotation", &LinkState::rotation},
    {"rotation_kid", &LinkState::rotation_kid},
};

// Written only where there is one: what came later.
constexpr Text kOptionalTexts[] = {{"epoch", &LinkState::epoch},
                                   {"confirmation", &LinkState::confirmation},
                                   {"contact", &LinkState::contact},
                                   {"seen", &LinkState::seen},
                                   {"session", &LinkState::session},
                                   {"next_session", &LinkState::next_session},
                                   {"credential_limit", &LinkState::credential_limit}};

constexpr const char* kRequireBound = "require_bound";  // written only where it is true

[[noreturn]] void refuse_state(const std::string& why) {
  throw Error(Code::kIntegrity, "the state of the link to the instance cannot be read: " + why +
                                    "; enroll again with: keyagent enroll --replace");
}

const OrderedJson& member(const OrderedJson& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end()) refuse_state(std::string("'") + name + "' is missing");
  return *found;
}

std::string text_in_state(const OrderedJson& value, const char* name) {
  if (!value.is_string()) refuse_state(std::string("'") + name + "' is not a string");
  return value.get<std::string>();
}

void require_known_names(const OrderedJson& object) {
  std::set<std::string> known{"format", "stage", "certificates", "orders", kRequireBound};
  for (const auto& each : kTexts) known.insert(each.name);
  for (const auto& each : kOptionalTexts) known.insert(each.name);
  for (const auto& [name, value] : object.items()) {
    if (!known.contains(name)) refuse_state("'" + name + "' is unknown");
  }
}

}  // namespace

std::string to_text(const LinkState& state) {
  OrderedJson out{{"format", kFormat},
                  {"stage", state.stage == LinkState::Stage::kPending ? "pending" : "trusted"}};
  for (const auto& each : kTexts) out[each.name] = state.*each.member;
  for (const auto& each : kOptionalTexts) {
    if (!(state.*each.member).empty()) out[each.name] = state.*each.member;
  }
  if (state.require_bound) out[kRequireBound] = true;
  out["certificates"] = state.certificates;
  out["orders"] = state.orders;
  return out.dump(2) + "\n";
}

LinkState parse_link_state(std::string_view text) {
  const auto parsed = parse_strict_object<OrderedJson>(text, kStateLimits);
  if (!parsed) refuse_state("it is not a JSON object");
  const OrderedJson& object = *parsed;
  require_known_names(object);
  if (member(object, "format") != kFormat) refuse_state("its format is unknown");
  LinkState state;
  const std::string stage = text_in_state(member(object, "stage"), "stage");
  if (stage != "pending" && stage != "trusted") refuse_state("'stage' is unknown");
  state.stage = stage == "pending" ? LinkState::Stage::kPending : LinkState::Stage::kTrusted;
  for (const auto& each : kTexts)
    state.*each.member = text_in_state(member(object, each.name), each.name);
  for (const auto& each : kOptionalTexts) {
    if (object.contains(each.name))
      state.*each.member = text_in_state(member(object, each.name), each.name);
  }
  if (const auto bound = object.find(kRequireBound); bound != object.end()) {
    if (!bound->is_boolean()) refuse_state("'require_bound' is not true or false");
    state.require_bound = bound->get<bool>();
  }
  const OrderedJson& certificates = member(object, "certificates");
  const OrderedJson& orders = member(object, "orders");
  if (!certificates.is_object() || !orders.is_object()) refuse_state("a list is invalid");
  for (const auto& [kid, chain] : certificates.items())
    state.certificates[kid] = text_in_state(chain, "certificates");
  for (const auto& [order, rekey] : orders.items()) {
    if (!rekey.is_number_unsigned()) refuse_state("'orders' contains a value that is not a number");
    state.orders[order] = rekey.get<std::uint64_t>();
  }
  return state;
}

LinkStore::LinkStore(const std::filesystem::path& folder) : path_(folder / "link.json") {
  remove_leftovers(folder, "link.json");
  if (!std::filesystem::exists(path_)) return;
  try {
    const Bytes bytes = read_trusted_file(path_, kStateLimits.bytes);
    state_ = std::make_shared<const LinkState>(parse_link_state(as_text(bytes)));
  } catch (const Error& error) {
    fault_ = error.what();
    log_error("link", fault_);
  }
}

std::shared_ptr<const LinkState> LinkStore::get() const {
  const MutexLock lock(mutex_);
  return state_;
}

void LinkStore::write(LinkState state) {
  replace_file(path_, as_bytes(to_text(state)), 0600);
  state_ = std::make_shared<const LinkState>(std::move(state));
}

void LinkStore::put(LinkState state) {
  const MutexLock lock(mutex_);
  write(std::move(state));
}

void LinkStore::update(const std::function<void(LinkState&)>& change) {
  const MutexLock lock(mutex_);
  if (!state_) return;
  LinkState fresh = *state_;
  change(fresh);
  if (fresh == *state_) return;
  write(std::move(fresh));
}

void LinkStore::remove() {
  const MutexLock lock(mutex_);
  remove_file(path_);
  state_.reset();
}

}  // namespace keyagent::link
