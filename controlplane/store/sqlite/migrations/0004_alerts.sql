-- Alerts that hold, and those that have ended lately.
CREATE TABLE alert (
  name     TEXT NOT NULL,
  labels   TEXT NOT NULL,    -- a JSON object, keys sorted
  state    TEXT NOT NULL CHECK (state IN ('pending', 'firing', 'resolved')),
  severity TEXT NOT NULL,
  began    INTEGER NOT NULL, -- when its condition began to hold, Unix ns
  since    INTEGER NOT NULL, -- when it entered its state, Unix ns
  summary  TEXT NOT NULL,
  action   TEXT NOT NULL,
  told     INTEGER NOT NULL, -- 1: webhooks were told that it fires
  PRIMARY KEY (name, labels)
) STRICT, WITHOUT ROWID;
