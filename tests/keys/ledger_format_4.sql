-- A ledger as the agent of format 4 left it: an audit key, a transport key and an exchangeable storage key.
PRAGMA application_id=1801812321;
PRAGMA user_version=4;
BEGIN TRANSACTION;
CREATE TABLE keys (
  cka_id TEXT PRIMARY KEY, kid TEXT NOT NULL UNIQUE, name TEXT NOT NULL, generation INTEGER NOT NULL,
  purpose TEXT NOT NULL, algorithm TEXT NOT NULL, envelope TEXT NOT NULL, state TEXT NOT NULL, spki BLOB NOT NULL,
  created TEXT NOT NULL, changed TEXT NOT NULL, reason TEXT NOT NULL, activated TEXT NOT NULL DEFAULT '',
  actor TEXT NOT NULL DEFAULT '', exchangeable INTEGER NOT NULL DEFAULT 0, origin TEXT NOT NULL DEFAULT '', UNIQUE (name, generation)) STRICT;
INSERT INTO keys VALUES('294931fa86cb58f7abcec608d3d561b4','STEnVFnQ29jwbb_p85uDAla9GhlLEiBKBZXeJkWWh9Y','audit',1,'audit','ec-p256','','active',X'3059301306072a8648ce3d020106082a8648ce3d0301070342000413c68b69d85335d6e3e85aa7dc77fbafb1d937674b60211f9d7cc6cb8d623bbddbe04bbf22bf5ed99dc9608fa5bf4e6861a5d106434d9794008c8f405b8bc18e','2026-11-28T21:22:37.990Z','2026-11-28T21:22:37.990Z','created','2026-11-28T21:22:37.990Z','internal:agent',0,'');
INSERT INTO keys VALUES('c4a4d14de8e57592dd8dd2538d4a6a9c','0XD045gOG8T4KzhsgS5ztKedSqGCUvEQxIgEBFtb5F0','credentials',1,'transport','ec-p256','ECDH-ES+A256KW','active',X'3059301306072a8648ce3d020106082a8648ce3d03010703420004ec4b4a7bb907b5ede3afdd45b21d6abb606ab17f016d4d7f04653601338c2851898a5396a02d1362a30cd2e98a6bb2f24a25cd571b78dec10daf63ee84ab820a','2026-11-28T21:22:39.353Z','2026-11-28T21:22:39.353Z','created','2026-11-28T21:22:39.353Z','uid 0',0,'');
INSERT INTO keys VALUES('189598578cc9fbfd1883c19b12c38f18','e88d08c2157738e2b71c8d0741e2b61c','data.customers',1,'storage','aes-256','A256GCMKW','active',X'','2026-11-28T21:22:40.178Z','2026-11-28T21:22:40.178Z','created','2026-11-28T21:22:40.178Z','uid 0',1,'');
CREATE TABLE journal (
  cka_id TEXT PRIMARY KEY, kind TEXT NOT NULL, kid TEXT NOT NULL, name TEXT NOT NULL, generation INTEGER NOT NULL,
  purpose TEXT NOT NULL, algorithm TEXT NOT NULL, envelope TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'active',
  actor TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT '', exchangeable INTEGER NOT NULL DEFAULT 0, origin TEXT NOT NULL DEFAULT '') STRICT;
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
INSERT INTO meta VALUES('epoch','7');
INSERT INTO meta VALUES('digest','0ce7748fa9abe581ae41bcf14ab7bd799c0c41552f5afb2cb6089340eae8750c');
CREATE TABLE history (
  seq INTEGER PRIMARY KEY, kid TEXT NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL, at TEXT NOT NULL,
  actor TEXT NOT NULL, reason TEXT NOT NULL) STRICT;
INSERT INTO history VALUES(1,'STEnVFnQ29jwbb_p85uDAla9GhlLEiBKBZXeJkWWh9Y','staged','active','2026-11-28T21:22:37.990Z','internal:agent','created');
INSERT INTO history VALUES(2,'0XD045gOG8T4KzhsgS5ztKedSqGCUvEQxIgEBFtb5F0','staged','active','2026-11-28T21:22:39.353Z','uid 0','created');
INSERT INTO history VALUES(3,'e88d08c2157738e2b71c8d0741e2b61c','staged','active','2026-11-28T21:22:40.178Z','uid 0','created');
CREATE TABLE rekeys (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL, step TEXT NOT NULL, old_kid TEXT NOT NULL, new_kid TEXT NOT NULL,
  cka_id TEXT NOT NULL UNIQUE, algorithm TEXT NOT NULL, envelope TEXT NOT NULL, begun TEXT NOT NULL,
  changed TEXT NOT NULL, drain INTEGER NOT NULL, actor TEXT NOT NULL,
  reason TEXT NOT NULL) STRICT;
CREATE TABLE census (
  source TEXT NOT NULL, kid TEXT NOT NULL, count INTEGER NOT NULL, at TEXT NOT NULL, actor TEXT NOT NULL,
  PRIMARY KEY (source, kid)) STRICT;
CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
INSERT INTO notes VALUES('clock/seen','2026-11-28T21:22:40.965Z');
INSERT INTO notes VALUES('used/STEnVFnQ29jwbb_p85uDAla9GhlLEiBKBZXeJkWWh9Y','1795900958');
CREATE TABLE certificates (
  kid TEXT NOT NULL, place INTEGER NOT NULL, der BLOB NOT NULL, installed TEXT NOT NULL, actor TEXT NOT NULL,
  PRIMARY KEY (kid, place)) STRICT;
CREATE UNIQUE INDEX one_rekey_a_name ON rekeys (name)
  WHERE step IN ('planned', 'generated', 'proved', 'switched', 'aborting');
COMMIT;
