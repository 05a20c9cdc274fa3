//! Random histories of both modes against a naive account of who holds what and what the learner has.

use super::*;

/// What a worker or the learner may do; leases are picked among all grants so far.
#[derive(Debug, Clone)]
enum Move {
    Ask,
    Complete(usize),
    Release(usize),
    Renew(usize),
    Train,
    Report,
    Sleep(u64),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        4 => Just(Move::Ask),
        4 => any::<usize>().prop_map(Move::Complete),
        1 => any::<usize>().prop_map(Move::Release),
        2 => any::<usize>().prop_map(Move::Renew),
        2 => Just(Move::Train),
        1 => Just(Move::Report),
        1 => (0u64..15).prop_map(Move::Sleep),
    ];
    prop::collection::vec(one, 0..200)
}

/// A holding as the world sees it.
struct Holding {
    grant: Grant,
    granted: u64,
    renewed: u64,
    ended: bool,
}

/// The world around the schedule, kept naively.
struct World {
    schedule: Schedule,
    now: u64,
    asks: u64,
    holdings: Vec<Holding>,
    /// Groups the learner has, in the order of arrival, with their versions; the first `version * size` are trained on.
    arrived: Vec<(u64, u64)>,
    refused: u64,
    version: u64,
    config: ScheduleConfig,
}

impl World {
    fn new(config: ScheduleConfig) -> Self {
        let schedule = ready(config);
        let (holdings, arrived) = (vec![], vec![]);
        Self { schedule, now: 0, asks: 0, holdings, arrived, refused: 0, version: 0, config }
    }

    fn has(&self, group: u64) -> bool {
        self.arrived.iter().any(|arrived| arrived.0 == group)
    }

    /// Whether the holder still has the right to its lease, but for reports that the world does not follow.
    fn is_timely(&self, holding: &Holding) -> bool {
        let timely = self.now < holding.renewed + TIMEOUT.as_secs() && self.now < holding.granted + LIFETIME.as_secs();
        timely && !holding.ended
    }

    fn apply(&mut self, event: Event) -> Result<(), ScheduleError> {
        let mut effects = vec![];
        let result = self.schedule.apply(event, seconds(self.now), &mut effects);
        for effect in effects {
            if let Effect::Grant { grant, .. } = effect {
                self.check_grant(&grant);
                let (granted, renewed) = (self.now, self.now);
                self.holdings.push(Holding { grant, granted, renewed, ended: false });
            }
        }
        let counts = self.schedule.counts();
        let Counts { granted, adopted, completed, released, expired, overtaken, outrun, rewound, .. } = counts;
        let in_flight = self.schedule.num_in_flight() as u64;
        let ended = completed + released + expired + overtaken + outrun + rewound;
        assert_eq!(granted + adopted, ended + in_flight, "{counts:?}");
        result
    }

    fn check_grant(&self, grant: &Grant) {
        let pacing = self.config.pacing;
        let stretch = pacing.stretch_of(GroupId(grant.groups.start));
        assert_eq!(stretch, pacing.stretch_of(GroupId(grant.groups.end - 1)), "a lease lies in one stretch");
        assert!(stretch < self.config.total_batches);
        assert!(grant.version.0 <= self.version, "the version exists");
        match pacing {
            Pacing::Lockstep(lockstep) => assert_eq!(grant.version, lockstep.version_of(stretch)),
            Pacing::Bounded(_) => assert_eq!(grant.version.0, self.version, "the newest version"),
        }
        let mut live = 0;
        for other in &self.holdings {
            let same = other.grant.groups == grant.groups;
            let apart = other.grant.groups.end <= grant.groups.start || grant.groups.end <= other.grant.groups.start;
            assert!(same || apart);
            assert!(!same || other.grant.epoch < grant.epoch, "epochs grow");
            live += u64::from(same && self.is_timely(other));
        }
        assert!(live <= 1, "no lease has more than two holders");
    }

    /// The learner's side: place by arrival, and refuse what the pacing has no place for.
    fn deliver(&mut self, grant: &Grant) -> bool {
        let (size, mut all) = (self.config.pacing.groups_per_batch(), true);
        for group in grant.group_ids() {
            if self.has(group.0) {
                continue;
            }
            let queued = self.arrived.len() as u64 - self.version * size;
            let total = self.config.total_batches;
            match self.config.pacing.place(group, grant.version, self.version, 0, queued, total) {
                Ok(_) => self.arrived.push((group.0, grant.version.0)),
                Err(_) => {
                    self.refused += 1;
                    all = false;
                }
            }
        }
        all
    }

    fn report(&mut self) {
        let received = GroupSet::new(0, self.arrived.iter().map(|arrived| arrived.0));
        let version = PolicyVersion(self.version);
        let (learner, taken, catalogs) = (Incarnation(1), self.version, CatalogPlan::new(catalog(0)));
        let report = LearnerReport { learner, start: 1, version, taken, received, catalogs };
        self.apply(Event::Report(report)).unwrap();
    }

    fn train(&mut self) {
        let size = self.config.pacing.groups_per_batch();
        let start = (self.version * size) as usize;
        match self.config.pacing {
            Pacing::Lockstep(lockstep) => {
                // In lockstep the batch is given; it is moved to the front of the queue.
                let batch = lockstep.groups_of(self.version);
                if self.version == self.config.total_batches || !batch.clone().all(|group| self.has(group)) {
                    return;
                }
                self.arrived[start..].sort();
                assert_eq!(self.arrived[start].0, batch.start);
            }
            Pacing::Bounded(_) if self.arrived.len() < start + size as usize => return,
            Pacing::Bounded(_) => {}
        }
        for (group, version) in &self.arrived[start..start + size as usize] {
            let staleness = self.version.checked_sub(*version).expect("not from the future");
            assert!(staleness <= self.config.pacing.max_staleness().into(), "group {group} has staleness {staleness}");
        }
        self.version += 1;
        self.report();
    }

    fn make(&mut self, one: &Move) {
        match one {
            Move::Ask => {
                self.asks += 1;
                let until = seconds(self.now + 3);
                let _ = self.apply(Event::Ask { ask: AskId(self.asks), worker: WorkerId(self.asks % 3), until });
            }
            Move::Train => self.train(),
            Move::Report => self.report(),
            Move::Sleep(seconds) => {
                self.now += seconds;
                self.apply(Event::Tick).unwrap();
            }
            Move::Complete(pick) | Move::Release(pick) | Move::Renew(pick) => {
                if self.holdings.is_empty() {
                    return;
                }
                let pick = pick % self.holdings.len();
                let timely = self.is_timely(&self.holdings[pick]);
                let grant = self.holdings[pick].grant.clone();
                let event = match one {
                    Move::Complete(_) => {
                        // Dead or alive, the holder has submitted: the learner counts the first copy.
                        let delivered = self.deliver(&grant);
                        assert!(delivered || !timely, "the groups of a live lease have a place: {grant:?}");
                        if delivered { Event::Complete(grant.claim()) } else { Event::Release(grant.claim()) }
                    }
                    Move::Release(_) => Event::Release(grant.claim()),
                    _ => Event::Renew(grant.claim()),
                };
                let renews = matches!(event, Event::Renew(_));
                // Whoever ends a holding has none, also while its lease goes to the next in the same move.
                self.holdings[pick].ended |= !renews;
                let heard = self.apply(event).is_ok();
                assert!(timely || !heard, "only the holder of a live lease is heard");
                if renews && heard {
                    self.holdings[pick].renewed = self.now;
                }
            }
        }
    }

    /// One faithful worker and a learner, from here to the end.
    fn finish(&mut self) {
        for _ in 0..10_000 {
            if self.schedule.is_done() {
                return;
            }
            self.make(&Move::Ask);
            if !self.holdings.is_empty() {
                self.make(&Move::Complete(self.holdings.len() - 1));
            }
            self.make(&Move::Train);
            self.make(&Move::Sleep(1));
        }
        panic!("the run does not end");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_history_breaks_an_invariant_and_a_live_worker_ends_every_run(
        groups_per_batch in 1u32..9, groups_per_lease in 1u32..5, slack in 0u32..3, total_batches in 1u64..6,
        in_lockstep: bool, history in moves(),
    ) {
        let make = if in_lockstep { config } else { bounded };
        let mut world = World::new(make(groups_per_batch, groups_per_lease, slack, total_batches));
        for one in &history {
            world.make(one);
        }
        world.finish();
        prop_assert_eq!(world.version, total_batches);
        prop_assert_eq!(world.arrived.len() as u64, total_batches * u64::from(groups_per_batch));
        prop_assert!(!in_lockstep || world.refused == 0, "in lockstep nothing is ever refused");
    }
}
