// SPDX-License-Identifier: Apache-2.0
#include "agent/store/store_impl.h"

namespace keyagent::store {
namespace {

const std::string kSelectPeers =
    "SELECT identity, name, spki, url, ca, automatic, owner, epoch, epoch_jws, added_by, added, "
    "seen, revision FROM peers ";

Peer peer_of(const Row& row) {
  return {.identity = row.text(0),
          .name = row.text(1),
          .spki = row.bytes(2),
          .url = row.text(3),
          .ca = row.text(4),
          .automatic = row.text(5),
          .owner = row.text(6),
          .epoch = row.number(7),
          .epoch_jws = row.text(8),
          .added_by = row.text(9),
          .added = row.time(10),
          .seen = row.time(11),
          .revision = row.number(12)};
}

}  // namespace

bool Store::add_peer(const Peer& peer) {
  return impl_->db.write([&](Sql& sql) {
    return sql.run(
               "INSERT INTO peers (identity, name, spki, url, ca, automatic, owner, epoch, "
               "epoch_jws, added_by, added, seen, revision) VALUES (:identity, :name, :spki, "
               ":url, :ca, :automatic, :owner, :epoch, :epoch_jws, :added_by, :added, :seen, "
               ":revision) ON CONFLICT DO NOTHING",
               {{"identity", peer.identity},
                {"name", peer.name},
                {"spki", peer.spki},
                {"url", peer.url},
                {"ca", peer.ca},
                {"automatic", peer.automatic},
                {"owner", peer.owner},
                {"epoch", peer.epoch},
                {"epoch_jws", peer.epoch_jws},
                {"added_by", peer.added_by},
                {"added", peer.added},
                {"seen", peer.seen},
                {"revision", peer.revision}}) == 1;
  });
}

std::optional<Peer> Store::peer(const std::string& identity) {
  return impl_->db.read([&](Sql& sql) {
    return sql.first(kSelectPeers + "WHERE identity = :identity", {{"identity", identity}},
                     peer_of);
  });
}

std::vector<Peer> Store::peers() {
  return impl_->db.read(
      [](Sql& sql) { return sql.all(kSelectPeers + "ORDER BY name", {}, peer_of); });
}

bool Store::update_peer(const Peer& peer) {
  return impl_->db.write([&](Sql& sql) {
    return sql.run(
               "UPDATE peers SET name = :name, spki = :spki, url = :url, ca = :ca, "
               "automatic = :automatic, owner = :owner, revision = revision + 1 "
               "WHERE identity = :identity AND revision = :revision",
               {{"name", peer.name},
                {"spki", peer.spki},
                {"url", peer.url},
                {"ca", peer.ca},
                {"automatic", peer.automatic},
                {"owner", peer.owner},
                {"identity", peer.identity},
                {"revision", peer.revision}}) == 1;
  });
}

bool Store::remove_peer(const std::string& identity) {
  return impl_->db.write([&](Sql& sql) {
    return sql.run("DELETE FROM peers WHERE identity = :identity", {{"identity", identity}}) == 1;
  });
}

bool Store::replace_peer(const std::string& before, const std::string& after) {
  return impl_->db.write([&](Sql& sql) {
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

void Store::replace_own_identity(const std::string& before, const std::string& after,
                                 const Event& event) {
  impl_->db.write([&](Sql& sql) {
    const Bounds bounds{{"before", before}, {"after", after}};
    sql.run("UPDATE exchanges SET own = :after WHERE own = :before", bounds);
    sql.run("UPDATE peers SET owner = :after WHERE owner = :before", bounds);
    insert_event(sql, event);
  });
}

void Store::note_peer(const std::string& identity, std::int64_t epoch, const std::string& epoch_jws,
                      WallTime now) {
  impl_->db.write([&](Sql& sql) {
    sql.run("UPDATE peers SET seen = :now WHERE identity = :identity",
            {{"now", now}, {"identity", identity}});
    sql.run(
        "UPDATE peers SET epoch = :epoch, epoch_jws = :jws WHERE identity = :identity "
        "AND epoch < :known",
        {{"epoch", epoch}, {"jws", epoch_jws}, {"identity", identity}, {"known", epoch}});
  });
}

bool Store::use_nonce(const std::string& peer, const std::string& nonce, WallTime expires) {
  return impl_->db.write([&](Sql& sql) {
    return sql.run(
               "INSERT INTO peer_nonces (peer, nonce, expires) VALUES (:peer, :nonce, :expires) "
               "ON CONFLICT (peer, nonce) DO NOTHING",
               {{"peer", peer}, {"nonce", nonce}, {"expires", expires}}) == 1;
  });
}

}  // namespace keyagent::store
