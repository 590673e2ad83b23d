-- Breakers that operators hold open or closed. A version is never used twice:
-- AUTOINCREMENT remembers those of rows that are gone.
CREATE TABLE override (
  version INTEGER PRIMARY KEY AUTOINCREMENT,
  service TEXT NOT NULL,
  route   TEXT NOT NULL,
  state   TEXT NOT NULL CHECK (state IN ('open', 'closed')),
  reason  TEXT NOT NULL,
  author  TEXT NOT NULL,
  since   INTEGER NOT NULL, -- Unix ns
  until   INTEGER NOT NULL, -- Unix ns
  UNIQUE (service, route)
) STRICT;

-- Who changed what by hand. Bounded: see auditKept.
CREATE TABLE audit (
  id      INTEGER PRIMARY KEY AUTOINCREMENT,
  at      INTEGER NOT NULL, -- Unix ns
  author  TEXT NOT NULL,
  action  TEXT NOT NULL,
  subject TEXT NOT NULL,
  reason  TEXT NOT NULL,
  until   INTEGER -- Unix ns; NULL where it does not end by itself
) STRICT;
