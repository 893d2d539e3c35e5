// SPDX-License-Identifier: Apache-2.0
// What someone on the line, a peer that lies, and a store from a backup do to requests for keys.

#include <gmock/gmock.h>

#include "agent/store/events.h"
#include "agent/store/exchanges.h"
#include "agent/store/restoration.h"
#include "tests/instance/exchange_end.h"

namespace keyagent::instance {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

class ExchangeAttacks : public testing::Test {
 protected:
  ExchangeAttacks() {
    source_.knows(target_);
    target_.knows(source_);
    source_.door.add("cards");
  }
  std::string ask() {
    return target_.exchanges.request({{"peer", "source"}, {"specifications", {"cards"}}}, "tess")
        .at("id");
  }
  void pass(std::chrono::milliseconds time = 70s) {
    for (auto left = time; left > 0ms; left -= 500ms) {
      source_.exchanges.work();
      target_.exchanges.work();
      clock_.advance(500ms);
    }
  }
  Json show(const std::string& id) { return target_.exchanges.show(id); }
  // The payload of what an end said, changed, and signed again by it.
  static std::string forge(MemoryDoor& signer, const std::string& text,
                           const std::function<void(Json&)>& change) {
    const Json outer = parse_object(text);
    Json payload = verified_json(bytes_of(outer, "spki"), text_of(outer, "message"));
    change(payload);
    return Json{{"message", signer.sign(payload.dump())},
                {"spki", to_base64url(signer.identity().spki)}}
        .dump();
  }
  // The code with which the source refuses it, in an answer to the target or unsigned.
  std::string refusal(const std::string& text) {
    try {
      const Json outer = parse_object(source_.exchanges.answer(text));
      const Json payload = verified_json(bytes_of(outer, "spki"), text_of(outer, "message"));
      const Json& body = payload.at("body");
      return body.contains("error") ? body.at("error").at("code").get<std::string>() : "OK";
    } catch (const Error& error) {
      return "unsigned " + std::string(code_name(error.code()));
    }
  }
  std::string said() {
    ask();
    target_.exchanges.work();
    return line_.last;
  }
  static void renew(Json& payload) { payload["nonce"] = to_base64url(random_bytes(16)); }

  test::FakeClock clock_;
  MemoryLine line_;
  ExchangeEnd source_{"source", line_, clock_}, target_{"target", line_, clock_};
};

TEST_F(ExchangeAttacks, X3_TheRightHostWithTheWrongKeyIsRefusedWithBothFingerprints) {
  ExchangeEnd impostor("impostor", line_, clock_);
  impostor.knows(target_);
  line_.ends["https://source"] = &impostor;
  for (const bool knows : {true, false}) {
    if (!knows) impostor.exchanges.peers().remove("target", "eve");
    const auto id = ask();
    target_.exchanges.work();
    EXPECT_EQ(show(id).at("state"), "failed");
    EXPECT_EQ(show(id).at("code"), "INTEGRITY");
    const auto text = show(id).at("text").get<std::string>();
    EXPECT_THAT(text, HasSubstr(impostor.identity()));
    EXPECT_THAT(text, HasSubstr(source_.identity()));
  }
  EXPECT_EQ(impostor.exchanges.list({}, {}).at("exchanges").size(), 0u);
  EXPECT_EQ(target_.events("exchange.fail", "alarm"), 2);
}

TEST_F(ExchangeAttacks, X3_AnAnswerByAnotherKeyInTheSourcesNameIsRefused) {
  MemoryDoor eve;
  for (const bool as_itself : {false, true}) {
    line_.meddle = [&](const std::string& answer) {
      return forge(eve, answer, [&](Json& payload) {
        if (as_itself) payload["from"] = eve.identity().kid.text();
      });
    };
    const auto id = ask();
    target_.exchanges.work();
    EXPECT_EQ(show(id).at("state"), "failed") << as_itself;
    EXPECT_EQ(show(id).at("code"), "INTEGRITY") << as_itself;
  }
}

TEST_F(ExchangeAttacks, X3_AnUnknownPeerIsDeniedAndLeavesNothing) {
  const auto text = said();
  MemoryDoor eve;
  const auto before = source_.store.events().last_number();
  EXPECT_EQ(refusal(forge(eve, text, renew)), "unsigned DENIED");
  EXPECT_EQ(source_.store.events().last_number(), before);
}

TEST_F(ExchangeAttacks, Fault95_AMessageInAnothersNameIsRefused) {
  const auto text = said();
  ExchangeEnd eve("eve", line_, clock_);
  source_.knows(eve);
  EXPECT_EQ(refusal(forge(eve.door, text, renew)), "unsigned INTEGRITY");
  const auto stolen = forge(eve.door, text, [](Json& payload) {
    renew(payload);
    payload["body"]["request"] = to_hex(random_bytes(16));
  });
  EXPECT_EQ(refusal(stolen), "unsigned INTEGRITY");
}

TEST_F(ExchangeAttacks, Fault96_TheSameMessageIsTakenOnceAndOnlyInTime) {
  const auto text = said();
  EXPECT_EQ(refusal(text), "INTEGRITY");  // the source has had it
  EXPECT_EQ(refusal(forge(target_.door, text, renew)), "OK");
  const auto other = forge(target_.door, text, renew);
  clock_.advance(8min);
  EXPECT_EQ(refusal(other), "INTEGRITY");
  EXPECT_GE(source_.events("exchange.request", "alarm"), 2);
}

// The source's own key signs each of these answers: what differs is what they are for.
TEST_F(ExchangeAttacks, Fault96_AnAnswerIsTakenForItsQuestionAndOnlyInTime) {
  const auto later = [&](std::chrono::minutes time) { return rfc3339(clock_.now() + time); };
  const std::pair<const char*, std::function<void(Json&)>> kCases[] = {
      {"as it was", [](Json&) {}},
      {"of another question", renew},
      {"of another kind", [](Json& payload) { payload["kind"] = kExchangeQuestion; }},
      {"for another instance", [](Json& payload) { payload["to"] = payload["from"]; }},
      {"of yesterday",
       [&](Json& payload) {
         payload["issued"] = later(-24h);
         payload["expires"] = later(-24h + 2min);
       }},
      {"of tomorrow",
       [&](Json& payload) {
         payload["issued"] = later(24h);
         payload["expires"] = later(24h + 2min);
       }},
      {"valid for too long", [&](Json& payload) { payload["expires"] = later(2h); }},
  };
  for (const auto& each : kCases) {
    const std::string what = each.first;
    line_.meddle = [&](const std::string& answer) {
      return forge(source_.door, answer, each.second);
    };
    const auto id = ask();
    target_.exchanges.work();
    const bool good = what == "as it was";
    EXPECT_EQ(show(id).at("state") == "failed", !good) << what;
    if (!good) EXPECT_EQ(show(id).at("code"), "INTEGRITY") << what;
  }
}

TEST_F(ExchangeAttacks, Fault96_AQuestionThatWouldBeGoodForHoursIsRefused) {
  const auto text = said();
  EXPECT_EQ(refusal(forge(target_.door, text,
                          [&](Json& payload) {
                            renew(payload);
                            payload["expires"] = rfc3339(clock_.now() + 2h);
                          })),
            "INTEGRITY");
}

TEST_F(ExchangeAttacks, Fault96_AMessageForAnotherInstanceIsRefused) {
  ExchangeEnd third("third", line_, clock_);
  third.knows(target_);
  EXPECT_EQ(code_of([&] { third.exchanges.answer(said()); }), Code::kIntegrity);
  EXPECT_EQ(third.exchanges.list({}, {}).at("exchanges").size(), 0u);
}

TEST_F(ExchangeAttacks, Fault95_ARequestDoesNotChangeUnderItsId) {
  const auto text = said();
  const auto wider = forge(target_.door, text, [](Json& payload) {
    renew(payload);
    payload["body"]["specifications"] = Json::array({"cards", "pins"});
  });
  EXPECT_EQ(refusal(wider), "INTEGRITY");
  const auto other_key = forge(target_.door, text, [](Json& payload) {
    renew(payload);
    payload["body"]["exchange_spki"] = to_base64url(Bytes(91, 1));
  });
  EXPECT_EQ(refusal(other_key), "INTEGRITY");
}

TEST_F(ExchangeAttacks, X8_ARequestThatHasExpiredIsNotTaken) {
  const auto late = forge(target_.door, said(), [&](Json& payload) {
    renew(payload);
    payload["body"]["request"] = to_hex(random_bytes(16));
    payload["body"]["expires"] = rfc3339(clock_.now() - 1min);
  });
  EXPECT_EQ(refusal(late), "KEY_STATE");
}

// A body beside the message is the one whose hash was signed, and stands there once.
TEST_F(ExchangeAttacks, Fault95_ABodyThatWasNotSignedIsRefused) {
  const auto text = said();
  const auto beside = [&](const std::string& signed_text, const std::string& sent, bool twice) {
    Json outer = parse_object(forge(target_.door, text, [&](Json& payload) {
      renew(payload);
      if (!twice) payload.erase("body");
      if (!signed_text.empty())
        payload["body_sha256"] = to_base64url(sha256(as_bytes(signed_text)));
    }));
    outer["body"] = sent;
    return refusal(outer.dump());
  };
  const Json payload =
      verified_json(bytes_of(parse_object(text), "spki"), text_of(parse_object(text), "message"));
  const auto body = payload.at("body").dump();
  EXPECT_EQ(beside(body, body, false), "OK");
  EXPECT_EQ(beside("{}", body, false), "unsigned INTEGRITY");
  EXPECT_EQ(beside("", body, true), "unsigned INTEGRITY");
  EXPECT_EQ(beside(body, body, true), "unsigned INTEGRITY");
}

// The target ends a request with a transcript that both sides have signed.
TEST_F(ExchangeAttacks, X1_ASourceThatSignsAnotherTranscriptFailsTheRequest) {
  for (const std::string what : {"transcript", "statement"}) {
    const auto id = ask();
    target_.exchanges.work();
    source_.exchanges.approve(id, Json::object(), "sam");
    line_.meddle = [&](const std::string& answer) {
      return forge(source_.door, answer, [&](Json& payload) {
        Json& body = payload["body"];
        if (!body.contains("statement")) return;
        if (what == "transcript") body[what] = transcript_hash("another");
        if (what == "statement") body[what] = source_.door.sign(R"({"transcript":"another"})");
      });
    };
    pass(10s);
    line_.meddle = nullptr;
    EXPECT_NE(show(id).at("state"), "complete") << what;
    EXPECT_EQ(show(id).at("code"), "INTEGRITY") << what;
  }
}

TEST_F(ExchangeAttacks, X16_ARequestOfAnotherPeerIsHidden) {
  const auto text = said();
  ExchangeEnd eve("eve", line_, clock_);
  source_.knows(eve);
  for (const char* type : {"fetch", "results", "end"}) {
    const auto stolen = forge(eve.door, text, [&](Json& payload) {
      renew(payload);
      payload["from"] = eve.identity();
      payload["type"] = type;
      payload["body"]["transcript"] = "";
      payload["body"]["state"] = "cancelled";
    });
    EXPECT_EQ(refusal(stolen), "KEY_NOT_PRESENT") << type;
  }
}

TEST_F(ExchangeAttacks, X1_ATamperedCountOrResultFailsTheRequestAtBothEnds) {
  for (const char* what : {"imported", "total", "transcript", "outcome", "kid", "missing"}) {
    ExchangeEnd source("source-" + std::string(what), line_, clock_);
    ExchangeEnd target("target-" + std::string(what), line_, clock_);
    source.knows(target);
    target.knows(source);
    source.door.add("cards", 2);
    const auto id =
        target.exchanges.request({{"peer", source.name}, {"specifications", {"cards"}}}, "tess")
            .at("id")
            .get<std::string>();
    target.exchanges.work();
    source.exchanges.approve(id, Json::object(), "sam");
    source.exchanges.work();
    clock_.advance(3s);
    for (int i = 0; i < 3; ++i) target.exchanges.work();
    ASSERT_EQ(target.state(id), "imported");
    line_.meddle = nullptr;
    target.exchanges.work();
    ASSERT_EQ(target.state(id), "verified");
    // What it said, said again to a source that has not heard it.
    auto row = source.store.exchanges().find(id).value();
    row.state = "exported";
    row.transcript = "";
    auto keys = source.store.exchanges().keys(id);
    for (auto& key : keys) key.outcome = "";
    ASSERT_TRUE(source.store.exchanges().move(row, &keys));
    const auto lie = forge(target.door, line_.last, [&](Json& payload) {
      renew(payload);
      Json& body = payload["body"];
      const std::string which = what;
      if (which == "imported" || which == "total") body[which] = 1;
      if (which == "transcript") body[which] = transcript_hash("another");
      if (which == "outcome") body["keys"][0]["outcome"] = "failed";
      if (which == "kid") body["keys"][0]["kid"] = to_hex(random_bytes(16));
      if (which == "missing") body["keys"].erase(0);
    });
    source.exchanges.answer(lie);
    EXPECT_EQ(source.state(id), "failed") << what;
    EXPECT_EQ(source.exchanges.show(id).at("code"), "INTEGRITY") << what;
    EXPECT_EQ(source.events("exchange.fail", "alarm"), 1) << what;
  }
}

TEST_F(ExchangeAttacks, X2_WhatTheSourceGivesUnaskedOrTwiceIsRefused) {
  for (const char* what : {"specification", "twice", "outcome"}) {
    const auto id = ask();
    target_.exchanges.work();
    source_.exchanges.approve(id, Json::object(), "sam");
    source_.exchanges.work();
    line_.meddle = [&](const std::string& answer) {
      return forge(source_.door, answer, [&](Json& payload) {
        Json& body = payload["body"];
        if (!body.contains("keys")) return;
        const std::string which = what;
        if (which == "specification") body["keys"][0]["specification"] = "pins";
        if (which == "outcome") body["keys"][0]["outcome"] = "imported";
        if (which == "twice") {
          const Json again = body["keys"][0];
          body["keys"].push_back(again);
        }
      });
    };
    pass(10s);
    line_.meddle = nullptr;
    EXPECT_EQ(show(id).at("state"), "failed") << what;
    EXPECT_EQ(show(id).at("code"), "INTEGRITY") << what;
  }
  EXPECT_EQ(target_.door.imports, 0);
}

TEST_F(ExchangeAttacks, Fault132_AnEndWithARestoredStoreIsRefusedUntilThatIsAccepted) {
  const auto id = ask();
  pass(2s);
  const auto old = (target_.folder.path() / "old.db").string();
  target_.store.backup(old);
  target_.exchanges.cancel(id, "stolen", "tess");
  pass(10s);
  for (int i = 0; i < 3; ++i) ask();
  pass(10s);
  ASSERT_EQ(source_.state(id), "cancelled");
  // The old store, where the request is still pending.
  const auto& door = target_.door;
  store::Store store({"sqlite://" + old});
  Recorder recorder(store, clock_);
  StoreAge epoch(target_.door, store, recorder, clock_);
  Exchanges restored(target_.door, line_, store, recorder, clock_, epoch);
  EXPECT_FALSE(store.restoration().find());
  EXPECT_EQ(restored.show(id).at("state"), "pending");
  restored.work();
  EXPECT_TRUE(store.restoration().find());  // its own signed number, which the source kept
  EXPECT_EQ(source_.events("exchange.restored", "alarm"), 1);
  EXPECT_EQ(code_of([&] { restored.work(); }), Code::kKeyState);
  EXPECT_EQ(door.imports, 0);
  store.restoration().accept(
      recorder.make(Outcome::kDone, "user root", "restored.accept", "target"),
      store.restoration().find()->epoch);
  EXPECT_EQ(code_of([&] { restored.retry(id, "tess"); }), Code::kOk);
  restored.work();
  EXPECT_EQ(restored.show(id).at("state"), "cancelled");  // as the source knows
}

TEST_F(ExchangeAttacks, Fault136_OfTwoReplicasThatWorkOnOneRequestOneWritesWhatBecameOfIt) {
  const auto id = ask();
  pass(2s);
  source_.exchanges.approve(id, Json::object(), "sam");
  source_.exchanges.work();
  clock_.advance(3s);
  Exchanges replica(target_.door, line_, target_.store, target_.recorder, clock_, target_.around);
  // While one waits for the answer the other finds nothing to do.
  std::size_t others = 99;
  line_.meddle = [&](const std::string& answer) {
    others = replica.work();
    return answer;
  };
  target_.exchanges.work();
  EXPECT_EQ(others, 0u);
  line_.meddle = nullptr;
  pass(20s);
  EXPECT_EQ(target_.state(id), "complete");
  // One that sleeps so long that another has done it comes too late.
  const auto second = ask();
  line_.meddle = [&](const std::string& answer) {
    line_.meddle = nullptr;
    clock_.advance(3min);
    replica.cancel(second, "over there", "tess");
    return answer;
  };
  target_.exchanges.work();
  EXPECT_EQ(target_.state(second), "cancelled");
}

}  // namespace
}  // namespace keyagent::instance
