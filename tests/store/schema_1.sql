CREATE TABLE credentials ( name TEXT PRIMARY KEY, type TEXT NOT NULL, version BIGINT NOT NULL, blind BIGINT NOT NULL, envelope TEXT NOT NULL, agent_names TEXT NOT NULL, group_names TEXT NOT NULL, changed_by TEXT NOT NULL, changed BIGINT NOT NULL, removed BIGINT NOT NULL);
CREATE TABLE users ( name TEXT PRIMARY KEY, role TEXT NOT NULL, password TEXT NOT NULL, spki_sha256 TEXT NOT NULL, disabled BIGINT NOT NULL);
CREATE TABLE agents ( id TEXT PRIMARY KEY, state TEXT NOT NULL, auth_spki TEXT NOT NULL, transport_spki TEXT NOT NULL, auth_kid TEXT NOT NULL, transport_kid TEXT NOT NULL, previous_transport_kid TEXT NOT NULL, envelope TEXT NOT NULL, next_auth_spki TEXT NOT NULL, next_auth_kid TEXT NOT NULL, next_transport_spki TEXT NOT NULL, next_transport_kid TEXT NOT NULL, next_envelope TEXT NOT NULL, host TEXT NOT NULL, version TEXT NOT NULL, group_names TEXT NOT NULL, approved_by TEXT NOT NULL, reason TEXT NOT NULL, enrolled BIGINT NOT NULL, changed BIGINT NOT NULL, last_seen BIGINT NOT NULL, revision BIGINT NOT NULL);
CREATE TABLE certificates ( serial TEXT PRIMARY KEY, agent TEXT NOT NULL, kid TEXT NOT NULL, not_before BIGINT NOT NULL, not_after BIGINT NOT NULL, revoked BIGINT, reason TEXT NOT NULL, der TEXT NOT NULL);
CREATE TABLE challenges ( id TEXT PRIMARY KEY, kind TEXT NOT NULL, agent TEXT NOT NULL, state TEXT NOT NULL, data TEXT NOT NULL, expires BIGINT NOT NULL);
CREATE TABLE counters (name TEXT PRIMARY KEY, value BIGINT NOT NULL);
CREATE TABLE enrolment_tokens ( hash TEXT PRIMARY KEY, agent_id TEXT NOT NULL, group_names TEXT NOT NULL, created_by TEXT NOT NULL, expires BIGINT NOT NULL, used_by TEXT NOT NULL);
CREATE TABLE events ( seq BIGINT PRIMARY KEY, happened BIGINT NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL, subject TEXT NOT NULL, outcome TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE logins ( hash TEXT PRIMARY KEY, user_name TEXT NOT NULL REFERENCES users (name), expires BIGINT NOT NULL);
CREATE TABLE rekeys ( id BIGINT PRIMARY KEY, batch TEXT NOT NULL, agent TEXT NOT NULL, key_name TEXT NOT NULL, state TEXT NOT NULL, old_kid TEXT NOT NULL, new_kid TEXT NOT NULL, ordered_by TEXT NOT NULL, detail TEXT NOT NULL, ordered BIGINT NOT NULL, changed BIGINT NOT NULL, canary BIGINT NOT NULL);
CREATE TABLE sealed_copies ( agent TEXT NOT NULL, kid TEXT NOT NULL, credential TEXT NOT NULL REFERENCES credentials (name), version BIGINT NOT NULL, envelope TEXT NOT NULL, PRIMARY KEY (agent, kid, credential));
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE store_schema ( version BIGINT PRIMARY KEY, applied BIGINT NOT NULL);
INSERT INTO credentials VALUES('db','password',2,0,'BQY','["host-1","host-2"]','["O''Brien\"; DROP TABLE agents; -- :name $1 %s \\ \n\t ключ 鍵 🔑"]','O''Brien"; DROP TABLE agents; -- :name $1 %s \ 
	 ключ 鍵 🔑',1795257296789,0);
INSERT INTO users VALUES('ada','operator','$argon2id$','',0);
INSERT INTO agents VALUES('host-1','pending','AQID','AP8AJw','auth-host-1','transport-host-1','old-host-1','ECDH-ES+A256KW','AQ','next-auth','Ag','next-transport','RSA-OAEP-256','O''Brien"; DROP TABLE agents; -- :name $1 %s \ 
	 ключ 鍵 🔑','1.2.3','["web","O''Brien\"; DROP TABLE agents; -- :name $1 %s \\ \n\t ключ 鍵 🔑",""]','ada','O''Brien"; DROP TABLE agents; -- :name $1 %s \ 
	 ключ 鍵 🔑',1795257296789,1795257296790,0,7);
INSERT INTO certificates VALUES('0a1b','host-1','auth-host-1',1795257296789,1795260896789,NULL,'','BA');
INSERT INTO challenges VALUES('challenge-1','enrolment','host-1','asked','{}',1795260896789);
INSERT INTO counters VALUES('events',1);
INSERT INTO counters VALUES('rekeys',1);
INSERT INTO enrolment_tokens VALUES('CA','','["web"]','ada',1795260896789,'');
INSERT INTO events VALUES(1,1795257296789,'O''Brien"; DROP TABLE agents; -- :name $1 %s \ 
	 ключ 鍵 🔑','before','','done','');
INSERT INTO logins VALUES('CQ','ada',1795260896789);
INSERT INTO rekeys VALUES(1,'batch-1','host-1','transport','ordered','kid-1','','ada','O''Brien"; DROP TABLE agents; -- :name $1 %s \ 
	 ключ 鍵 🔑',1795257296789,1795257296789,1);
INSERT INTO sealed_copies VALUES('host-1','kid-1','db',2,'AQID');
INSERT INTO settings VALUES('id','keys-1');
INSERT INTO store_schema VALUES(1,1795257296789);
CREATE UNIQUE INDEX agents_auth_kid ON agents (auth_kid) WHERE auth_kid <> '';
CREATE INDEX enrolment_tokens_expires ON enrolment_tokens (expires);
CREATE INDEX challenges_expires ON challenges (expires);
CREATE INDEX logins_expires ON logins (expires);
CREATE INDEX sealed_copies_credential ON sealed_copies (credential);
CREATE INDEX rekeys_agent ON rekeys (agent, id);
CREATE INDEX rekeys_open ON rekeys (id) WHERE state NOT IN ('confirmed', 'failed', 'cancelled');
CREATE INDEX certificates_agent ON certificates (agent, not_before);
