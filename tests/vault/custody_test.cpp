// SPDX-License-Identifier: Apache-2.0
// What a newborn key must be, attribute by attribute: one that is otherwise is not kept
// (RELIABILITY 60, 89 to 91).

#include <gtest/gtest.h>

#include <functional>

#include "agent/vault/mechanisms.h"

namespace keyagent::vault {
namespace {

using pkcs11::Custody;
using pkcs11::Usage;

Custody good_custody() {
  Custody out;
  out.local = out.sensitive = out.always_sensitive = out.never_extractable = true;
  out.extractable = false;
  out.sign = true;
  out.decrypt = out.derive = out.unwrap = out.wrap = out.encrypt = false;
  out.read_refused = out.wrap_refused = out.copy_refused = true;
  return out;
}

Custody exchangeable_custody() {
  Custody out = good_custody();
  out.extractable = true;
  out.never_extractable = false;
  out.sign = false;
  out.encrypt = out.decrypt = true;
  out.wrap_refused = false;
  return out;
}

pkcs11::Profile truthful_profile() {
  pkcs11::Profile profile;
  profile.always_sensitive = true;
  profile.deny_usages = true;
  return profile;
}

using Change = std::function<void(Custody&)>;

TEST(CustodyFault, Fault060_EachAttributeOfAKeyThatStaysCounts) {
  const auto fault = [](const Custody& custody) {
    return custody_fault(custody, Usage::kSign, truthful_profile());
  };
  EXPECT_EQ(fault(good_custody()), "");
  const std::pair<const char*, Change> kCases[] = {
      {"CKA_SENSITIVE is not TRUE", [](Custody& c) { c.sensitive = false; }},
      {"CKA_SENSITIVE is not TRUE", [](Custody& c) { c.sensitive.reset(); }},
      {"CKA_EXTRACTABLE is not FALSE", [](Custody& c) { c.extractable = true; }},
      {"CKA_EXTRACTABLE is not FALSE", [](Custody& c) { c.extractable.reset(); }},
      {"CKA_LOCAL is not TRUE", [](Custody& c) { c.local = false; }},
      {"CKA_ALWAYS_SENSITIVE is not TRUE", [](Custody& c) { c.always_sensitive = false; }},
      {"CKA_NEVER_EXTRACTABLE is not TRUE", [](Custody& c) { c.never_extractable = false; }},
      {"its value could be read", [](Custody& c) { c.read_refused = false; }},
      {"it could be extracted by wrapping", [](Custody& c) { c.wrap_refused = false; }},
      {"its usage flags differ from the request", [](Custody& c) { c.sign = false; }},
      {"its usage flags differ from the request", [](Custody& c) { c.decrypt = true; }},
      {"its usage flags differ from the request", [](Custody& c) { c.wrap = true; }}};
  for (const auto& [text, change] : kCases) {
    Custody changed = good_custody();
    change(changed);
    EXPECT_EQ(fault(changed), text);
  }
}

TEST(CustodyFault, Fault090_AnExchangeableKeyLeavesWrappedAndInNoOtherWay) {
  const auto fault = [](const Custody& custody) {
    return custody_fault(custody, Usage::kEncrypt, truthful_profile(), Birth::kExchangeable);
  };
  EXPECT_EQ(fault(exchangeable_custody()), "");
  const std::pair<const char*, Change> kCases[] = {
      {"CKA_SENSITIVE is not TRUE", [](Custody& c) { c.sensitive = false; }},
      {"CKA_EXTRACTABLE is not TRUE", [](Custody& c) { c.extractable = false; }},
      {"its value could be read", [](Custody& c) { c.read_refused = false; }},
      {"it could be copied as readable", [](Custody& c) { c.copy_refused = false; }},
      {"its usage flags differ from the request", [](Custody& c) { c.unwrap = true; }}};
  for (const auto& [text, change] : kCases) {
    Custody changed = exchangeable_custody();
    change(changed);
    EXPECT_EQ(fault(changed), text);
  }
}

TEST(CustodyFault, Fault091_AnImportedKeyWasNotMadeHereAndDoesNotLeave) {
  const auto fault = [](const Custody& custody) {
    return custody_fault(custody, Usage::kEncrypt, truthful_profile(), Birth::kImported);
  };
  Custody imported = exchangeable_custody();
  imported.local = imported.always_sensitive = false;
  imported.extractable = false;
  imported.wrap_refused = true;
  EXPECT_EQ(fault(imported), "");
  Custody made_here = imported;
  made_here.local = true;
  EXPECT_EQ(fault(made_here), "CKA_LOCAL is not FALSE");
  Custody leaving = imported;
  leaving.wrap_refused = false;
  EXPECT_EQ(fault(leaving), "it could be extracted by wrapping");
}

}  // namespace
}  // namespace keyagent::vault
