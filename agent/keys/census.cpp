// SPDX-License-Identifier: Apache-2.0
// What is sealed to which key, as its keepers counted it.

#include <algorithm>
#include <set>

#include "agent/base/encoding.h"
#include "agent/keys/key_store_impl.h"

namespace keyagent::keys {
namespace {

[[noreturn]] void refuse(const std::string& what, std::size_t most, const char* setting) {
  throw Error(Code::kKeyState,
              "the census is not recorded: " + what + " at most " + std::to_string(most) +
                  " (limits." + setting +
                  "); remove sources that no longer exist: keyagent census forget");
}

// The new report replaces the source's earlier one.
void require_within(const Census& census, const CensusReport& report) {
  const std::string owner = owner_of(report.owner);
  std::set<std::string> own{report.source};
  std::map<Kid, std::set<std::string>> naming;
  std::size_t rows = report.entries.size(), own_rows = rows;
  for (const auto& entry : report.entries) naming[entry.kid].insert(report.source);
  for (const auto& entry : census.entries) {
    if (entry.source == report.source) continue;
    ++rows;
    if (const auto named = naming.find(entry.kid); named != naming.end())
      named->second.insert(entry.source);
    if (owner_of(entry.actor) != owner) continue;
    ++own_rows;
    own.insert(entry.source);
  }
  const auto& limits = report.limits;
  if (own.size() > limits.sources_per_uid)
    refuse("a user has sources,", limits.sources_per_uid, "census-sources-per-uid");
  if (own_rows > limits.rows_per_uid)
    refuse("the sources of a user name keys,", limits.rows_per_uid, "census-rows-per-uid");
  if (rows > limits.rows) refuse("all sources name keys,", limits.rows, "census-rows");
  for (const auto& [kid, sources] : naming) {
    if (!kid.empty() && sources.size() > limits.sources_per_key)
      refuse("a key is named by sources,", limits.sources_per_key, "census-sources-per-key");
  }
}

void require_owner(const Census& census, const CensusReport& report) {
  if (report.overrides) return;
  const std::string owner = owner_of(report.owner);
  for (const auto& entry : census.entries) {
    if (entry.source != report.source || owner_of(entry.actor) == owner) continue;
    throw Error(Code::kDenied, "the census of '" + escape_controls(report.source) +
                                   "' belongs to another user; use another --source");
  }
}

}  // namespace

std::string owner_of(const std::string& actor) {
  return actor.substr(0, actor.find(" ("));
}

void KeyStore::record_census(const CensusReport& report) {
  const MutexLock lock(impl_->change_mutex);
  impl_->require_reconciled();
  const auto census = impl_->current()->census;
  require_owner(*census, report);
  if (!report.entries.empty()) require_within(*census, report);
  impl_->ledger.record_census(report.source, report.entries);
  impl_->republish();
}

void KeyStore::record_census(const std::string& source, const std::vector<CensusEntry>& entries) {
  CensusReport report;
  report.source = source;
  report.entries = entries;
  report.overrides = true;
  record_census(report);
}

std::vector<CensusEntry> KeyStore::census() const {
  return impl_->current()->census->entries;
}

std::uint64_t KeyStore::sealed_count(const Kid& kid) const {
  const auto census = impl_->current()->census;
  const auto found = census->sealed.find(kid);
  return found == census->sealed.end() ? 0 : found->second;
}

bool KeyStore::counted_since(const Kid& kid, WallTime when) const {
  const auto census = impl_->current()->census;
  return std::any_of(census->entries.begin(), census->entries.end(),
                     [&](const auto& entry) { return entry.kid == kid && entry.at > when; });
}

}  // namespace keyagent::keys
