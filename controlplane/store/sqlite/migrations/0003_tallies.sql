-- One row per series and span instead of one per outcome and per latency
-- bucket: a fifth of the space, and a month is read ten times as fast. Both
-- columns are packs (pack.go): sorted pairs of key and number.
CREATE TABLE tally (
  span    INTEGER NOT NULL, -- in minutes; longer ones repeat the sum of theirs
  start   INTEGER NOT NULL, -- Unix minute, a multiple of span
  series  INTEGER NOT NULL,
  counts  BLOB NOT NULL,    -- requests by outcome, status and flags
  latency BLOB NOT NULL,    -- requests by class and upper bound
  PRIMARY KEY (span, start, series)
) STRICT, WITHOUT ROWID;

INSERT INTO tally (span, start, series, counts, latency)
  SELECT span, start, series, seawall_pack((status << 8) | (outcome << 3) | (degraded << 1) | coarse, n), x''
  FROM counts GROUP BY span, start, series;
INSERT INTO tally (span, start, series, counts, latency)
  SELECT span, start, series, x'', seawall_pack(((le_us + 1) << 8) | class, n)
  FROM latency WHERE true GROUP BY span, start, series
  ON CONFLICT DO UPDATE SET latency = excluded.latency;
DROP TABLE counts;
DROP TABLE latency;

-- From which minute on each span is kept. Before it, only longer spans are.
CREATE TABLE kept (
  span  INTEGER PRIMARY KEY,
  since INTEGER NOT NULL -- a multiple of the next longer span
) STRICT;
