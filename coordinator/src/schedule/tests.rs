use super::*;
use proptest::prelude::*;
use riser_core::ids::GroupId;

const TIMEOUT: Duration = Duration::from_secs(10);
const LIFETIME: Duration = Duration::from_secs(35);

fn config(groups_per_batch: u32, groups_per_lease: u32, lag: u32, total_batches: u64) -> ScheduleConfig {
    ScheduleConfig {
        lockstep: Lockstep { groups_per_batch: groups_per_batch.try_into().unwrap(), lag },
        groups_per_lease: groups_per_lease.try_into().unwrap(),
        total_batches,
        start_version: PolicyVersion(0),
        lease_timeout: TIMEOUT,
        lease_lifetime: LIFETIME,
        max_waiting: 3,
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn apply(schedule: &mut Schedule, event: Event, now: u64) -> Result<Vec<Effect>, ScheduleError> {
    let mut effects = vec![];
    schedule.apply(event, seconds(now), &mut effects).map(|()| effects)
}

/// Asks at `now`, willing to wait a second.
fn ask(schedule: &mut Schedule, ask: u64, now: u64) -> Vec<Effect> {
    let until = seconds(now + 1);
    apply(schedule, Event::Ask { ask: AskId(ask), worker: WorkerId(7), until }, now).unwrap()
}

fn granted(effects: &[Effect]) -> &Grant {
    match effects {
        [Effect::Grant { grant, .. }] => grant,
        other => panic!("expected one grant, got {other:?}"),
    }
}

#[test]
fn a_batch_is_cut_into_leases_that_never_span_two_batches() {
    let mut schedule = Schedule::new(config(10, 4, 1, 5));
    let cuts: Vec<_> = (0..6).map(|number| granted(&ask(&mut schedule, number, 0)).clone()).collect();
    let groups: Vec<_> = cuts.iter().map(|grant| grant.groups.clone()).collect();
    assert_eq!(groups, [0..4, 4..8, 8..10, 10..14, 14..18, 18..20]);
    assert!(cuts.iter().all(|grant| grant.version == PolicyVersion(0) && grant.epoch == LeaseEpoch(1)));
    assert_eq!(ask(&mut schedule, 6, 0), [], "with lag 1 two batches are open, and both are out");
}

#[test]
fn who_waits_is_answered_by_work_by_the_end_of_patience_or_by_the_end_of_the_run() {
    let mut schedule = Schedule::new(config(4, 4, 0, 2));
    let first = granted(&ask(&mut schedule, 0, 0)).clone();
    assert_eq!(ask(&mut schedule, 1, 0), []);
    assert_eq!(schedule.next_deadline(), Some(seconds(1)));
    assert_eq!(apply(&mut schedule, Event::Tick, 1), Ok(vec![Effect::Wait { ask: AskId(1) }]));

    assert_eq!(ask(&mut schedule, 2, 2), []);
    apply(&mut schedule, Event::Complete { lease: first.lease, epoch: first.epoch }, 2).unwrap();
    let effects = apply(&mut schedule, Event::Advance { version: PolicyVersion(1) }, 2).unwrap();
    let second = granted(&effects).clone();
    assert_eq!((second.groups.clone(), second.version), (4..8, PolicyVersion(1)));

    assert_eq!(ask(&mut schedule, 3, 3), []);
    let effects = apply(&mut schedule, Event::Advance { version: PolicyVersion(2) }, 3).unwrap();
    assert_eq!(effects, [Effect::Done { ask: AskId(3) }]);
    assert_eq!(ask(&mut schedule, 4, 9), [Effect::Done { ask: AskId(4) }]);
    assert_eq!(schedule.counts(), Counts { granted: 2, completed: 1, overtaken: 1, ..Counts::default() });
}

#[test]
fn an_expired_lease_goes_to_the_next_worker_with_a_higher_epoch_and_its_old_holder_is_refused() {
    let mut schedule = Schedule::new(config(4, 4, 0, 2));
    let old = granted(&ask(&mut schedule, 0, 0)).clone();
    assert_eq!(ask(&mut schedule, 1, 9), []);
    let effects = apply(&mut schedule, Event::Tick, 10).unwrap();
    // The question of second 9 is still open in second 10: its patience ends then, but work comes first.
    let new = granted(&effects).clone();
    assert_eq!((new.lease, new.groups.clone()), (old.lease, old.groups.clone()));
    assert!(new.epoch > old.epoch);

    let late = [
        Event::Complete { lease: old.lease, epoch: old.epoch },
        Event::Release { lease: old.lease, epoch: old.epoch },
        Event::Renew { lease: old.lease, epoch: old.epoch },
    ];
    for event in late {
        let refused = ScheduleError::NotHeld { lease: old.lease, epoch: old.epoch };
        assert_eq!(apply(&mut schedule, event, 11), Err(refused));
    }
    assert_eq!(schedule.num_in_flight(), 1);
    assert_eq!(apply(&mut schedule, Event::Complete { lease: new.lease, epoch: new.epoch }, 11), Ok(vec![]));
    assert_eq!(schedule.counts(), Counts { granted: 2, completed: 1, expired: 1, refused: 3, ..Counts::default() });
}

#[test]
fn renewals_keep_a_lease_until_its_lifetime_ends() {
    let mut schedule = Schedule::new(config(4, 4, 0, 2));
    let grant = granted(&ask(&mut schedule, 0, 0)).clone();
    let renew = Event::Renew { lease: grant.lease, epoch: grant.epoch };
    for now in [9, 18, 27] {
        assert_eq!(apply(&mut schedule, renew, now), Ok(vec![]));
    }
    assert_eq!(schedule.next_deadline(), Some(LIFETIME));
    let stuck = ScheduleError::NotHeld { lease: grant.lease, epoch: grant.epoch };
    assert_eq!(apply(&mut schedule, renew, 36), Err(stuck));
}

#[test]
fn a_lease_that_is_given_back_is_out_again_at_once() {
    let mut schedule = Schedule::new(config(4, 4, 0, 2));
    let first = granted(&ask(&mut schedule, 0, 0)).clone();
    assert_eq!(ask(&mut schedule, 1, 0), []);
    let effects = apply(&mut schedule, Event::Release { lease: first.lease, epoch: first.epoch }, 0).unwrap();
    let again = granted(&effects);
    assert_eq!((again.lease, again.epoch), (first.lease, LeaseEpoch(2)));
}

#[test]
fn versions_that_run_backwards_or_past_the_end_and_too_many_questions_are_refused() {
    let mut schedule = Schedule::new(config(4, 4, 0, 2));
    apply(&mut schedule, Event::Advance { version: PolicyVersion(1) }, 0).unwrap();
    assert_eq!(apply(&mut schedule, Event::Advance { version: PolicyVersion(1) }, 0), Ok(vec![]));
    assert_eq!(
        apply(&mut schedule, Event::Advance { version: PolicyVersion(0) }, 0),
        Err(ScheduleError::Backwards { got: PolicyVersion(0), current: PolicyVersion(1) })
    );
    assert_eq!(
        apply(&mut schedule, Event::Advance { version: PolicyVersion(3) }, 0),
        Err(ScheduleError::BeyondEnd { got: PolicyVersion(3), last: 2 })
    );
    for number in 0..4 {
        ask(&mut schedule, number, 0);
    }
    let until = seconds(1);
    assert_eq!(
        apply(&mut schedule, Event::Ask { ask: AskId(4), worker: WorkerId(7), until }, 0),
        Err(ScheduleError::Crowded { limit: 3 })
    );
}

#[test]
fn a_learner_that_starts_again_at_an_earlier_version_has_every_batch_from_there_on_sampled_anew() {
    let mut schedule = Schedule::new(config(8, 4, 0, 5));
    let at = |schedule: &mut Schedule, number| granted(&ask(schedule, number, 0)).clone();
    for version in 1..=2 {
        at(&mut schedule, 0);
        apply(&mut schedule, Event::Advance { version: PolicyVersion(version) }, 0).unwrap();
    }
    let delivered = at(&mut schedule, 1);
    apply(&mut schedule, Event::Complete { lease: delivered.lease, epoch: delivered.epoch }, 0).unwrap();
    let held = at(&mut schedule, 2);

    apply(&mut schedule, Event::Register { version: PolicyVersion(1) }, 0).unwrap();
    assert_eq!(schedule.version(), PolicyVersion(1));
    let late = Event::Complete { lease: held.lease, epoch: held.epoch };
    assert_eq!(apply(&mut schedule, late, 0), Err(ScheduleError::NotHeld { lease: held.lease, epoch: held.epoch }));
    let again = [at(&mut schedule, 3), at(&mut schedule, 4)];
    assert_eq!(
        again.each_ref().map(|grant| (grant.version, grant.groups.clone())),
        [(PolicyVersion(1), 8..12), (PolicyVersion(1), 12..16)]
    );
    apply(&mut schedule, Event::Advance { version: PolicyVersion(2) }, 0).unwrap();
    let anew = at(&mut schedule, 5);
    assert_eq!(anew.lease, delivered.lease, "what its predecessor had in memory is sampled again");
    assert!(anew.epoch > delivered.epoch && again.iter().all(|grant| grant.epoch > held.epoch));
    assert_eq!(schedule.counts().fenced, 1);
    let beyond = ScheduleError::BeyondEnd { got: PolicyVersion(6), last: 5 };
    assert_eq!(apply(&mut schedule, Event::Register { version: PolicyVersion(6) }, 0), Err(beyond));
}

/// What a worker or the learner may do in the random runs below; leases are picked among all grants so far.
#[derive(Debug, Clone)]
enum Move {
    Ask,
    Complete(usize),
    Release(usize),
    Renew(usize),
    Train,
    /// The learner dies and starts again this many versions earlier.
    Restart(u64),
    Sleep(u64),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        4 => Just(Move::Ask),
        4 => any::<usize>().prop_map(Move::Complete),
        1 => any::<usize>().prop_map(Move::Release),
        2 => any::<usize>().prop_map(Move::Renew),
        2 => Just(Move::Train),
        1 => (0u64..3).prop_map(Move::Restart),
        1 => (0u64..15).prop_map(Move::Sleep),
    ];
    prop::collection::vec(one, 0..200)
}

/// The world around the schedule, kept naively: every grant with its own idea of when it ends, and what the learner has.
struct World {
    schedule: Schedule,
    now: u64,
    asks: u64,
    grants: Vec<(Grant, u64, u64, bool)>,
    learner_has: BTreeSet<u64>,
    /// Grants from before the learner was last started.
    fenced: usize,
    version: u64,
    config: ScheduleConfig,
}

impl World {
    fn new(config: ScheduleConfig) -> Self {
        let schedule = Schedule::new(config);
        Self { schedule, now: 0, asks: 0, grants: vec![], learner_has: BTreeSet::new(), fenced: 0, version: 0, config }
    }

    /// Whether the holder of a grant still has the right to it.
    fn is_live(&self, (grant, granted, renewed, ended): &(Grant, u64, u64, bool)) -> bool {
        let timely = self.now < renewed + TIMEOUT.as_secs() && self.now < granted + LIFETIME.as_secs();
        let batch = self.config.lockstep.batch_of(GroupId(grant.groups.start));
        !ended && timely && batch >= self.version
    }

    fn apply(&mut self, event: Event) -> Result<(), ScheduleError> {
        let mut effects = vec![];
        let result = self.schedule.apply(event, seconds(self.now), &mut effects);
        for effect in effects {
            if let Effect::Grant { grant, .. } = effect {
                self.check_grant(&grant);
                self.grants.push((grant, self.now, self.now, false));
            }
        }
        let counts = self.schedule.counts();
        let Counts { granted, completed, released, expired, overtaken, fenced, .. } = counts;
        let in_flight = self.schedule.num_in_flight() as u64;
        assert_eq!(granted, completed + released + expired + overtaken + fenced + in_flight, "{counts:?}");
        assert_eq!(in_flight as usize, self.grants.iter().filter(|grant| self.is_live(grant)).count());
        result
    }

    fn check_grant(&self, grant: &Grant) {
        let batch = self.config.lockstep.batch_of(GroupId(grant.groups.start));
        assert_eq!(batch, self.config.lockstep.batch_of(GroupId(grant.groups.end - 1)), "a lease lies in one batch");
        assert!(batch < self.config.total_batches);
        assert!(grant.version.0 <= self.version, "the version exists");
        assert!(batch - grant.version.0 <= u64::from(self.config.lockstep.lag), "staleness is within the lag");
        assert_eq!(grant.version.0, batch.saturating_sub(u64::from(self.config.lockstep.lag)));
        for other in &self.grants {
            let same = other.0.groups == grant.groups;
            assert!(same || other.0.groups.end <= grant.groups.start || grant.groups.end <= other.0.groups.start);
            assert!(!same || !self.is_live(other), "no group is leased twice at one time");
            assert!(!same || other.0.epoch < grant.epoch, "epochs grow");
        }
    }

    fn make(&mut self, one: &Move) {
        match one {
            Move::Ask => {
                self.asks += 1;
                let until = seconds(self.now + 3);
                let _ = self.apply(Event::Ask { ask: AskId(self.asks), worker: WorkerId(self.asks % 3), until });
            }
            Move::Train => {
                let mut batch = self.config.lockstep.groups_of(self.version);
                if self.version < self.config.total_batches && batch.all(|group| self.learner_has.contains(&group)) {
                    self.version += 1;
                    self.apply(Event::Advance { version: PolicyVersion(self.version) }).unwrap();
                }
            }
            Move::Restart(back) => {
                self.version = self.version.saturating_sub(*back);
                let trained = self.config.lockstep.groups_of(self.version).start;
                self.learner_has.retain(|group| *group < trained);
                self.fenced = self.grants.len();
                self.grants.iter_mut().for_each(|grant| grant.3 = true);
                self.apply(Event::Register { version: PolicyVersion(self.version) }).unwrap();
            }
            Move::Sleep(seconds) => {
                self.now += seconds;
                self.apply(Event::Tick).unwrap();
            }
            Move::Complete(pick) | Move::Release(pick) | Move::Renew(pick) => {
                if self.grants.is_empty() {
                    return;
                }
                let pick = pick % self.grants.len();
                let live = self.is_live(&self.grants[pick]);
                let Grant { lease, epoch, groups, .. } = self.grants[pick].0.clone();
                let event = match one {
                    Move::Complete(_) => {
                        // Dead or alive, the holder has submitted: the learner counts the first copy. To whom it
                        // submitted before the learner was started again is another matter.
                        if pick >= self.fenced {
                            self.learner_has.extend(groups);
                        }
                        Event::Complete { lease, epoch }
                    }
                    Move::Release(_) => Event::Release { lease, epoch },
                    _ => Event::Renew { lease, epoch },
                };
                if live {
                    match event {
                        Event::Renew { .. } => self.grants[pick].2 = self.now,
                        _ => self.grants[pick].3 = true,
                    }
                }
                assert_eq!(self.apply(event).is_ok(), live, "exactly the holder of a live lease is heard");
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
            if !self.grants.is_empty() {
                self.make(&Move::Complete(self.grants.len() - 1));
            }
            self.make(&Move::Train);
            self.make(&Move::Sleep(1));
        }
        panic!("the run does not end");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_history_breaks_an_invariant_and_a_live_worker_ends_every_run(
        groups_per_batch in 1u32..9, groups_per_lease in 1u32..5, lag in 0u32..3, total_batches in 1u64..6,
        history in moves(),
    ) {
        let mut world = World::new(config(groups_per_batch, groups_per_lease, lag, total_batches));
        for one in &history {
            world.make(one);
        }
        world.finish();
        prop_assert_eq!(world.version, total_batches);
    }
}
