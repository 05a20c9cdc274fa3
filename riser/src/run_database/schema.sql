-- The event log of a run. Rows are only ever added. `id` counts events across all tables, so it orders them and names one.
-- Times are seconds since 1970, UTC, when the event was written down. See docs/run-database.md.

CREATE TABLE IF NOT EXISTS run (
  key TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT;

-- Numbers that have been given to starts of a role; kept before the role starts.
CREATE TABLE IF NOT EXISTS incarnations (
  role TEXT NOT NULL,
  incarnation INTEGER NOT NULL,
  PRIMARY KEY (role, incarnation)
) STRICT;

CREATE TABLE IF NOT EXISTS sessions (
  id INTEGER PRIMARY KEY,
  at REAL NOT NULL,
  role TEXT NOT NULL,
  incarnation INTEGER NOT NULL,
  event TEXT NOT NULL CHECK (event IN ('started', 'ended')),
  version INTEGER,
  digest TEXT,
  catalog TEXT,
  finished INTEGER
) STRICT;

-- Changes of catalog that are part of the run, as each learner knows them: from which batch on, and how much they change.
CREATE TABLE IF NOT EXISTS catalogs (
  id INTEGER PRIMARY KEY,
  at REAL NOT NULL,
  learner INTEGER NOT NULL,
  first_batch INTEGER NOT NULL,
  catalog TEXT NOT NULL,
  folder TEXT NOT NULL,
  added INTEGER NOT NULL,
  removed INTEGER NOT NULL,
  skipped INTEGER NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS leases (
  id INTEGER PRIMARY KEY,
  at REAL NOT NULL,
  coordinator INTEGER NOT NULL,
  lease INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  worker INTEGER NOT NULL,
  version INTEGER NOT NULL,
  first_group INTEGER NOT NULL,
  end_group INTEGER NOT NULL,
  event TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS leases_by_epoch ON leases (epoch, coordinator);

CREATE TABLE IF NOT EXISTS groups (
  id INTEGER PRIMARY KEY,
  at REAL NOT NULL,
  learner INTEGER NOT NULL,
  group_id INTEGER NOT NULL,
  version INTEGER NOT NULL,
  worker INTEGER NOT NULL,
  lease INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  fate TEXT NOT NULL CHECK (fate IN ('admitted', 'duplicate', 'untimely', 'rejected')),
  reason TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS groups_by_group ON groups (group_id, learner);
CREATE INDEX IF NOT EXISTS groups_by_epoch ON groups (epoch, group_id);

CREATE TABLE IF NOT EXISTS versions (
  id INTEGER PRIMARY KEY,
  at REAL NOT NULL,
  learner INTEGER NOT NULL,
  version INTEGER NOT NULL,
  digest TEXT NOT NULL,
  wait_seconds REAL NOT NULL,
  learn_seconds REAL NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS versions_by_version ON versions (version, learner);

-- Which groups were trained into which version.
CREATE TABLE IF NOT EXISTS batches (
  id INTEGER PRIMARY KEY,
  learner INTEGER NOT NULL,
  version INTEGER NOT NULL,
  group_id INTEGER NOT NULL,
  group_version INTEGER NOT NULL,
  catalog TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS batches_by_group ON batches (group_id, learner);
CREATE INDEX IF NOT EXISTS batches_by_version ON batches (version, learner);

CREATE TABLE IF NOT EXISTS checkpoints (
  id INTEGER PRIMARY KEY,
  at REAL NOT NULL,
  learner INTEGER NOT NULL,
  version INTEGER NOT NULL,
  folder TEXT NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS evaluations (
  id INTEGER PRIMARY KEY,
  at REAL NOT NULL,
  learner INTEGER NOT NULL,
  version INTEGER NOT NULL,
  name TEXT NOT NULL,
  value REAL
) STRICT;

CREATE TABLE IF NOT EXISTS metrics (
  id INTEGER PRIMARY KEY,
  at REAL NOT NULL,
  learner INTEGER NOT NULL,
  version INTEGER NOT NULL,
  name TEXT NOT NULL,
  value REAL
) STRICT;

-- The versions that the run stands on: those that no later learner has gone back behind, or replaced by what another learner
-- has trained elsewhere.
CREATE VIEW IF NOT EXISTS lineage AS
SELECT * FROM versions AS v WHERE NOT EXISTS (
  SELECT 1 FROM sessions AS s
  WHERE s.role = 'learner' AND s.event = 'started' AND s.incarnation > v.learner
    AND (
      s.version < v.version
      OR (s.version = v.version AND s.digest <> v.digest)
      -- What it began with was trained elsewhere, and so was everything before.
      OR (
        EXISTS (SELECT 1 FROM run WHERE key = 'learner')
        AND NOT EXISTS (
          SELECT 1 FROM versions AS w WHERE w.version = s.version AND w.digest = s.digest AND w.id < s.id)
      )
    )
);

-- The groups that those versions were trained on.
CREATE VIEW IF NOT EXISTS trained AS
SELECT b.* FROM batches AS b WHERE EXISTS (
  SELECT 1 FROM lineage AS l WHERE l.learner = b.learner AND l.version = b.version
);
