-- A spool of format 3, as it was released: this file is never changed.
-- Content of the second entry was in a file that is not here.
PRAGMA application_id = 1380729177;
PRAGMA user_version = 3;
BEGIN TRANSACTION;
CREATE TABLE entries (
            number   INTEGER PRIMARY KEY,
            id       TEXT NOT NULL UNIQUE,
            arrived  REAL NOT NULL CHECK (typeof(arrived) = 'real'),
            sender   TEXT,
            envelope TEXT NOT NULL,
            head     BLOB NOT NULL CHECK (typeof(head) = 'blob'),
            form     TEXT NOT NULL,
            size     INTEGER NOT NULL,
            length   INTEGER NOT NULL,
            trouble  TEXT,
            content  BLOB
        );
INSERT INTO "entries" VALUES(1,'1ZZZZZ00000001',1795435200.0,'jon@example.net','{"client":{"address":"192.0.2.1","port":40000,"helo":"client.example.net","extended":true,"listener":"mx"},"body":"8BITMIME","returns":"HDRS","envid":"QQ314159","require_tls":true,"priority":3,"deliver_by":[1795438800.0,"N",true],"release":1795435000.0}',X'52656365697665643A2066726F6D20636C69656E742E6578616D706C652E6E65740D0A','wire',21,25,NULL,X'5375626A6563743A2068656C6C6F0D0A0D0A2E2E0D0A2E0D0A');
INSERT INTO "entries" VALUES(2,'1ZZZZZ00000002',1795435200.0,NULL,'{"client":{"address":"127.0.0.1","listener":"ourselves"}}',X'52656365697665643A2066726F6D20636C69656E742E6578616D706C652E6E65740D0A','wire',69998,70000,NULL,NULL);
CREATE TABLE probes (passed INTEGER NOT NULL);
INSERT INTO "probes" VALUES(0);
CREATE TABLE recipients (
            entry       TEXT NOT NULL,
            id          TEXT NOT NULL,
            wake        REAL,
            due         REAL NOT NULL,
            token       INTEGER NOT NULL,
            attempts    INTEGER NOT NULL,
            address     TEXT NOT NULL,
            original    TEXT,
            route       TEXT NOT NULL,
            destination TEXT NOT NULL,
            policy      TEXT NOT NULL,
            last        TEXT, wishes TEXT, held INTEGER NOT NULL DEFAULT 0,
            PRIMARY KEY (entry, id)
        ) WITHOUT ROWID
        ;
INSERT INTO "recipients" VALUES('1ZZZZZ00000001','1ZZZZZ00000001.0',1795435201.0,1795435201.0,0,1,'elvis@example.org',NULL,'{"forward":[["example.org",25,true]]}','example.org','outbound','["4.4.1","connection refused","","mx.example.org[192.0.2.25]:25"]','{"notify":["DELAY","FAILURE"],"orcpt":"rfc822;elvis@example.org"}',0);
INSERT INTO "recipients" VALUES('1ZZZZZ00000001','1ZZZZZ00000001.1',1795435200.0,1795435200.0,0,0,'strange one@localhost','team@localhost','{"deliver":"maildir","parameters":{"folder":"jon"},"because":"a mailbox"}','maildir','mailboxes',NULL,NULL,0);
INSERT INTO "recipients" VALUES('1ZZZZZ00000001','1ZZZZZ00000001.2',NULL,1795435200.0,0,0,'held@example.org',NULL,'{"hold":true,"because":"suspicious"}','example.org','outbound',NULL,NULL,0);
INSERT INTO "recipients" VALUES('1ZZZZZ00000002','1ZZZZZ00000002.0',1795435200.0,1795435200.0,0,0,'elvis@example.org',NULL,'{"forward":[["example.org",25,true]]}','example.org','outbound',NULL,NULL,0);
CREATE INDEX entries_in_files ON entries (id) WHERE content IS NULL;
CREATE INDEX entries_set_aside ON entries (id) WHERE trouble IS NOT NULL;
CREATE INDEX recipients_by_wake ON recipients (wake, destination, token) WHERE wake IS NOT NULL;
CREATE INDEX recipients_by_lane ON recipients (destination, wake) WHERE wake IS NOT NULL;
CREATE INDEX recipients_parked ON recipients (entry) WHERE wake IS NULL;
COMMIT;
