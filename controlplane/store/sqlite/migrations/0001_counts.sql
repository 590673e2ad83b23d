-- Service, route and priority, spelt once.
CREATE TABLE series (
  id       INTEGER PRIMARY KEY AUTOINCREMENT,
  service  TEXT NOT NULL,
  route    TEXT NOT NULL,
  priority TEXT NOT NULL,
  day      INTEGER NOT NULL, -- Unix day of the last batch that counted it
  UNIQUE (service, route, priority)
) STRICT;

-- Requests by outcome. span is 1 for a minute; longer spans repeat the sum of
-- their minutes, so that a month is not read minute by minute. start is a Unix
-- minute and a multiple of span.
CREATE TABLE counts (
  span     INTEGER NOT NULL,
  start    INTEGER NOT NULL,
  series   INTEGER NOT NULL,
  outcome  INTEGER NOT NULL, -- contract.Outcome
  status   INTEGER NOT NULL,
  degraded INTEGER NOT NULL,
  n        INTEGER NOT NULL,
  coarse   INTEGER NOT NULL, -- 1: some of n belong to a neighbouring minute
  PRIMARY KEY (span, start, series, outcome, status, degraded)
) STRICT, WITHOUT ROWID;

CREATE TABLE latency (
  span   INTEGER NOT NULL,
  start  INTEGER NOT NULL,
  series INTEGER NOT NULL,
  class  INTEGER NOT NULL, -- slo.Class
  le_us  INTEGER NOT NULL, -- upper bound, -1 for +Inf
  n      INTEGER NOT NULL,
  PRIMARY KEY (span, start, series, class, le_us)
) STRICT, WITHOUT ROWID;

-- Up to which minute (exclusive) each span longer than a minute is summed up.
-- Rows of earlier minutes that arrive later are added to the span as well.
CREATE TABLE rolled (
  span  INTEGER PRIMARY KEY,
  until INTEGER NOT NULL
) STRICT;

-- The batches seen of each VM: all up to seq, but those in gaps.
CREATE TABLE vm (
  node TEXT NOT NULL,
  vm   TEXT NOT NULL,
  seq  INTEGER NOT NULL,
  seen INTEGER NOT NULL, -- when the last one arrived, Unix ns
  PRIMARY KEY (node, vm)
) STRICT, WITHOUT ROWID;

CREATE TABLE gap (
  node  TEXT NOT NULL,
  vm    TEXT NOT NULL,
  first INTEGER NOT NULL,
  last  INTEGER NOT NULL,
  PRIMARY KEY (node, vm, first),
  FOREIGN KEY (node, vm) REFERENCES vm ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- The latency histogram's bounds in force, and since which minute.
CREATE TABLE boundary (
  le_us INTEGER PRIMARY KEY,
  since INTEGER NOT NULL
) STRICT;
