-- The two logs under the names that one log has, and for every start of a role how far its log surely reaches.

CREATE TEMP VIEW leases AS SELECT * FROM coordinator.leases;
CREATE TEMP VIEW groups AS SELECT * FROM learner.groups;
CREATE TEMP VIEW batches AS SELECT * FROM learner.batches;
CREATE TEMP VIEW versions AS SELECT * FROM learner.versions;
CREATE TEMP VIEW trained AS SELECT * FROM learner.trained;
CREATE TEMP VIEW sessions AS
SELECT * FROM coordinator.sessions WHERE role = 'coordinator'
UNION ALL SELECT * FROM learner.sessions WHERE role = 'learner';

-- Grants of one start follow each other by epoch, so those up to the last that is there are all there. A coordinator that has
-- heard that the run is over grants nothing any more; one that has not may have granted more than its log says.
CREATE TEMP TABLE coordinators (incarnation INTEGER PRIMARY KEY, last_epoch INTEGER, is_open INTEGER);
INSERT INTO coordinators
SELECT i.incarnation,
  (SELECT coalesce(max(l.epoch), 0) FROM coordinator.leases AS l
   WHERE l.coordinator = i.incarnation AND l.event IN ('granted', 'doubled')),
  NOT EXISTS (SELECT 1 FROM coordinator.sessions AS s
              WHERE s.role = 'coordinator' AND s.event = 'ended' AND s.incarnation = i.incarnation)
FROM (SELECT incarnation FROM coordinator.incarnations WHERE role = 'coordinator'
      UNION SELECT incarnation FROM coordinator.sessions WHERE role = 'coordinator') AS i;

-- `seen`: the latest grant, by its place in the coordinator's log, that a group of this start came from. Whatever the
-- coordinator wrote down before that grant caused nothing that is missing here. `begun`: a completion, by its place, whose
-- groups only this start received; leases that were granted later were for it or for a later one. A number without a session
-- is a learner whose log is elsewhere or lost: it may have received anything.
CREATE TEMP TABLE learners (incarnation INTEGER PRIMARY KEY, seen INTEGER, begun INTEGER, last_version INTEGER, is_open INTEGER);
WITH RECURSIVE numbers (incarnation) AS (
  SELECT 1 UNION ALL SELECT incarnation + 1 FROM numbers
  WHERE incarnation < (SELECT max(s.incarnation) FROM learner.sessions AS s WHERE s.role = 'learner')
),
deliveries AS (
  SELECT l.id, min(g.learner) AS first_learner, max(g.learner) AS last_learner
  FROM coordinator.leases AS l JOIN learner.groups AS g ON g.epoch = l.epoch AND g.fate <> 'rejected'
  WHERE l.event = 'completed' GROUP BY l.id
),
seen AS (
  SELECT g.learner, max(l.id) AS id FROM learner.groups AS g
  JOIN coordinator.leases AS l ON l.epoch = g.epoch AND l.event IN ('granted', 'doubled')
  WHERE g.fate <> 'rejected' GROUP BY g.learner
)
INSERT INTO learners
SELECT n.incarnation,
  (SELECT coalesce(max(seen.id), 0) FROM seen WHERE seen.learner = n.incarnation),
  (SELECT min(d.id) FROM deliveries AS d WHERE d.first_learner = n.incarnation AND d.last_learner = n.incarnation),
  (SELECT coalesce(max(version), -1) FROM (
     SELECT v.version FROM learner.versions AS v WHERE v.learner = n.incarnation
     UNION ALL SELECT s.version FROM learner.sessions AS s
     WHERE s.role = 'learner' AND s.event = 'started' AND s.incarnation = n.incarnation)),
  NOT EXISTS (SELECT 1 FROM learner.sessions AS s
              WHERE s.role = 'learner' AND s.event = 'ended' AND s.incarnation = n.incarnation)
FROM numbers AS n;
