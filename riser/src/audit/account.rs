//! The account of a run: what became of every group that was ever leased.
//!
//! The unit is a *copy*: a group under one grant (a grant of 4 groups makes 4 copies; a lease that is granted again makes
//! new ones). Each copy has exactly one end, by the first rule that fits:
//!
//! ```text
//! trained     admitted, and the run stands on the version it was trained into
//! dropped     the learner had the group already (surplus), or lost it with a restart (rolled back)
//! refused     the learner said that it is wrong or untimely
//! in flight   admitted and waiting for its batch, or not arrived and its lease is open; neither in a run that has ended
//! unknown     not arrived, and its lease was completed: its arrival is missing in the log
//! expired     not arrived, and its lease is over: expired, released, overtaken, outrun, or of a coordinator that died
//!
//! leased = trained + dropped + refused + expired + in flight (+ unknown)
//! ```
//!
//! An arrival counts by what the learner said first: a copy that is sent twice because an acknowledgement was lost is not
//! surplus. The left side is counted from the grants, the right side from the arrivals, steps and endings, so the sum can
//! fail; and every group of the run's lineage must be the trained copy of some grant.

use super::Violation;
use rusqlite::Connection;
use serde::Serialize;

pub(super) const INVARIANT: &str = "leased = trained + dropped + refused + expired + in flight";

/// Copies by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Account {
    /// All of them.
    pub leased: u64,
    /// Trained on.
    pub trained: u64,
    /// Surplus, or rolled back.
    pub dropped: u64,
    /// Wrong or untimely.
    pub refused: u64,
    /// Never arrived.
    pub expired: u64,
    /// Under way.
    pub in_flight: u64,
    /// Arrived by the coordinator's account, and not in the log: broken, or lost with the end of a learner's own log.
    pub unknown: u64,
    /// Groups that the run's versions were trained on.
    #[serde(skip)]
    steps_trained: u64,
    /// Those of them whose grant may be lost with the end of a coordinator's own log.
    #[serde(skip)]
    trained_unknown: u64,
    /// The last event of the log, where the account was made.
    #[serde(skip)]
    last_event: i64,
}

/// The end of each copy. Grants are expanded into groups; for each the arrivals under the same epoch are looked up.
const COPIES: &str = "
WITH RECURSIVE copies (epoch, group_id, end_group) AS (
  SELECT epoch, first_group, end_group FROM leases WHERE event IN ('granted', 'doubled')
  UNION ALL
  SELECT epoch, group_id + 1, end_group FROM copies WHERE group_id + 1 < end_group
),
present (learner, coordinator, is_over) AS (
  SELECT
    (SELECT max(incarnation) FROM sessions WHERE role = 'learner'),
    (SELECT max(incarnation) FROM sessions WHERE role = 'coordinator'),
    coalesce((SELECT event = 'ended' FROM sessions WHERE role = 'learner' ORDER BY id DESC LIMIT 1), 0)
),
known AS (
  SELECT
    (SELECT g.fate FROM groups AS g WHERE g.epoch = c.epoch AND g.group_id = c.group_id ORDER BY g.id LIMIT 1) AS fate,
    EXISTS (
      SELECT 1 FROM groups AS g JOIN trained AS t ON t.group_id = g.group_id AND t.learner = g.learner
      WHERE g.epoch = c.epoch AND g.group_id = c.group_id AND g.fate = 'admitted') AS in_run,
    NOT p.is_over AND EXISTS (
      SELECT 1 FROM groups AS g
      WHERE g.epoch = c.epoch AND g.group_id = c.group_id AND g.fate = 'admitted' AND g.learner = p.learner
        AND NOT EXISTS (SELECT 1 FROM batches AS b WHERE b.group_id = g.group_id AND b.learner = g.learner)
    ) AS is_waiting,
    NOT p.is_over AND (
      SELECT l.coordinator = p.coordinator AND l.event IN ('granted', 'doubled', 'adopted')
      FROM leases AS l WHERE l.epoch = c.epoch ORDER BY l.id DESC LIMIT 1) AS is_open,
    (SELECT l.event = 'completed' FROM leases AS l WHERE l.epoch = c.epoch ORDER BY l.id DESC LIMIT 1) AS is_completed
  FROM copies AS c CROSS JOIN present AS p
)
SELECT CASE
    WHEN in_run THEN 'trained'
    WHEN is_waiting THEN 'in flight'
    WHEN fate IN ('admitted', 'duplicate') THEN 'dropped'
    WHEN fate IS NOT NULL THEN 'refused'
    WHEN is_open THEN 'in flight'
    WHEN is_completed THEN 'unknown'
    ELSE 'expired'
  END AS copy_end, count(*)
FROM known GROUP BY copy_end";

/// Makes the account of the whole log.
pub(super) fn settle(connection: &Connection) -> rusqlite::Result<Account> {
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let leased =
        count("SELECT coalesce(sum(end_group - first_group), 0) FROM leases WHERE event IN ('granted', 'doubled')")?;
    let steps_trained = count("SELECT count(*) FROM trained")?.cast_unsigned();
    let last_event =
        count("SELECT max(coalesce((SELECT max(id) FROM leases), 0), coalesce((SELECT max(id) FROM batches), 0))")?;
    let mut account = Account { leased: leased.cast_unsigned(), steps_trained, last_event, ..Account::default() };
    let mut statement = connection.prepare(COPIES)?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
    for row in rows {
        let (end, copies) = row?;
        let counter = match end.as_str() {
            "trained" => &mut account.trained,
            "dropped" => &mut account.dropped,
            "refused" => &mut account.refused,
            "in flight" => &mut account.in_flight,
            "unknown" => &mut account.unknown,
            _ => &mut account.expired,
        };
        *counter = copies.cast_unsigned();
    }
    Ok(account)
}

/// Groups of the run whose only grant is one that a coordinator made after all that its log has.
const TRAINED_UNKNOWN: &str = "
SELECT count(*) FROM trained AS t WHERE EXISTS (
  SELECT 1 FROM groups AS g JOIN coordinators AS k ON k.incarnation = g.epoch >> 40
  WHERE g.group_id = t.group_id AND g.learner = t.learner AND g.fate = 'admitted' AND k.is_open AND g.epoch > k.last_epoch)";

/// Makes the account of two logs, under the names of one and with the ends of both (`joint/ends.sql`).
pub(super) fn settle_both(connection: &Connection) -> rusqlite::Result<Account> {
    let trained_unknown: i64 = connection.query_row(TRAINED_UNKNOWN, [], |row| row.get(0))?;
    Ok(Account { trained_unknown: trained_unknown.cast_unsigned(), ..settle(connection)? })
}

impl Account {
    /// The sides that do not agree.
    pub(super) fn violations(&self) -> Vec<Violation> {
        let Self { leased, trained, dropped, refused, expired, in_flight, unknown, .. } = *self;
        let Self { steps_trained, trained_unknown, last_event, .. } = *self;
        let mut violations = vec![];
        let mut broken = |message| {
            violations.push(Violation { invariant: INVARIANT, log: None, table: "leases", event: last_event, message });
        };
        let sum = trained + dropped + refused + expired + in_flight + unknown;
        if leased != sum {
            broken(format!("{leased} groups were leased up to here, {sum} are accounted for"));
        }
        if trained + trained_unknown != steps_trained {
            broken(format!("{steps_trained} groups were trained on up to here, {trained} of them under a lease"));
        }
        violations
    }
}
