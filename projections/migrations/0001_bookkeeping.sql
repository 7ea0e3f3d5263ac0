-- How far the read models are, and by which versions they were folded. Their own tables stand beside their folds.
-- One row: the last fact folded, by its place in the log and by its id, so that another log is noticed.
CREATE TABLE callboard.position (
    single   boolean PRIMARY KEY DEFAULT true CHECK (single),
    seq      bigint NOT NULL,
    fact     text NOT NULL,
    versions jsonb NOT NULL,
    tables   text[] NOT NULL
);
INSERT INTO callboard.position (seq, fact, versions, tables) VALUES (0, '', '{}', '{}');
