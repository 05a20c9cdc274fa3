//! The questions to both logs: each asks for rows as (event, what is wrong, whether it may be nothing but a lost end of a log).

/// One question.
#[derive(Debug, Clone, Copy)]
pub(super) struct CrossCheck {
    /// The invariant it asks about.
    pub(super) invariant: &'static str,
    /// Log of the rows it answers with.
    pub(super) log: &'static str,
    /// Their table.
    pub(super) table: &'static str,
    /// The question; `:total` is the number of batches.
    pub(super) sql: &'static str,
    /// Why a row may be unknown.
    pub(super) why: &'static str,
}

const ORIGIN: &str = "every group that arrived was leased to the worker, lease and epoch that it names";
const COMPLETED: &str = "every completed lease reached the learner";
const LEASED: &str = "no group was trained on that was never leased";
const VERSIONS: &str = "versions agree in both logs";

const NO_GRANT: &str = "a coordinator did not end in good order, so the end of its log, with the grant, may be lost";
const NO_ARRIVAL: &str = "a learner did not end in good order, or its log is elsewhere, so its arrivals may be lost";
const NO_VERSION: &str = "a learner did not end in good order, or its log is elsewhere, so its steps may be lost";

/// All questions.
pub(super) const ALL: &[CrossCheck] = &[
    CrossCheck {
        invariant: ORIGIN,
        log: "learner",
        table: "groups",
        why: NO_GRANT,
        // The coordinator's incarnation is the high part of an epoch (riser_core::lease::LeaseEpoch).
        sql: "SELECT g.id, 'group ' || g.group_id || ' arrived from worker ' || g.worker || ' under lease ' || g.lease ||
                    ' with epoch ' || g.epoch || ', which was never granted to it for that group',
                coalesce(k.is_open AND g.epoch > k.last_epoch, 0)
              FROM groups AS g LEFT JOIN coordinators AS k ON k.incarnation = g.epoch >> 40
              WHERE g.fate <> 'rejected' AND NOT EXISTS (
                SELECT 1 FROM leases AS l
                WHERE l.epoch = g.epoch AND l.lease = g.lease AND l.worker = g.worker AND l.event IN ('granted', 'doubled')
                  AND g.group_id >= l.first_group AND g.group_id < l.end_group)
              ORDER BY g.id",
    },
    CrossCheck {
        invariant: COMPLETED,
        log: "coordinator",
        table: "leases",
        why: NO_ARRIVAL,
        sql: "SELECT id, 'lease ' || lease || ' with epoch ' || epoch || ' was completed with ' || received || ' of its ' ||
                    (end_group - first_group) || ' groups received',
                EXISTS (
                  SELECT 1 FROM learners AS i WHERE i.is_open AND i.seen < c.id AND NOT EXISTS (
                    SELECT 1 FROM learners AS j WHERE j.incarnation > i.incarnation AND j.begun < (
                      SELECT min(l.id) FROM leases AS l WHERE l.epoch = c.epoch)))
              FROM (
                SELECT l.*, (SELECT count(DISTINCT g.group_id) FROM groups AS g
                             WHERE g.epoch = l.epoch AND g.fate IN ('admitted', 'duplicate')) AS received
                FROM leases AS l WHERE l.event = 'completed') AS c
              WHERE received < end_group - first_group ORDER BY id",
    },
    CrossCheck {
        invariant: LEASED,
        log: "learner",
        table: "batches",
        why: NO_GRANT,
        sql: "SELECT b.id, 'group ' || b.group_id || ' of version ' || b.group_version || ' was trained on into version ' ||
                    b.version || ' and never leased with that version',
                EXISTS (
                  SELECT 1 FROM groups AS g JOIN coordinators AS k ON k.incarnation = g.epoch >> 40
                  WHERE g.group_id = b.group_id AND g.learner = b.learner AND g.fate = 'admitted'
                    AND k.is_open AND g.epoch > k.last_epoch)
              FROM batches AS b WHERE NOT EXISTS (
                SELECT 1 FROM groups AS g JOIN leases AS l ON l.epoch = g.epoch
                WHERE g.group_id = b.group_id AND g.learner = b.learner AND g.fate = 'admitted'
                  AND l.event IN ('granted', 'doubled') AND l.version = b.group_version
                  AND b.group_id >= l.first_group AND b.group_id < l.end_group)
              ORDER BY b.id",
    },
    CrossCheck {
        invariant: VERSIONS,
        log: "learner",
        table: "groups",
        why: "",
        sql: "SELECT g.id, 'group ' || g.group_id || ' arrived with version ' || g.version || ', lease ' || g.lease ||
                    ' was granted with version ' || l.version, 0
              FROM groups AS g JOIN leases AS l ON l.epoch = g.epoch AND l.lease = g.lease
              WHERE g.fate <> 'rejected' AND l.event IN ('granted', 'doubled') AND g.version <> l.version ORDER BY g.id",
    },
    CrossCheck {
        invariant: VERSIONS,
        log: "coordinator",
        table: "leases",
        why: NO_VERSION,
        sql: "SELECT l.id, 'lease ' || l.lease || ' was granted with version ' || l.version || ', which no learner has had',
                EXISTS (
                  SELECT 1 FROM learners AS i WHERE i.is_open AND i.last_version < l.version AND NOT EXISTS (
                    SELECT 1 FROM learners AS j WHERE j.incarnation > i.incarnation AND j.begun < l.id))
              FROM leases AS l WHERE l.event IN ('granted', 'doubled')
                AND NOT EXISTS (SELECT 1 FROM versions AS v WHERE v.version = l.version)
                AND NOT EXISTS (SELECT 1 FROM sessions AS s
                                WHERE s.role = 'learner' AND s.event = 'started' AND s.version = l.version)
              ORDER BY l.id",
    },
    CrossCheck {
        invariant: VERSIONS,
        log: "coordinator",
        table: "sessions",
        why: NO_VERSION,
        sql: "SELECT s.id, 'coordinator ' || s.incarnation || ' heard that the run is over at version ' || :total ||
                    ', the learner had come to version ' || (SELECT max(last_version) FROM learners),
                EXISTS (
                  SELECT 1 FROM learners AS i WHERE i.is_open AND NOT EXISTS (
                    SELECT 1 FROM learners AS j WHERE j.incarnation > i.incarnation AND j.begun < s.id))
              FROM sessions AS s WHERE s.role = 'coordinator' AND s.event = 'ended' AND s.finished
                AND (SELECT max(last_version) FROM learners) < :total ORDER BY s.id",
    },
];
