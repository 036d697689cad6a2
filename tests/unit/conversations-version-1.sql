PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE conversations (
    id TEXT PRIMARY KEY, title TEXT NOT NULL, system TEXT NOT NULL, leaf TEXT NOT NULL, name TEXT NOT NULL,
    created REAL NOT NULL, updated REAL NOT NULL, deleted REAL
);
INSERT INTO "conversations" VALUES('11111111111111111111111111111111','','Be brief','df4db4756b12476d8a1f716192f2682f','Which city?',1.79539279095088791845e+09,1.79539279095098042483e+09,NULL);
CREATE TABLE pieces (
    turn TEXT NOT NULL REFERENCES turns(id) ON DELETE CASCADE, text TEXT NOT NULL, reasoning TEXT NOT NULL
);
INSERT INTO "pieces" VALUES('df4db4756b12476d8a1f716192f2682f','道菜','想');
CREATE TABLE turns (
    id TEXT PRIMARY KEY, conversation TEXT NOT NULL REFERENCES conversations(id) ON DELETE CASCADE,
    parent TEXT NOT NULL, role TEXT NOT NULL, text TEXT NOT NULL, reasoning TEXT NOT NULL, model TEXT NOT NULL,
    state TEXT NOT NULL, figures TEXT, error TEXT, created REAL NOT NULL
);
INSERT INTO "turns" VALUES('215ba30121cd4666a90de66ddfed0da3','11111111111111111111111111111111','','user','Which city?','','','done',NULL,NULL,1.79539279095090699195e+09);
INSERT INTO "turns" VALUES('586d038f09384ce49e4b9017db36acd6','11111111111111111111111111111111','215ba30121cd4666a90de66ddfed0da3','assistant','Lyon','','m','failed',NULL,'["broke", "why", "hint", 500]',1.79539279095094394689e+09);
INSERT INTO "turns" VALUES('710ba8f1d9154a3ea1af2e4b938f0dd4','11111111111111111111111111111111','586d038f09384ce49e4b9017db36acd6','user','北京烤鸭？','','','done',NULL,NULL,1.79539279095096611978e+09);
INSERT INTO "turns" VALUES('df4db4756b12476d8a1f716192f2682f','11111111111111111111111111111111','710ba8f1d9154a3ea1af2e4b938f0dd4','assistant','一','','m','streaming',NULL,NULL,1.7953927909509723186e+09);
INSERT INTO "turns" VALUES('eec0a065030645b5a3245332aeddf097','11111111111111111111111111111111','215ba30121cd4666a90de66ddfed0da3','assistant','Paris','hm','m','done','{"ttft_s": 0.1, "elapsed_s": 0.5, "tokens_per_s": 30.0, "prompt_tokens": 5, "completion_tokens": 12, "finish_reason": "stop", "chunks": 12, "estimated": false}',NULL,1.79539279095091843605e+09);
CREATE INDEX turns_of ON turns(conversation);
CREATE INDEX pieces_of ON pieces(turn);
CREATE INDEX by_time ON conversations(updated);
COMMIT;
