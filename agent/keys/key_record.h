// SPDX-License-Identifier: Apache-2.0
#pragma once
// Ledger data of keys, rekeys and sealed data: plain values.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/bytes.h"
#include "agent/base/clock.h"
#include "agent/base/ids.h"
#include "agent/base/key_types.h"
#include "agent/keys/rekey.h"

namespace keyagent::keys {

// One generation of a key.
struct KeyRecord {
  Kid kid;  // empty while the generation is only journaled
  KeyName name;
  int generation = 1;
  Purpose purpose = Purpose::kSign;
  KeyAlgorithm algorithm = KeyAlgorithm::kEcP256;
  EnvelopeAlgorithm envelope = EnvelopeAlgorithm::kNone;
  KeyState state = KeyState::kActive;
  CkaId cka_id;
  Bytes spki;
  WallTime created{}, changed{};
  WallTime activated{};       // when its cryptoperiod began; the epoch of time while it is staged
  std::string reason;         // of the last change of state
  std::string actor;          // who made it: "uid 1000 (alice)", "internal:scheduler"
  bool accepts_cbc = false;   // opens AES-CBC content and nothing else (PublicKeyInfo)
  bool exchangeable = false;  // may be exported, wrapped, to the identities in the policy
  bool narrowed = false;      // the ledger has `sign`; `purpose` was derived from the name
  std::string origin;         // "imported from KID, request ID"; empty: made in this token
  bool usable = true;  // false: in the ledger, but the token does not hold it or holds a different
                       // one; `finding` has the reason
  // Not usable, and not because it is missing: the token holds another key under its id, or the
  // ledger is not the token's.
  bool mismatched = false;
  std::string finding;
};

// How the reason of a suspension begins that the agent itself decided on.
inline constexpr std::string_view kWrongSignature =
    "the token gave a signature that does not verify";

// One change of a key's state, kept within a bound (MISSION R12, Ledger::kHistoryRows).
struct StateChange {
  Kid kid;
  KeyState from = KeyState::kStaged, to = KeyState::kActive;
  WallTime at{};
  std::string actor, reason;
};

// One rekey: a new generation of `name`, and the old one's way out.
struct RekeyRecord {
  std::uint64_t id = 0;
  KeyName name;
  RekeyStep step = RekeyStep::kPlanned;
  Kid old_kid;
  Kid new_kid;   // empty until the key was made
  CkaId cka_id;  // of the new key, chosen and journaled before it is made
  KeyAlgorithm algorithm = KeyAlgorithm::kEcP256;
  EnvelopeAlgorithm envelope = EnvelopeAlgorithm::kNone;
  WallTime begun{}, changed{};
  // How long the old generation still opens after the switch. Counts only time in which the agent
  // saw its clock go evenly: `drained` of `drain` are over.
  std::chrono::milliseconds drain{0}, drained{0};
  std::string actor, reason;  // who asked and why; the cause when it is aborted
};

// How many generations rekeys may make of one key.
struct RekeyLimits {
  int ordered_per_day = 2;  // rekeys that an instance orders, a key
  int generations = 8;      // made here and not destroyed; no rekey begins beyond
};

// How many sealed data name a key, by source ("/srv/credentials"): what was last reported.
struct CensusEntry {
  std::string source;
  Kid kid;
  std::uint64_t count = 0;
  WallTime at{};
  std::string actor;
};

// The reports of all sources, by source and kid. `sealed`: the sum for each kid.
struct Census {
  std::vector<CensusEntry> entries;
  std::map<Kid, std::uint64_t> sealed;
};

// How much a census may hold. A row is one kid of one source.
struct CensusLimits {
  std::size_t sources_per_uid = 1000, rows_per_uid = 4000;
  std::size_t sources_per_key = 1000, rows = 20000;
  std::size_t source_bytes = 512;  // of a source's name
};

// What an authority issued for a key, the key's own certificate first, in DER. Kept when the key is
// destroyed.
struct CertificateRecord {
  Kid kid;
  std::vector<Bytes> chain;
  WallTime installed{};
  std::string actor;
};

}  // namespace keyagent::keys
