// SPDX-License-Identifier: Apache-2.0
// The newest checkpoint of each agent's audit log: a host that was restored as a whole is found by
// it (RELIABILITY 138, 157). An attacker who controls the host can send a newer one first, so the
// first of each day is kept besides.

#include "agent/store/audit_checkpoints.h"

#include <algorithm>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/instance/fleet/agents.h"

namespace keyagent::instance {
namespace {

constexpr std::size_t kHash = 64, kMaxName = 64, kMaxSignature = 2048;

std::string bounded(const Json& said, const char* name, std::size_t max) {
  auto text = text_of(said, name);
  if (text.empty() || text.size() > max)
    throw Error(Code::kUsage, std::string("'") + name + "' of a checkpoint has 1 to " +
                                  std::to_string(max) + " bytes");
  return text;
}

bool is_hash(const std::string& text) {
  return text.size() == kHash && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

store::AuditCheckpoint read_checkpoint(const Json& said) {
  if (!said.is_object()) throw Error(Code::kUsage, "a checkpoint must be an object");
  store::AuditCheckpoint out;
  out.size = number_of(said, "size", -1, 0, INT64_MAX);
  out.hash = bounded(said, "hash", kHash);
  if (out.size < 0 || !is_hash(out.hash))
    throw Error(Code::kUsage, "a checkpoint has the number of its records and their hash");
  out.kid = bounded(said, "kid", kMaxName);
  // As checkpoint.json, whose reader takes it from here.
  out.text = Json{{"size", out.size},
                  {"hash", out.hash},
                  {"time", bounded(said, "time", kMaxName)},
                  {"kid", out.kid},
                  {"alg", bounded(said, "alg", kMaxName)},
                  {"signature", bounded(said, "signature", kMaxSignature)}}
                 .dump();
  return out;
}

std::string described(const store::AuditCheckpoint& each) {
  return std::to_string(each.size) + " records, hash " + each.hash;
}

}  // namespace

Json Agents::keep_checkpoint(const store::Agent& agent, const Json& said) {
  if (said.is_null()) {
    const auto kept = store_.audit_checkpoints().find(agent.id, agent.enrolled);
    return kept ? parse_object(kept->text) : Json();
  }
  auto wanted = read_checkpoint(said);
  wanted.agent = agent.id;
  wanted.enrolled = agent.enrolled;
  wanted.noted = clock_.now();
  const auto kept = store_.audit_checkpoints().keep(wanted);
  if (!kept)
    throw Error(Code::kKeyState,
                "the agent is not trusted, or has enrolled again; its checkpoint is not kept");
  if (kept->size != wanted.size || kept->hash != wanted.hash)
    recorder_.record_repeatable(Outcome::kAlarm, "agent " + agent.id, "agent.audit", agent.id,
                                "its audit log was rewritten, cut or rolled back: it says " +
                                    described(wanted) + ", and said " + described(*kept) + " at " +
                                    rfc3339(kept->noted));
  return parse_object(kept->text);
}

Json Agents::checkpoint(const std::string& id) const {
  const auto agent = require(id);
  const auto kept = store_.audit_checkpoints().find(id, agent.enrolled);
  return {{"agent", id},
          {"checkpoint", kept ? parse_object(kept->text) : Json()},
          {"noted", kept ? time_json(kept->noted) : Json()}};
}

Json Agents::checkpoint_days(const std::string& id) const {
  require(id);
  Json days = Json::array();
  for (const auto& each : store_.audit_checkpoints().days(id)) {
    const auto noted = rfc3339(each.noted);
    days.push_back({{"day", noted.substr(0, 10)},
                    {"noted", noted},
                    {"enrolled", time_json(each.enrolled)},
                    {"checkpoint", parse_object(each.text)}});
  }
  return {{"agent", id}, {"days", days}};
}

Json Agents::accept_log(const std::string& id, const std::string& reason, const std::string& by) {
  const auto agent = require(id);
  const auto kept = store_.audit_checkpoints().find(id, agent.enrolled);
  if (!kept) return checkpoint(id);
  const auto event =
      recorder_.make(Outcome::kDone, "user " + by, "agent.audit-accept", id,
                     "the log is accepted as it is; it had " + described(*kept) + ": " + reason);
  if (!store_.audit_checkpoints().forget(*kept, event))
    throw Error(Code::kBusy,
                "the agent sent a newer checkpoint meanwhile: review that, then try again");
  Recorder::say(event);
  return checkpoint(id);
}

}  // namespace keyagent::instance
