//! The questions: each asks for the rows that break an invariant, as (event, what is wrong).
//!
//! The numbers of the run are bound as `:size` (groups per batch), `:bound` (largest staleness) and `:total` (batches).

/// One question.
pub(super) struct Check {
    /// The invariant it asks about.
    pub(super) invariant: &'static str,
    /// Table of the rows it answers with.
    pub(super) table: &'static str,
    /// Whose events it reads.
    pub(super) reads: Reads,
    /// Whether only lockstep promises it.
    pub(super) lockstep_only: bool,
    /// Whether it compares what a learner begins with and what the one before it did, so that the log must have both.
    pub(super) one_learner: bool,
    /// The question.
    pub(super) sql: &'static str,
}

/// Whose events a question reads. Coordinator and learner have logs of their own where each is a process of its own.
pub(super) enum Reads {
    /// What a learner did.
    Learner,
    /// What a coordinator did.
    Coordinator,
    /// What each of them said about the same groups.
    Both,
}

const STALENESS: &str = "staleness is within the bound when trained on";
const ONCE: &str = "a group is trained on at most once";
const VERSIONS: &str = "versions grow by one and survive restarts";
const CATALOGS: &str = "no batch mixes catalogs";
const BATCHES: &str = "a batch holds exactly its groups";
const LEASES: &str = "a lease is granted once and ends once";

const fn check(invariant: &'static str, table: &'static str, sql: &'static str) -> Check {
    Check { invariant, table, reads: Reads::Learner, lockstep_only: false, one_learner: false, sql }
}

/// All questions.
pub(super) const ALL: &[Check] = &[
    check(
        STALENESS,
        "batches",
        "SELECT id, 'group ' || group_id || ' of version ' || group_version || ' was trained on at version ' ||
                (version - 1) || ', the bound is ' || :bound
         FROM batches WHERE version - 1 - group_version NOT BETWEEN 0 AND :bound ORDER BY id",
    ),
    Check {
        lockstep_only: true,
        ..check(
            STALENESS,
            "batches",
            "SELECT id, 'group ' || group_id || ' of batch ' || (version - 1) || ' was sampled with version ' ||
                    group_version || ' instead of ' || max(0, version - 1 - :bound)
             FROM batches WHERE group_version <> max(0, version - 1 - :bound)
               AND version - 1 - group_version BETWEEN 0 AND :bound ORDER BY id",
        )
    },
    check(
        ONCE,
        "batches",
        "SELECT t.id, 'group ' || t.group_id || ' was trained on into version ' || t.version ||
                ', and before that into version ' || min(u.version)
         FROM trained AS t JOIN trained AS u ON u.group_id = t.group_id AND u.id < t.id
         GROUP BY t.id ORDER BY t.id",
    ),
    check(
        ONCE,
        "groups",
        "SELECT g.id, 'group ' || g.group_id || ' was admitted a second time by learner ' || g.learner
         FROM groups AS g WHERE g.fate = 'admitted' AND EXISTS (
           SELECT 1 FROM groups AS h
           WHERE h.group_id = g.group_id AND h.learner = g.learner AND h.fate = 'admitted' AND h.id < g.id)
         ORDER BY g.id",
    ),
    check(
        ONCE,
        "batches",
        "SELECT b.id, 'group ' || b.group_id || ' of version ' || b.group_version ||
                ' was trained on without having been admitted'
         FROM batches AS b WHERE NOT EXISTS (
           SELECT 1 FROM groups AS g WHERE g.group_id = b.group_id AND g.learner = b.learner
             AND g.fate = 'admitted' AND g.version = b.group_version AND g.id < b.id)
         ORDER BY b.id",
    ),
    check(
        VERSIONS,
        "versions",
        "SELECT id, 'version ' || version || ' follows version ' || coalesce(previous, 'none') FROM (
           SELECT v.id, v.version, coalesce(
             lag(v.version) OVER (PARTITION BY v.learner ORDER BY v.id),
             (SELECT s.version FROM sessions AS s
              WHERE s.role = 'learner' AND s.event = 'started' AND s.incarnation = v.learner)) AS previous
           FROM versions AS v)
         WHERE previous IS NULL OR version <> previous + 1 ORDER BY id",
    ),
    // A learner that ended in good order left a checkpoint of its last version; one that did not goes back, never ahead
    // of what it had logged unless the end of the log was lost with the machine.
    Check {
        one_learner: true,
        ..check(
            VERSIONS,
            "sessions",
            "SELECT s.id, 'learner ' || s.incarnation || ' started at version ' || s.version || ', learner ' ||
                    e.incarnation || ' had ended at version ' || e.version
             FROM sessions AS s JOIN sessions AS e ON e.id = (
               SELECT x.id FROM sessions AS x WHERE x.role = 'learner' AND x.incarnation < s.incarnation AND x.id < s.id
               ORDER BY x.incarnation DESC, x.id DESC LIMIT 1)
             WHERE s.role = 'learner' AND s.event = 'started' AND e.event = 'ended' AND s.version <> e.version
             ORDER BY s.id",
        )
    },
    Check {
        one_learner: true,
        ..check(
            VERSIONS,
            "sessions",
            "SELECT s.id, 'learner ' || s.incarnation || ' started at version ' || s.version ||
                    ' with another policy than was trained'
             FROM sessions AS s WHERE s.role = 'learner' AND s.event = 'started'
               AND EXISTS (SELECT 1 FROM versions AS v WHERE v.version = s.version AND v.id < s.id)
               AND s.digest <> (SELECT v.digest FROM versions AS v WHERE v.version = s.version AND v.id < s.id
                                ORDER BY v.id DESC LIMIT 1)
             ORDER BY s.id",
        )
    },
    // Of a batch that was trained and lost again, the catalog may be changed before it is trained again.
    Check {
        lockstep_only: true,
        ..check(
            VERSIONS,
            "versions",
            "SELECT v.id, 'version ' || v.version || ' was trained again to another policy'
             FROM versions AS v WHERE EXISTS (
               SELECT 1 FROM versions AS w WHERE w.version = v.version AND w.id < v.id AND w.digest <> v.digest
                 AND NOT EXISTS (
                   SELECT 1 FROM batches AS b JOIN batches AS a ON a.group_id = b.group_id AND a.learner = w.learner
                   WHERE b.learner = v.learner AND b.version <= v.version AND b.catalog <> a.catalog))
             ORDER BY v.id",
        )
    },
    check(
        VERSIONS,
        "versions",
        "SELECT id, 'version ' || version || ' is beyond the end of the run, ' || :total
         FROM versions WHERE version > :total ORDER BY id",
    ),
    check(
        CATALOGS,
        "batches",
        "SELECT b.id, 'group ' || b.group_id || ' of batch ' || (b.version - 1) || ' is of another catalog than its batch'
         FROM batches AS b JOIN sessions AS s
           ON s.role = 'learner' AND s.event = 'started' AND s.incarnation = b.learner
         WHERE b.catalog <> coalesce(
           (SELECT c.catalog FROM catalogs AS c WHERE c.learner = b.learner AND c.first_batch < b.version
            ORDER BY c.first_batch DESC LIMIT 1), s.catalog)
         ORDER BY b.id",
    ),
    check(
        CATALOGS,
        "catalogs",
        "SELECT c.id, 'the change of catalog that begins with batch ' || c.first_batch || ' came when ' ||
                max(b.version) || ' batches were trained'
         FROM catalogs AS c JOIN batches AS b ON b.learner = c.learner AND b.id < c.id
         WHERE b.version > c.first_batch GROUP BY c.id ORDER BY c.id",
    ),
    check(
        BATCHES,
        "versions",
        "SELECT v.id, 'version ' || v.version || ' was trained on ' || count(b.id) || ' groups, a batch has ' || :size
         FROM versions AS v LEFT JOIN batches AS b ON b.learner = v.learner AND b.version = v.version
         GROUP BY v.id HAVING count(b.id) <> :size ORDER BY v.id",
    ),
    Check {
        lockstep_only: true,
        ..check(
            BATCHES,
            "batches",
            "SELECT id, 'group ' || group_id || ' is no part of batch ' || (version - 1)
             FROM batches WHERE group_id / :size <> version - 1 ORDER BY id",
        )
    },
    Check {
        reads: Reads::Coordinator,
        ..check(
            LEASES,
            "leases",
            "SELECT id, 'lease ' || lease || ' was granted with epoch ' || epoch || ' after epoch ' || highest FROM (
               SELECT id, lease, epoch, max(epoch) OVER (
                 ORDER BY coordinator, id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS highest
               FROM leases WHERE event IN ('granted', 'doubled'))
             WHERE epoch <= highest ORDER BY id",
        )
    },
    // A coordinator that is killed may lose its last grants with the end of its log; the next one adopts them all the same. Grants
    // of one start, which is the high part of an epoch, are in order, so one that is followed by another is not lost.
    Check {
        reads: Reads::Coordinator,
        ..check(
            LEASES,
            "leases",
            "SELECT l.id, 'lease ' || l.lease || ' was adopted with epoch ' || l.epoch || ', which was never granted'
             FROM leases AS l WHERE l.event = 'adopted' AND NOT EXISTS (
               SELECT 1 FROM leases AS m WHERE m.epoch = l.epoch AND m.lease = l.lease AND m.id < l.id
                 AND m.event IN ('granted', 'doubled'))
               AND EXISTS (
               SELECT 1 FROM leases AS m WHERE m.epoch > l.epoch AND m.epoch < ((l.epoch >> 40) + 1) << 40
                 AND m.event IN ('granted', 'doubled'))
             ORDER BY l.id",
        )
    },
    Check {
        reads: Reads::Coordinator,
        ..check(
            LEASES,
            "leases",
            "SELECT l.id, 'lease ' || l.lease || ' with epoch ' || l.epoch || ' is ' || l.event ||
                    CASE WHEN begins.n = 0 THEN ' without having been granted' ELSE ' after its end' END
             FROM leases AS l JOIN (
               SELECT e.id,
                 (SELECT count(*) FROM leases AS m WHERE m.epoch = e.epoch AND m.coordinator = e.coordinator
                    AND m.lease = e.lease AND m.id < e.id AND m.event IN ('granted', 'doubled', 'adopted')) AS n,
                 (SELECT count(*) FROM leases AS m WHERE m.epoch = e.epoch AND m.coordinator = e.coordinator
                    AND m.id < e.id AND m.event NOT IN ('granted', 'doubled', 'adopted')) AS ends
               FROM leases AS e WHERE e.event NOT IN ('granted', 'doubled', 'adopted')) AS begins ON begins.id = l.id
             WHERE begins.n = 0 OR begins.ends >= begins.n ORDER BY l.id",
        )
    },
    Check {
        reads: Reads::Both,
        ..check(
            super::account::INVARIANT,
            "groups",
            "SELECT g.id, 'group ' || g.group_id || ' arrived under lease ' || g.lease || ' with epoch ' || g.epoch ||
                    ', which was never granted for it'
             FROM groups AS g WHERE g.fate <> 'rejected' AND NOT EXISTS (
               SELECT 1 FROM leases AS l WHERE l.epoch = g.epoch AND l.lease = g.lease AND l.id < g.id
                 AND l.event IN ('granted', 'doubled') AND g.group_id >= l.first_group AND g.group_id < l.end_group)
             ORDER BY g.id",
        )
    },
    Check {
        reads: Reads::Both,
        ..check(
            super::account::INVARIANT,
            "leases",
            "SELECT l.id, 'lease ' || l.lease || ' with epoch ' || l.epoch || ' was completed with ' ||
                    (SELECT count(DISTINCT g.group_id) FROM groups AS g WHERE g.epoch = l.epoch
                       AND g.fate IN ('admitted', 'duplicate') AND g.id < l.id) ||
                    ' of its ' || (l.end_group - l.first_group) || ' groups received'
             FROM leases AS l WHERE l.event = 'completed' AND l.end_group - l.first_group > (
               SELECT count(DISTINCT g.group_id) FROM groups AS g WHERE g.epoch = l.epoch
                 AND g.fate IN ('admitted', 'duplicate') AND g.id < l.id)
             ORDER BY l.id",
        )
    },
];
