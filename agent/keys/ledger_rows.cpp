// SPDX-License-Identifier: Apache-2.0
// The ledger's rows: from records to SQL and back.

#include "agent/keys/ledger_rows.h"

#include "agent/base/encoding.h"
#include "agent/keys/key_store.h"
#include "agent/keys/ledger.h"
#include "agent/keys/sqlite.h"

namespace keyagent::keys {
namespace {

constexpr const char* kDrainedNote = "drained/";

std::string time_text(WallTime time) {
  return time == WallTime{} ? std::string() : rfc3339(time);
}
WallTime time_of(const std::string& text) {
  return text.empty() ? WallTime{} : parse_rfc3339(text);
}
Kid kid_of(const std::string& text) {
  return text.empty() ? Kid() : Kid(text);
}

}  // namespace

void Ledger::begin_step(const JournalStep& step) {
  change([&] {
    const auto& key = step.planned;
    Statement(db_,
              "INSERT INTO journal (cka_id, kind, kid, name, generation, purpose, algorithm, "
              "envelope, state, actor, reason, exchangeable, origin, accepts_cbc) "
              "VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?) "
              "ON CONFLICT (cka_id) DO UPDATE SET kind=excluded.kind, actor=excluded.actor, "
              "reason=excluded.reason")
        .text(step.cka_id.hex())
        .text(step.kind == JournalStep::Kind::kCreate ? "create" : "destroy")
        .text(key.kid.text())
        .text(key.name.text())
        .number(key.generation)
        .text(name_of(key.purpose))
        .text(name_of(key.algorithm))
        .text(name_of(key.envelope))
        .text(name_of(key.state))
        .text(key.actor)
        .text(key.reason)
        .number(key.exchangeable ? 1 : 0)
        .text(key.origin)
        .number(key.accepts_cbc ? 1 : 0)
        .step();
  });
}

void Ledger::finish_create(const KeyRecord& record) {
  change([&] {
    write_key(record);
    write_change(record, KeyState::kStaged);
    remove_step(record.cka_id);
    Statement(db_,
              "UPDATE rekeys SET step='generated', new_kid=?, changed=? "
              "WHERE cka_id=? AND step='planned'")
        .text(record.kid.text())
        .text(time_text(record.changed))
        .text(record.cka_id.hex())
        .step();
  });
}

void Ledger::finish_destroy(const KeyRecord& record, KeyState before) {
  change([&] {
    write_key(record);
    write_change(record, before);
    remove_step(record.cka_id);
  });
}

void Ledger::drop_step(const CkaId& cka_id) {
  change([&] { remove_step(cka_id); });
}

void Ledger::record_states(const std::vector<Changed>& keys, const RekeyRecord* rekey) {
  change([&] {
    for (const auto& changed : keys) {
      write_key(changed.key);
      write_change(changed.key, changed.before);
    }
    if (rekey != nullptr) write_rekey(*rekey);
  });
}

void Ledger::record_purposes(const std::vector<KeyRecord>& keys) {
  change([&] {
    for (const auto& key : keys) {
      write_key(key);
      write_change(key, key.state);
      Statement(db_, "UPDATE keys SET purpose=? WHERE cka_id=?")
          .text(name_of(key.purpose))
          .text(key.cka_id.hex())
          .step();
    }
  });
}

RekeyRecord Ledger::begin_rekey(RekeyRecord rekey) {
  change([&] {
    Statement last(db_, "SELECT COALESCE(MAX(id), 0) FROM rekeys");
    last.step();
    rekey.id = static_cast<std::uint64_t>(last.number_at(0)) + 1;
    write_rekey(rekey);
    forget_rekeys(rekey);
  });
  return rekey;
}

void Ledger::record_rekey(const RekeyRecord& rekey) {
  change([&] { write_rekey(rekey); });
}

void Ledger::record_census(const std::string& source, const std::vector<CensusEntry>& entries) {
  change([&] {
    Statement(db_, "DELETE FROM census WHERE source=?").text(source).step();
    for (const auto& entry : entries) {
      Statement(db_, "INSERT INTO census (source, kid, count, at, actor) VALUES (?,?,?,?,?)")
          .text(source)
          .text(entry.kid.text())
          .number(static_cast<std::int64_t>(entry.count))
          .text(time_text(entry.at))
          .text(entry.actor)
          .step();
    }
    census_.reset();
    census_hash_.clear();
    if (!census_hashes_) return;
    census_hashes_->erase(source);
    if (!entries.empty()) census_hashes_->emplace(source, sha256(as_bytes(census_rows(source))));
  });
}

void Ledger::record_certificate(const CertificateRecord& record) {
  change([&] {
    Statement(db_, "DELETE FROM certificates WHERE kid=?").text(record.kid.text()).step();
    std::int64_t place = 0;
    for (const auto& der : record.chain) {
      Statement(db_,
                "INSERT INTO certificates (kid, place, der, installed, actor) VALUES (?,?,?,?,?)")
          .text(record.kid.text())
          .number(place++)
          .blob(der)
          .text(time_text(record.installed))
          .text(record.actor)
          .step();
    }
  });
}

std::vector<StateChange> Ledger::history(const Kid& kid) {
  Statement rows(db_,
                 "SELECT before, after, at, actor, reason FROM history WHERE kid=? ORDER BY seq");
  rows.text(kid.text());
  std::vector<StateChange> out;
  while (rows.step()) {
    out.push_back({kid, parsed(key_state_of(rows.text_at(0)), file_, "state"),
                   parsed(key_state_of(rows.text_at(1)), file_, "state"), time_of(rows.text_at(2)),
                   rows.text_at(3), rows.text_at(4)});
  }
  return out;
}

void Ledger::note_drained(std::uint64_t rekey, std::chrono::milliseconds drained) {
  note(kDrainedNote + std::to_string(rekey), std::to_string(drained.count()));
}

void Ledger::note(const std::string& name, const std::string& value) {
  Statement(db_,
            "INSERT INTO notes (name, value) VALUES (?,?) ON CONFLICT (name) DO UPDATE SET "
            "value=excluded.value")
      .text(name)
      .text(value)
      .step();
}

std::string Ledger::noted(const std::string& name) {
  Statement row(db_, "SELECT value FROM notes WHERE name=?");
  return row.text(name).step() ? row.text_at(0) : std::string();
}

std::map<std::string, std::string> Ledger::noted_under(const std::string& prefix) {
  Statement rows(db_, "SELECT name, value FROM notes WHERE substr(name, 1, ?) = ?");
  rows.number(static_cast<std::int64_t>(prefix.size())).text(prefix);
  std::map<std::string, std::string> out;
  while (rows.step()) out[rows.text_at(0).substr(prefix.size())] = rows.text_at(1);
  return out;
}

void Ledger::remove_step(const CkaId& cka_id) {
  Statement(db_, "DELETE FROM journal WHERE cka_id=?").text(cka_id.hex()).step();
}

void Ledger::write_key(const KeyRecord& record) {
  Statement(db_,
            "INSERT INTO keys (cka_id, kid, name, generation, purpose, algorithm, envelope, state, "
            "spki, created, changed, reason, activated, actor, exchangeable, origin, accepts_cbc) "
            "VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (cka_id) DO UPDATE SET "
            "state=excluded.state, changed=excluded.changed, reason=excluded.reason, "
            "activated=excluded.activated, actor=excluded.actor")
      .text(record.cka_id.hex())
      .text(record.kid.text())
      .text(record.name.text())
      .number(record.generation)
      .text(name_of(record.purpose))
      .text(name_of(record.algorithm))
      .text(name_of(record.envelope))
      .text(name_of(record.state))
      .blob(record.spki)
      .text(time_text(record.created))
      .text(time_text(record.changed))
      .text(record.reason)
      .text(time_text(record.activated))
      .text(record.actor)
      .number(record.exchangeable ? 1 : 0)
      .text(record.origin)
      .number(record.accepts_cbc ? 1 : 0)
      .step();
}

void Ledger::write_change(const KeyRecord& record, KeyState before) {
  Statement(db_, "INSERT INTO history (kid, before, after, at, actor, reason) VALUES (?,?,?,?,?,?)")
      .text(record.kid.text())
      .text(name_of(before))
      .text(name_of(record.state))
      .text(time_text(record.changed))
      .text(record.actor)
      .text(record.reason)
      .step();
  forget_changes();
}

// A key that changes often loses its own oldest changes, not those of others: first what keys have
// beyond kShare, then those of destroyed keys, then the oldest of the keys with the most.
void Ledger::forget_changes() {
  constexpr std::int64_t kShare = 64;
  Statement count(db_, "SELECT COUNT(*) FROM history");
  count.step();
  const auto beyond = count.number_at(0) - static_cast<std::int64_t>(history_rows_);
  if (beyond <= 0) return;
  Statement(db_,
            "DELETE FROM history WHERE seq IN (SELECT seq FROM (SELECT seq, "
            "kid IN (SELECT kid FROM keys WHERE state<>'destroyed') AS here, "
            "ROW_NUMBER() OVER (PARTITION BY kid ORDER BY seq DESC) AS place FROM history) "
            "ORDER BY place>? DESC, here, place DESC, seq LIMIT ?)")
      .number(kShare)
      .number(beyond)
      .step();
}

// Finished ones beyond the bound. Those that an instance ordered within the last week stay: its
// budget is counted by them, which bounds them too.
void Ledger::forget_rekeys(const RekeyRecord& newest) {
  constexpr auto kStay = std::chrono::hours(24 * 7);
  Statement(db_,
            "DELETE FROM rekeys WHERE id IN (SELECT id FROM rekeys WHERE step IN ('destroyed', "
            "'aborted') AND (actor<>? OR changed<?) ORDER BY id LIMIT "
            "MAX(0, (SELECT COUNT(*) FROM rekeys) - ?))")
      .text(kInstanceActor)
      .text(time_text(newest.changed - kStay))
      .number(static_cast<std::int64_t>(history_rows_))
      .step();
  const std::string prefix = kDrainedNote;
  Statement(db_,
            "DELETE FROM notes WHERE substr(name, 1, ?) = ? AND "
            "CAST(substr(name, ?) AS INTEGER) NOT IN (SELECT id FROM rekeys)")
      .number(static_cast<std::int64_t>(prefix.size()))
      .text(prefix)
      .number(static_cast<std::int64_t>(prefix.size()) + 1)
      .step();
}

std::uint64_t Ledger::history_size() {
  Statement count(db_, "SELECT MAX((SELECT COUNT(*) FROM history), (SELECT COUNT(*) FROM rekeys))");
  count.step();
  return static_cast<std::uint64_t>(count.number_at(0));
}

void Ledger::write_rekey(const RekeyRecord& rekey) {
  Statement(db_,
            "INSERT INTO rekeys (id, name, step, old_kid, new_kid, cka_id, algorithm, envelope, "
            "begun, changed, drain, actor, reason) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?) "
            "ON CONFLICT (id) DO UPDATE SET step=excluded.step, new_kid=excluded.new_kid, "
            "changed=excluded.changed, reason=excluded.reason")
      .number(static_cast<std::int64_t>(rekey.id))
      .text(rekey.name.text())
      .text(name_of(rekey.step))
      .text(rekey.old_kid.text())
      .text(rekey.new_kid.text())
      .text(rekey.cka_id.hex())
      .text(name_of(rekey.algorithm))
      .text(name_of(rekey.envelope))
      .text(time_text(rekey.begun))
      .text(time_text(rekey.changed))
      .number(rekey.drain.count())
      .text(rekey.actor)
      .text(rekey.reason)
      .step();
}

std::vector<KeyRecord> Ledger::read_keys() {
  Statement rows(db_,
                 "SELECT cka_id, kid, name, generation, purpose, algorithm, envelope, state, spki, "
                 "created, changed, reason, activated, actor, exchangeable, origin, accepts_cbc "
                 "FROM keys ORDER BY rowid");
  std::vector<KeyRecord> keys;
  while (rows.step()) {
    KeyRecord key;
    key.cka_id = CkaId::from_hex(rows.text_at(0));
    key.kid = Kid(rows.text_at(1));
    key.name = KeyName(rows.text_at(2));
    key.generation = static_cast<int>(rows.number_at(3));
    key.purpose = parsed(purpose_of(rows.text_at(4)), file_, "purpose");
    key.algorithm = parsed(key_algorithm_of(rows.text_at(5)), file_, "algorithm");
    key.envelope = parsed(envelope_algorithm_of(rows.text_at(6)), file_, "envelope");
    key.state = parsed(key_state_of(rows.text_at(7)), file_, "state");
    key.spki = rows.blob_at(8);
    key.created = time_of(rows.text_at(9));
    key.changed = time_of(rows.text_at(10));
    key.reason = rows.text_at(11);
    key.activated = time_of(rows.text_at(12));
    key.actor = rows.text_at(13);
    key.exchangeable = rows.number_at(14) != 0;
    key.origin = rows.text_at(15);
    key.accepts_cbc = rows.number_at(16) != 0;
    keys.push_back(std::move(key));
  }
  return keys;
}

std::vector<JournalStep> Ledger::read_journal() {
  Statement rows(db_,
                 "SELECT cka_id, kind, kid, name, generation, purpose, algorithm, envelope, state, "
                 "actor, reason, exchangeable, origin, accepts_cbc FROM journal ORDER BY rowid");
  std::vector<JournalStep> steps;
  while (rows.step()) {
    JournalStep step;
    step.cka_id = CkaId::from_hex(rows.text_at(0));
    step.kind =
        rows.text_at(1) == "create" ? JournalStep::Kind::kCreate : JournalStep::Kind::kDestroy;
    step.planned.cka_id = step.cka_id;
    step.planned.kid = kid_of(rows.text_at(2));
    step.planned.name = KeyName(rows.text_at(3));
    step.planned.generation = static_cast<int>(rows.number_at(4));
    step.planned.purpose = parsed(purpose_of(rows.text_at(5)), file_, "purpose");
    step.planned.algorithm = parsed(key_algorithm_of(rows.text_at(6)), file_, "algorithm");
    step.planned.envelope = parsed(envelope_algorithm_of(rows.text_at(7)), file_, "envelope");
    step.planned.state = parsed(key_state_of(rows.text_at(8)), file_, "state");
    step.planned.actor = rows.text_at(9);
    step.planned.reason = rows.text_at(10);
    step.planned.exchangeable = rows.number_at(11) != 0;
    step.planned.origin = rows.text_at(12);
    step.planned.accepts_cbc = rows.number_at(13) != 0;
    steps.push_back(std::move(step));
  }
  return steps;
}

std::vector<RekeyRecord> Ledger::read_rekeys() {
  Statement rows(db_,
                 "SELECT id, name, step, old_kid, new_kid, cka_id, algorithm, envelope, begun, "
                 "changed, drain, actor, reason FROM rekeys ORDER BY id");
  const auto drained = noted_under(kDrainedNote);
  std::vector<RekeyRecord> out;
  while (rows.step()) {
    RekeyRecord rekey;
    rekey.id = static_cast<std::uint64_t>(rows.number_at(0));
    rekey.name = KeyName(rows.text_at(1));
    rekey.step = parsed(rekey_step_of(rows.text_at(2)), file_, "rekey step");
    rekey.old_kid = kid_of(rows.text_at(3));
    rekey.new_kid = kid_of(rows.text_at(4));
    rekey.cka_id = CkaId::from_hex(rows.text_at(5));
    rekey.algorithm = parsed(key_algorithm_of(rows.text_at(6)), file_, "algorithm");
    rekey.envelope = parsed(envelope_algorithm_of(rows.text_at(7)), file_, "envelope");
    rekey.begun = time_of(rows.text_at(8));
    rekey.changed = time_of(rows.text_at(9));
    rekey.drain = std::chrono::milliseconds(rows.number_at(10));
    rekey.actor = rows.text_at(11);
    rekey.reason = rows.text_at(12);
    if (const auto over = drained.find(std::to_string(rekey.id)); over != drained.end())
      rekey.drained = std::chrono::milliseconds(std::strtoll(over->second.c_str(), nullptr, 10));
    out.push_back(std::move(rekey));
  }
  return out;
}

std::shared_ptr<const Census> Ledger::read_census() {
  Statement rows(db_, "SELECT source, kid, count, at, actor FROM census ORDER BY source, kid");
  auto out = std::make_shared<Census>();
  while (rows.step()) {
    out->entries.push_back({rows.text_at(0), kid_of(rows.text_at(1)),
                            static_cast<std::uint64_t>(rows.number_at(2)), time_of(rows.text_at(3)),
                            rows.text_at(4)});
    out->sealed[out->entries.back().kid] += out->entries.back().count;
  }
  return out;
}

std::map<Kid, CertificateRecord> Ledger::read_certificates() {
  Statement rows(db_, "SELECT kid, der, installed, actor FROM certificates ORDER BY kid, place");
  std::map<Kid, CertificateRecord> out;
  while (rows.step()) {
    auto& record = out[Kid(rows.text_at(0))];
    record.kid = Kid(rows.text_at(0));
    record.chain.push_back(rows.blob_at(1));
    record.installed = time_of(rows.text_at(2));
    record.actor = rows.text_at(3);
  }
  return out;
}

}  // namespace keyagent::keys
