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

std::optional<Due> due_rekey(const KeyRecord& key, const Periods& periods, WallTime now) {
  const auto when = next_rekey(key, periods);
  if (!when || now < *when - periods.warn) return std::nullopt;
  const bool automatic = periods.of(key).automatic;
  Due out{Due::Kind::kWarn, key.name, key.kid, {}};
  const std::string subject = "key " + key.name.text() + " generation " +
                              std::to_string(key.generation) + " (active since " +
                              date(key.activated) + ")";
  if (now < *when) {
    out.text = subject + (automatic ? " is rekeyed by itself on " : " is due for a rekey on ") +
               date(*when);
  } else if (automatic) {
    out.kind = Due::Kind::kRekey;
    out.text = "its cryptoperiod of " + span_text(periods.of(key).active) + " is over";
  } else {
    out.kind = Due::Kind::kOverdue;
    out.text = subject + " is past its cryptoperiod since " + date(*when);
  }
  return out;
}

std::optional<Due> due_suspension(const KeyRecord& key, const std::map<Kid, WallTime>& used,
                                  const Periods& periods, WallTime now) {
  const Span idle = periods.of(key).idle;
  if (idle == 0ms) return std::nullopt;
  const auto known = used.find(key.kid);
  const WallTime last = std::max(key.changed, known == used.end() ? WallTime{} : known->second);
  if (now - last < idle) return std::nullopt;
  return Due{Due::Kind::kSuspend, key.name, key.kid, "unused since " + date(last)};
}

}  // namespace

Cryptoperiod default_cryptoperiod(Purpose purpose) {
  switch (purpose) {
    case Purpose::kTransport:
      return {days(90), days(30), 0ms, true};
    case Purpose::kAuth:
      return {days(60), days(1), 0ms, false};
    case Purpose::kSign:
      return {days(365), days(1), 0ms, false};
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
  if (active == 0ms || !counts(key)) return std::nullopt;
  return key.activated + active - active * periods.jitter_percent / 100 * lot_of(key.kid) / 1000;
}

std::vector<Due> due(const std::vector<KeyRecord>& keys, const std::map<Kid, WallTime>& used,
                     const Periods& periods, WallTime now) {
  std::vector<Due> out;
  for (const auto& key : keys) {
    if (!counts(key)) continue;
    // A key that nobody uses is not renewed first.
    if (auto idle = due_suspension(key, used, periods, now)) {
      out.push_back(std::move(*idle));
    } else if (auto rekey = due_rekey(key, periods, now)) {
      out.push_back(std::move(*rekey));
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
