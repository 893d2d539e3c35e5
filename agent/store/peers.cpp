// SPDX-License-Identifier: Apache-2.0
#include "agent/store/peers.h"

#include "agent/store/engine/table.h"
#include "agent/store/shared_statements.h"

namespace keyagent::store {
namespace {

constexpr Column<Peer> kPeerColumns[] = {
    column<&Peer::identity>("identity").key(),
    column<&Peer::name>("name"),
    column<&Peer::spki>("spki"),
    column<&Peer::url>("url"),
    column<&Peer::ca>("ca"),
    column<&Peer::automatic>("automatic"),
    column<&Peer::owner>("owner"),
    column<&Peer::epoch>("epoch").fixed(),
    column<&Peer::epoch_jws>("epoch_jws").fixed(),
    column<&Peer::added_by>("added_by").fixed(),
    column<&Peer::added>("added").fixed(),
    column<&Peer::seen>("seen").fixed(),
    column<&Peer::revision>("revision").fixed(),
};
constexpr Table<Peer> kPeers{"peers", kPeerColumns};

}  // namespace

bool Peers::add(const Peer& peer) {
  return db_.write([&](Sql& sql) {
    return sql.run(kPeers.insert() + "ON CONFLICT DO NOTHING", kPeers.all(peer)) == 1;
  });
}

std::optional<Peer> Peers::find(const std::string& identity) {
  return db_.read([&](Sql& sql) {
    return sql.first(kPeers.select() + "WHERE identity = :identity", {{"identity", identity}},
                     kPeers);
  });
}

std::vector<Peer> Peers::all() {
  return db_.read([](Sql& sql) { return sql.all(kPeers.select() + "ORDER BY name", {}, kPeers); });
}

bool Peers::update(const Peer& peer) {
  return db_.write([&](Sql& sql) {
    return sql.run(kPeers.update() +
                       ", revision = revision + 1 "
                       "WHERE identity = :identity AND revision = :revision",
                   kPeers.changes(peer, {"identity", "revision"})) == 1;
  });
}

bool Peers::remove(const std::string& identity) {
  return db_.write([&](Sql& sql) {
    return sql.run("DELETE FROM peers WHERE identity = :identity", {{"identity", identity}}) == 1;
  });
}

bool Peers::replace(const std::string& before, const std::string& after) {
  return db_.write([&](Sql& sql) {
    const Bounds bounds{{"before", before}, {"after", after}};
    // Its key is learnt again, from what it signs.
    const bool replaced = sql.run(
                              "UPDATE peers SET identity = :after, spki = '', "
                              "revision = revision + 1 WHERE identity = :before "
                              "AND NOT EXISTS (SELECT 1 FROM peers WHERE identity = :after)",
                              bounds) == 1;
    // What is being worked on for the one before is not finished for it.
    if (replaced)
      sql.run("UPDATE exchanges SET peer = :after, revision = revision + 1 WHERE peer = :before",
              bounds);
    return replaced;
  });
}

void Peers::replace_own_identity(const std::string& before, const std::string& after,
                                 const Event& event) {
  db_.write([&](Sql& sql) {
    const Bounds bounds{{"before", before}, {"after", after}};
    sql.run("UPDATE exchanges SET own = :after WHERE own = :before", bounds);
    sql.run("UPDATE peers SET owner = :after WHERE owner = :before", bounds);
    insert_event(sql, event);
  });
}

void Peers::note(const std::string& identity, std::int64_t epoch, const std::string& epoch_jws,
                 WallTime now) {
  db_.write([&](Sql& sql) {
    sql.run("UPDATE peers SET seen = :now WHERE identity = :identity",
            {{"now", now}, {"identity", identity}});
    sql.run(
        "UPDATE peers SET epoch = :epoch, epoch_jws = :jws WHERE identity = :identity "
        "AND epoch < :known",
        {{"epoch", epoch}, {"jws", epoch_jws}, {"identity", identity}, {"known", epoch}});
  });
}

bool Peers::use_nonce(const std::string& peer, const std::string& nonce, WallTime expires) {
  return db_.write([&](Sql& sql) {
    return sql.run(
               "INSERT INTO peer_nonces (peer, nonce, expires) VALUES (:peer, :nonce, :expires) "
               "ON CONFLICT (peer, nonce) DO NOTHING",
               {{"peer", peer}, {"nonce", nonce}, {"expires", expires}}) == 1;
  });
}

}  // namespace keyagent::store
