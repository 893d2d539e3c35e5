// SPDX-License-Identifier: Apache-2.0
#pragma once
// How long a key is used, and what is due when: NIST SP 800-57 part 1 revision 5, §5.3. Pure.

#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "agent/keys/key_record.h"

namespace keyagent::keys {

using Span = std::chrono::milliseconds;

// The life of one key's generations.
struct Cryptoperiod {
  Span active{0};               // from activation to the next rekey; 0: no limit
  Span drain{0};                // how long the old generation still opens after a rekey
  Span idle{0};                 // unused for this long: suspended; 0: never
  bool automatic = true;        // false: a due rekey is only reported
  std::optional<Span> grace{};  // after `active` it still signs and seals; absent: Periods::grace
};

// The default cryptoperiods follow SP 800-57 table 1 (MISSION R10): transport 90 d + 30 d drain,
// auth 60 d, storage 1 y, the rest 1 y. Sign and auth keys are not rekeyed automatically:
// verifiers, or the certificate, must have the new key first.
Cryptoperiod default_cryptoperiod(Purpose purpose);

struct Periods {
  using Overlay = std::function<Cryptoperiod(const Cryptoperiod&)>;
  std::map<Purpose, Cryptoperiod> by_purpose;  // else default_cryptoperiod()
  std::map<std::string, Overlay> by_name;      // what a key has otherwise than its purpose
  Span warn{std::chrono::hours(24 * 7)};       // a warning so long before
  int jitter_percent = 10;  // of the active period, taken off by a fixed draw from the kid
  Span grace{std::chrono::hours(24 * 7)};
  // Since when originator periods are enforced here. A period that was over by then ends then: the
  // grace and its warnings come first.
  WallTime enforced_since{};
  RekeyLimits rekeys;

  Cryptoperiod of(const KeyRecord& key) const;
};

// When the key's next generation is due; nullopt: never. Never later than activated + active, and
// the same at each call: a restart draws no new lot.
std::optional<WallTime> next_rekey(const KeyRecord& key, const Periods& periods);

// These keys are pinned by others, which refuse signatures of another generation: no rekey.
bool is_pinned(Purpose purpose);
// False for keys that are used past their period: the audit log must stay signed, an agent without
// its identity could not even report that, and attestation keys are pinned by others.
bool enforces_period(Purpose purpose);
// When the originator period of an active key ends (SP 800-57 part 1 §5.3.4); nullopt: never, or it
// is not enforced.
std::optional<WallTime> period_end(const KeyRecord& key, const Periods& periods);
// The end of the grace: from then on the key signs and seals nothing. What was sealed to it opens
// until it is destroyed.
std::optional<WallTime> refused_from(const KeyRecord& key, const Periods& periods);

struct Due {
  enum class Kind {
    kWarn,     // due within `warn`; a manual rekey: 30, 14, 7 and 1 days before
    kRekey,    // now, automatically
    kOverdue,  // due now, but this key is rekeyed manually
    kGrace,    // past its originator period: it signs and seals until the grace is over
    kExpired,  // it no longer signs or seals
    kIdle,     // unused: suspended within `warn`, or in half of its idle time if that is less
    kSuspend   // idle for too long
  };
  Kind kind = Kind::kWarn;
  KeyName name;
  Kid kid;
  std::string text;
  bool automatic = true;
};

// What is due of these keys; kGrace and kExpired beside the kRekey of a key. `used`: when each key
// was last used, as far as known (else its activation counts).
std::vector<Due> due(const std::vector<KeyRecord>& keys, const std::map<Kid, WallTime>& used,
                     const Periods& periods, WallTime now);

// "90 d", "5 h", "3 min", "12 s": for people.
std::string span_text(Span span);

}  // namespace keyagent::keys
