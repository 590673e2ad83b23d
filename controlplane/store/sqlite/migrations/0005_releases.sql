-- Overrides are of breakers and of the gate for releases. Versions go on.
CREATE TABLE held (
  version INTEGER PRIMARY KEY AUTOINCREMENT,
  kind    TEXT NOT NULL, -- override.Kind
  service TEXT NOT NULL,
  route   TEXT NOT NULL, -- '' for a gate
  state   TEXT NOT NULL CHECK (state IN ('open', 'closed', 'allow', 'deny')),
  reason  TEXT NOT NULL,
  author  TEXT NOT NULL,
  since   INTEGER NOT NULL, -- Unix ns
  until   INTEGER NOT NULL, -- Unix ns
  UNIQUE (kind, service, route)
) STRICT;
INSERT INTO held SELECT version, 'breaker', service, route, state, reason, author, since, until FROM override;
DELETE FROM sqlite_sequence WHERE name = 'held';
INSERT INTO sqlite_sequence (name, seq) SELECT 'held', seq FROM sqlite_sequence WHERE name = 'override';
DROP TABLE override;
ALTER TABLE held RENAME TO override;

-- Actions of budget policies that are in force, and post-mortems.
CREATE TABLE standing (
  objective TEXT NOT NULL,
  action    TEXT NOT NULL,
  service   TEXT NOT NULL,
  since     INTEGER NOT NULL, -- Unix ns
  closed    INTEGER NOT NULL, -- 1: a person has closed the post-mortem, and its step is still reached
  PRIMARY KEY (objective, action)
) STRICT, WITHOUT ROWID;

-- What was released, as those say who release. Bounded: see deploymentsKept.
CREATE TABLE deployment (
  id      INTEGER PRIMARY KEY AUTOINCREMENT,
  at      INTEGER NOT NULL, -- Unix ns
  service TEXT NOT NULL,
  version TEXT NOT NULL,
  author  TEXT NOT NULL
) STRICT;
CREATE INDEX deployment_service ON deployment (service, id);

-- Routes that policies had, though nothing may have been counted of them yet:
-- what a filter counts by a policy is believed by the next process, too.
CREATE TABLE route (
  service TEXT NOT NULL,
  route   TEXT NOT NULL,
  told    INTEGER NOT NULL, -- Unix ns, when a policy last named it
  PRIMARY KEY (service, route)
) STRICT, WITHOUT ROWID;
