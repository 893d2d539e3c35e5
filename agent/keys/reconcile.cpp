// SPDX-License-Identifier: Apache-2.0
#include "agent/keys/reconcile.h"

#include <algorithm>
#include <map>
#include <set>

#include "agent/base/encoding.h"

namespace keyagent::keys {
namespace {

using Objects = std::map<std::string, const vault::TokenObject*>;

bool is_secret(const KeyRecord& key) {
  return key.algorithm == KeyAlgorithm::kAes256;
}

bool is_complete(const KeyRecord& key, const vault::TokenObject& object) {
  return is_secret(key) ? object.has_secret : object.has_private && object.has_public;
}

Objects index(const std::vector<vault::TokenObject>& token) {
  Objects objects;
  for (const auto& object : token) objects[to_hex(object.cka_id)] = &object;
  return objects;
}

const vault::TokenObject* find_in(const Objects& objects, const CkaId& id) {
  const auto found = objects.find(id.hex());
  return found == objects.end() ? nullptr : found->second;
}

void plan_step(const JournalStep& step, const vault::TokenObject* object, Plan& plan) {
  if (object == nullptr) {
    // A destruction whose objects are gone is finished; a creation that never came to the token
    // never was.
    (step.kind == JournalStep::Kind::kDestroy ? plan.remove : plan.forget).push_back(step);
    return;
  }
  // A key that was being imported comes again whole with its package.
  const bool whole = step.kind == JournalStep::Kind::kCreate && step.planned.origin.empty() &&
                     is_complete(step.planned, *object) && object->duplicates == 0;
  (whole ? plan.finish : plan.remove).push_back(step);
}

void mark_unusable(KeyRecord key, Finding::Kind kind, const FindingKind& what,
                   const std::string& text, Plan& plan) {
  key.usable = false;
  key.finding = text;
  plan.findings.push_back(make_finding(kind, what, key.kid.text(), key.name.text(), text));
  plan.unusable.push_back(std::move(key));
}

void plan_key(const KeyRecord& key, const vault::TokenObject* object, bool others_here,
              Plan& plan) {
  if (object == nullptr || !is_complete(key, *object)) {
    const std::string what =
        object == nullptr ? "the token holds nothing" : "the token holds only a part of the key";
    // Destroying is advice only where the token is there and just this key is not: a token without
    // any of our keys is another one, or its files or device are away.
    mark_unusable(key, Finding::Kind::kKeyLost,
                  others_here ? finding_kind("key-lost") : finding_kind("token-lost"),
                  what + " under CKA_ID " + key.cka_id.hex() + " of key " + key.name.text(), plan);
  } else if (object->duplicates > 0) {
    mark_unusable(key, Finding::Kind::kDuplicate, finding_kind("key-duplicate"),
                  "the token holds several objects under CKA_ID " + key.cka_id.hex() + " of key " +
                      key.name.text(),
                  plan);
  } else {
    plan.adopt.push_back(key);
  }
}

}  // namespace

Finding make_finding(Finding::Kind kind, const FindingKind& what, std::string kid,
                     std::string subject, std::string text) {
  auto cure = fix_of(what, {{"kid", kid}});
  return {kind,  std::move(kid),          std::move(subject), std::move(text), std::move(cure.text),
          &what, std::move(cure.commands)};
}

bool misses_any(const LedgerState& ledger, const std::vector<vault::TokenObject>& token) {
  const Objects objects = index(token);
  const auto missing = [&](const KeyRecord& key) {
    const auto* object = find_in(objects, key.cka_id);
    return object == nullptr || !is_complete(key, *object);
  };
  return std::any_of(
             ledger.keys.begin(), ledger.keys.end(),
             [&](const auto& key) { return key.state != KeyState::kDestroyed && missing(key); }) ||
         std::any_of(ledger.journal.begin(), ledger.journal.end(),
                     [&](const auto& step) { return missing(step.planned); });
}

Plan plan_reconciliation(const LedgerState& ledger, const std::vector<vault::TokenObject>& token) {
  const Objects objects = index(token);
  const auto find = [&](const CkaId& id) { return find_in(objects, id); };
  const bool any_here = std::any_of(ledger.keys.begin(), ledger.keys.end(), [&](const auto& key) {
    const auto* object = find(key.cka_id);
    return key.state != KeyState::kDestroyed && object != nullptr && is_complete(key, *object);
  });

  Plan plan;
  std::set<std::string> ours;
  std::map<std::string, JournalStep::Kind> in_journal;
  for (const auto& step : ledger.journal) {
    ours.insert(step.cka_id.hex());
    in_journal.emplace(step.cka_id.hex(), step.kind);
    plan_step(step, find(step.cka_id), plan);
  }
  for (const auto& key : ledger.keys) {
    ours.insert(key.cka_id.hex());
    if (const auto begun = in_journal.find(key.cka_id.hex()); begun != in_journal.end()) {
      if (begun->second == JournalStep::Kind::kDestroy && key.state != KeyState::kDestroyed)
        mark_unusable(key, Finding::Kind::kUnfinished, finding_kind("destruction-unfinished"),
                      "the destruction of key " + key.name.text() +
                          " has begun and is not finished; the key is not used",
                      plan);
      continue;
    }
    const auto* object = find(key.cka_id);
    if (key.state != KeyState::kDestroyed) {
      plan_key(key, object, any_here, plan);
    } else if (object != nullptr) {
      plan.findings.push_back(make_finding(
          Finding::Kind::kGhost, finding_kind("key-returned"), key.kid.text(), key.name.text(),
          "the token holds key " + key.name.text() + " again, destroyed at " +
              rfc3339(key.changed) + " (was a backup of it restored?)"));
    }
  }
  std::size_t strangers = 0;
  std::string example;
  for (const auto& [id, object] : objects) {
    if (ours.contains(id)) continue;
    if (strangers++ == 0) example = id + (object->label.empty() ? "" : " '" + object->label + "'");
  }
  if (strangers > 0) {
    plan.findings.push_back(
        make_finding(Finding::Kind::kForeign, finding_kind("foreign-keys"), "", example,
                     "the token holds " + std::to_string(strangers) +
                         " keys that do not belong to this agent; they are never changed"));
  }
  return plan;
}

}  // namespace keyagent::keys
