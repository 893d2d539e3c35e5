// SPDX-License-Identifier: Apache-2.0
#include "agent/keys/cryptoperiod.h"

#include <algorithm>

#include "agent/base/encoding.h"

namespace keyagent::keys {
namespace {

using namespace std::chrono_literals;

constexpr auto days(int count) {
  return std::chrono::hours(24) * count;
}

std::string date(WallTime time) {
  return rfc3339(time).substr(0, 10);
}

// 0 to 999, fixed for a kid.
int lot_of(const Kid& kid) {
  const auto digest = sha256(as_bytes(kid.text()));
  return (digest[0] * 256 + digest[1]) % 1000;
}

bool counts(const KeyRecord& key) {
  return key.state == KeyState::kActive && !key.kid.empty();
}

// A warning counts for periods of at least twice its days.
std::optional<int> days_before(Span left, Span active) {
  for (const int count : {1, 7, 14, 30}) {
    if (left <= days(count) && active >= 2 * days(count)) return count;
  }
  return std::nullopt;
}

std::string subject_of(const KeyRecord& key) {
  return "key " + key.name.text() + " generation " + std::to_string(key.generation) +
         " (active since " + date(key.activated) + ")";
}

void add_warning(std::vector<Due>& out, Due due, const KeyRecord& key, const Periods& periods,
                 WallTime when, WallTime now) {
  if (due.automatic && now >= when - periods.warn) {
    due.text = subject_of(key) + " is rekeyed automatically on " + date(when);
    out.push_back(std::move(due));
    return;
  }
  const Span active = periods.of(key).active;
  const auto end = key.activated + active;
  const auto left = days_before(std::chrono::duration_cast<Span>(end - now), active);
  if (due.automatic || (!left && now < when - periods.warn)) return;
  due.text = subject_of(key) + " is due for a rekey on " + date(when) +
             (left ? ": less than " + std::to_string(*left) + " d of its cryptoperiod are left"
                   : std::string());
  out.push_back(std::move(due));
}

void add_rekey(std::vector<Due>& out, const KeyRecord& key, const Periods& periods, WallTime now) {
  const auto when = next_rekey(key, periods);
  if (!when) return;
  Due due{Due::Kind::kWarn, key.name, key.kid, {}, periods.of(key).automatic};
  const auto end = period_end(key, periods), refused = refused_from(key, periods);
  if (now < *when) return add_warning(out, std::move(due), key, periods, *when, now);
  if (due.automatic) {
    due.kind = Due::Kind::kRekey;
    due.text = "its cryptoperiod of " + span_text(periods.of(key).active) + " is over";
    out.push_back(due);
  }
  if (refused && now >= *refused) {
    due.kind = Due::Kind::kExpired;
    due.text = subject_of(key) + " cannot sign or seal since " + date(*refused) +
               ": its cryptoperiod ended on " + date(*end);
  } else if (end && now >= *end) {
    due.kind = Due::Kind::kGrace;
    due.text = subject_of(key) + " has been past its cryptoperiod since " + date(*end) +
               "; it cannot sign or seal from " + date(*refused) + " on";
  } else if (!due.automatic) {
    due.kind = Due::Kind::kOverdue;
    due.text = subject_of(key) + " is due for a rekey since " + date(*when) +
               (end ? "; its cryptoperiod ends on " + date(*end) : std::string());
  } else {
    return;
  }
  out.push_back(std::move(due));
}

// A warning, or the suspension itself.
std::optional<Due> due_suspension(const KeyRecord& key, const std::map<Kid, WallTime>& used,
                                  const Periods& periods, WallTime now) {
  const Span idle = periods.of(key).idle;
  if (idle == 0ms) return std::nullopt;
  const auto known = used.find(key.kid);
  const WallTime last = std::max(key.changed, known == used.end() ? WallTime{} : known->second);
  const Span warn = std::min(periods.warn, idle / 2);
  if (now - last < idle - warn) return std::nullopt;
  if (now - last < idle)
    return Due{Due::Kind::kIdle, key.name, key.kid,
               subject_of(key) + " has been unused since " + date(last) +
                   "; it is suspended automatically on " + date(last + idle),
               true};
  return Due{Due::Kind::kSuspend, key.name, key.kid, "unused since " + date(last), true};
}

}  // namespace

Cryptoperiod default_cryptoperiod(Purpose purpose) {
  switch (purpose) {
    case Purpose::kTransport:
      return {days(90), days(30), 0ms, true};
    case Purpose::kAuth:
      return {days(60), days(1), 0ms, false};
    case Purpose::kSign:
    case Purpose::kIdentity:
      return {days(365), days(1), 0ms, false};
    case Purpose::kCa:  // agents pinned these two: they are not replaced
    case Purpose::kConfirm:
      return {0ms, days(1), 0ms, false};
    case Purpose::kStorage:
      return {days(365), days(30), 0ms, true};
    case Purpose::kExchange:
      return {days(365), days(30), 0ms, true};
    case Purpose::kAudit:
      break;
  }
  return {days(365), days(1), 0ms, true};
}

Cryptoperiod Periods::of(const KeyRecord& key) const {
  const auto purpose = by_purpose.find(key.purpose);
  const auto period =
      purpose == by_purpose.end() ? default_cryptoperiod(key.purpose) : purpose->second;
  const auto named = by_name.find(key.name.text());
  return named == by_name.end() ? period : named->second(period);
}

std::optional<WallTime> next_rekey(const KeyRecord& key, const Periods& periods) {
  const Span active = periods.of(key).active;
  if (active == 0ms || !counts(key) || is_pinned(key.purpose)) return std::nullopt;
  return key.activated + active - active * periods.jitter_percent / 100 * lot_of(key.kid) / 1000;
}

bool is_pinned(Purpose purpose) {
  return purpose == Purpose::kCa || purpose == Purpose::kConfirm;
}

bool enforces_period(Purpose purpose) {
  return purpose != Purpose::kAudit && !vouches(purpose);
}

std::optional<WallTime> period_end(const KeyRecord& key, const Periods& periods) {
  const Span active = periods.of(key).active;
  if (active == 0ms || !counts(key) || !enforces_period(key.purpose)) return std::nullopt;
  return std::max<WallTime>(key.activated + active, periods.enforced_since);
}

std::optional<WallTime> refused_from(const KeyRecord& key, const Periods& periods) {
  const auto end = period_end(key, periods);
  if (!end) return std::nullopt;
  return *end + periods.of(key).grace.value_or(periods.grace);
}

std::vector<Due> due(const std::vector<KeyRecord>& keys, const std::map<Kid, WallTime>& used,
                     const Periods& periods, WallTime now) {
  std::vector<Due> out;
  for (const auto& key : keys) {
    if (!counts(key)) continue;
    // Suspend an unused key instead of renewing it first.
    if (auto idle = due_suspension(key, used, periods, now)) {
      out.push_back(std::move(*idle));
    } else {
      add_rekey(out, key, periods, now);
    }
  }
  return out;
}

std::string span_text(Span span) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(span).count();
  if (seconds >= 2 * 86400) return std::to_string(seconds / 86400) + " d";
  if (seconds >= 2 * 3600) return std::to_string(seconds / 3600) + " h";
  if (seconds >= 120) return std::to_string(seconds / 60) + " min";
  return std::to_string(seconds) + " s";
}

}  // namespace keyagent::keys
