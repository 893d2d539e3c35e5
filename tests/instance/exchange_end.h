// SPDX-License-Identifier: Apache-2.0
#pragma once
// One end of an exchange, on its own store and with keys in memory, and the transport between two
// ends, which can lose and change messages.

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <set>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/envelope/envelope.h"
#include "agent/instance/exchange/exchange_wire.h"
#include "agent/instance/exchange/exchanges.h"
#include "agent/store/events.h"
#include "agent/store/restoration.h"
#include "tests/support/fake_clock.h"
#include "tests/support/software_keys.h"
#include "tests/support/temp_folder.h"

namespace keyagent::instance {

// Of whatever type.
inline Json verified_json(const Bytes& spki, const std::string& jws) {
  const auto key = envelope::key_of_spki(spki, Purpose::kIdentity);
  return parse_object(as_text(envelope::verify_jws(key, jws)));
}

// Packages are as real as their signature: it names source, target, request, specification and key.
class MemoryDoor final : public KeyExchangeBackend {
 public:
  MemoryDoor()
      : identity_(keys_.add("exchange-identity", Purpose::kIdentity, KeyAlgorithm::kEcP256)),
        exchange_(keys_.add("exchange", Purpose::kExchange, KeyAlgorithm::kEcP256)) {}

  PublicKeyInfo identity() override { return identity_; }
  bool had_identity(const std::string&) override { return false; }
  void make_keys() override {}
  std::string cannot_exchange() override { return missing; }
  // As the agent does: only what it would take for such a statement.
  std::string sign(envelope::Statement statement, const std::string& payload) override {
    const Json said = parse_object(payload);
    const auto now = said.contains("issued") ? parse_rfc3339(text_of(said, "issued")) : WallTime{};
    envelope::require_statement(statement, as_bytes(payload), identity_.kid, now);
    return envelope::sign_jws(keys_, identity_, SignatureAlgorithm::kEs256, as_bytes(payload),
                              envelope::type_of(statement));
  }
  std::string sign(const std::string& payload) {
    return envelope::sign_jws(keys_, identity_, SignatureAlgorithm::kEs256, as_bytes(payload));
  }
  ExchangeOffer offer() override {
    return {exchange_.spki, sign(Json{{"exchange_kid", exchange_.kid.text()}}.dump())};
  }
  std::vector<DataKey> data_keys() override { return data; }
  bool allows(const std::string& action, const std::string& key, const std::string& peer) override {
    return !denied.contains(action + " " + key + " " + peer);
  }
  std::string export_key(const ExportOrder& order) override {
    ++exports;
    fail(next(export_faults));
    if (refused.contains(order.kid)) throw Error(Code::kDenied, "not to this target", order.kid);
    const Json proof = verified_json(order.target_spki, order.offer.proof);
    EXPECT_EQ(proof.at("exchange_kid"), jwk_thumbprint(order.offer.exchange_spki));
    return sign(Json{
        {"request", order.request},
        {"specification", order.specification},
        {"target", order.target},
        {"kid",
         order.kid}}.dump());
  }
  bool import_key(const ImportOrder& order) override {
    fail(next(import_faults));
    const Json package = verified_json(order.source_spki, order.package);
    if (package.at("target") != identity_.kid.text() || package.at("request") != order.request ||
        package.at("specification") != order.specification)
      throw Error(Code::kIntegrity, "the package is not for this");
    const auto kid = package.at("kid").get<std::string>();
    if (std::any_of(data.begin(), data.end(), [&](const auto& key) { return key.kid == kid; }))
      return false;
    data.push_back({order.specification, kid, "deactivated", false});
    ++imports;
    return true;
  }

  void add(const std::string& specification, int count = 1) {
    for (int i = 0; i < count; ++i)
      data.push_back(
          {specification, to_hex(random_bytes(16)), i == 0 ? "active" : "deactivated", true});
  }

  std::vector<DataKey> data;
  std::set<std::string> refused, denied;          // kids; "export KEY PEER" in the policy
  std::string missing;                            // of the token
  std::deque<Code> export_faults, import_faults;  // of the next calls; kOk: none
  int exports = 0, imports = 0;

 private:
  static void fail(Code code) {
    if (code != Code::kOk) throw Error(code, "as the test wants it");
  }
  static Code next(std::deque<Code>& faults) {
    if (faults.empty()) return Code::kOk;
    const auto code = faults.front();
    faults.pop_front();
    return code;
  }

  test::SoftwareKeys keys_;
  const PublicKeyInfo identity_, exchange_;
};

struct ExchangeEnd;

// To anyone who listens at the peer's URL.
class MemoryLine final : public PeerTransport {
 public:
  std::string post(const store::Peer& peer, const std::string& text) override;

  std::map<std::string, ExchangeEnd*> ends;        // by URL
  int lose_questions = 0, lose_answers = 0;        // the number of next ones
  std::function<std::string(std::string)> meddle;  // with answers
  std::string last;                                // question
};

// How old a store is, by its events.
class StoreAge : public ExchangeSurroundings {
 public:
  StoreAge(MemoryDoor& door, store::Store& store, Recorder& recorder, const Clock& clock)
      : door_(door), store_(store), recorder_(recorder), clock_(clock) {}

  std::string current_epoch() override {
    return door_.sign(Json{{"epoch", store_.events().last_number()}}.dump());
  }
  void judge_epoch(const std::string& who, const std::string& jws) override {
    const Json said = verified_json(door_.identity().spki, jws);
    const auto number = said.at("epoch").get<std::int64_t>();
    if (number <= store_.events().last_number()) return;
    store_.restoration().note({number, who, clock_.now()},
                              recorder_.make(Outcome::kAlarm, "instance", "restored", who));
  }
  void require_accepted() override {
    if (store_.restoration().find()) throw Error(Code::kKeyState, "restored from a backup");
  }
  void require_exchange(const std::string& specification, const std::string& person) override {
    if (may_exchange) may_exchange(specification, person);
  }
  void follow_import(const std::string& specification, const std::string&) override {
    if (imported) imported(specification);
  }

  std::function<void(const std::string&, const std::string&)> may_exchange;
  std::function<void(const std::string&)> imported;

 private:
  MemoryDoor& door_;
  store::Store& store_;
  Recorder& recorder_;
  const Clock& clock_;
};

struct ExchangeEnd {
  ExchangeEnd(const std::string& name_in, MemoryLine& line, const Clock& clock_in)
      : name(name_in), clock(clock_in), exchanges(door, line, store, recorder, clock, around) {
    line.ends["https://" + name] = this;
  }

  std::string identity() { return door.identity().kid.text(); }
  void knows(ExchangeEnd& other) {
    exchanges.peers().add({{"name", other.name},
                           {"identity", other.identity()},
                           {"url", "https://" + other.name},
                           {"ca", std::string(43, 'A')}},
                          "crypto");
  }
  std::string state(const std::string& id) { return exchanges.show(id).at("state"); }
  int events(const std::string& action, const std::string& outcome) {
    int found = 0;
    for (const auto& each : store.events().list(0, 10'000))
      found += each.action == action && each.outcome == outcome ? 1 : 0;
    return found;
  }

  const std::string name;
  const Clock& clock;
  test::TempFolder folder;
  MemoryDoor door;
  store::Store store{{"sqlite://" + (folder.path() / "store/instance.db").string()}};
  Recorder recorder{store, clock};
  StoreAge around{door, store, recorder, clock};
  Exchanges exchanges;
};

inline std::string MemoryLine::post(const store::Peer& peer, const std::string& text) {
  last = text;
  const auto found = ends.find(peer.url);
  if (lose_questions > 0 || found == ends.end()) {
    --lose_questions;
    throw Error(Code::kPeer, "lost on the way there");
  }
  auto answer = found->second->exchanges.answer(text);
  if (lose_answers > 0) {
    --lose_answers;
    throw Error(Code::kPeer, "lost on the way back");
  }
  const auto change = meddle;  // which may be another one afterwards
  return change ? change(answer) : answer;
}

inline Code code_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.code();
  }
  return Code::kOk;
}

}  // namespace keyagent::instance
