// SPDX-License-Identifier: Apache-2.0
#include "agent/config/rekey_config.h"

#include "agent/base/error.h"
#include "agent/base/ids.h"

namespace keyagent::config {
namespace {

using namespace std::chrono_literals;

// What was begun with the old key when it was switched must still end with it.
constexpr auto kShortestDrain = std::chrono::milliseconds(10s);

[[noreturn]] void fail(const YamlReader& reader, const std::string& name, const std::string& text) {
  throw Error(Code::kConfiguration, reader.where(name) + ": " + text);
}

KeyPeriod read_period(const YamlReader& reader) {
  KeyPeriod period;
  const auto read = [&](const char* name, std::optional<std::chrono::milliseconds>& value) {
    if (reader.has(name)) value = reader.duration(name, 0ms);
  };
  read("every", period.every);
  read("drain", period.drain);
  read("idle", period.idle);
  read("grace", period.grace);
  if (reader.has("automatic")) period.automatic = reader.boolean("automatic", true);
  if (period.drain && *period.drain < kShortestDrain)
    fail(reader, "drain", "'drain' must be at least 10s: envelopes in transit need the old key");
  if (period.every && *period.every != 0ms && *period.every < 1min)
    fail(reader, "every", "'every' must be at least 1m, or 0s for never");
  return period;
}

}  // namespace

RekeyConfig read_rekey(const YamlReader& rekey) {
  RekeyConfig config;
  const YamlReader purposes = rekey.child("purposes");
  for (const auto& name : purposes.names()) {
    const auto purpose = purpose_of(name);
    if (!purpose)
      fail(purposes, name,
           "unknown purpose: '" + name + "' (transport, auth, sign, storage, exchange, audit)");
    config.purposes[*purpose] = read_period(purposes.child(name));
  }
  const YamlReader keys = rekey.child("keys");
  for (const auto& name : keys.names()) {
    if (!KeyName::parse(name)) fail(keys, name, "'" + name + "' is not a key name (a-z 0-9 . _ -)");
    config.keys[name] = read_period(keys.child(name));
  }
  config.warn = rekey.duration("warn", config.warn);
  config.jitter_percent = static_cast<int>(rekey.integer("jitter", config.jitter_percent, 0, 50));
  config.grace = rekey.duration("grace", config.grace);
  config.max_ordered_per_day =
      static_cast<int>(rekey.integer("max-ordered-per-day", config.max_ordered_per_day, 0, 1000));
  config.max_generations =
      static_cast<int>(rekey.integer("max-generations", config.max_generations, 2, 1000));
  config.hook = rekey.text("hook", "");
  if (!config.hook.empty() && !config.hook.is_absolute())
    fail(rekey, "hook", "'hook' must be an absolute path, not '" + config.hook.string() + "'");
  return config;
}

}  // namespace keyagent::config
