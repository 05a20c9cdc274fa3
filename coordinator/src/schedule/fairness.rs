//! Fast and slow workers against a schedule, in simulated time: how long a run takes, against the best that is possible.

use super::*;
use crate::schedule::tests::{self, report, seconds};

/// Workers with a fixed time per lease; each asks when it is free.
struct Crew {
    schedule: Schedule,
    config: ScheduleConfig,
    /// Seconds per lease, by worker.
    pace: Vec<u64>,
    /// What each worker holds, and when it will be done.
    busy: Vec<Option<(Grant, u64)>>,
    asks: u64,
    received: BTreeSet<u64>,
    version: u64,
    idle: u64,
}

impl Crew {
    fn new(config: ScheduleConfig, pace: &[u64]) -> Self {
        let mut schedule = Schedule::new(config);
        schedule.apply(Event::Report(report(&config, 0)), Duration::ZERO, &mut vec![]).unwrap();
        let busy = vec![None; pace.len()];
        let (received, pace) = (BTreeSet::new(), pace.to_vec());
        Self { schedule, config, pace, busy, asks: 0, received, version: 0, idle: 0 }
    }

    /// Steps through the seconds until the run is over; training takes no time.
    fn makespan(mut self) -> (u64, Counts) {
        for now in 0..100_000 {
            self.deliver(now);
            self.train(now);
            if self.schedule.is_done() {
                return (now, self.schedule.counts());
            }
            for worker in 0..self.busy.len() {
                if self.busy[worker].is_none() {
                    self.ask(worker, now);
                }
            }
        }
        panic!("the run does not end");
    }

    fn deliver(&mut self, now: u64) {
        for slot in &mut self.busy {
            if let Some((grant, _)) = slot.take_if(|(_, done)| *done <= now) {
                self.received.extend(grant.groups.clone());
                let _ = self.schedule.apply(Event::Complete(grant.claim()), seconds(now), &mut vec![]);
            } else if let Some((grant, _)) = slot {
                let _ = self.schedule.apply(Event::Renew(grant.claim()), seconds(now), &mut vec![]);
            }
        }
    }

    fn train(&mut self, now: u64) {
        while self.version < self.config.total_batches
            && self.config.pacing.groups_of(self.version).all(|group| self.received.contains(&group))
        {
            self.version += 1;
            let report = report(&self.config, self.version);
            self.schedule.apply(Event::Report(report), seconds(now), &mut vec![]).unwrap();
        }
    }

    fn ask(&mut self, worker: usize, now: u64) {
        self.asks += 1;
        let mut effects = vec![];
        let ask = Event::Ask { ask: AskId(self.asks), worker: WorkerId(worker as u64), until: seconds(now) };
        self.schedule.apply(ask, seconds(now), &mut effects).unwrap();
        match effects.pop() {
            Some(Effect::Grant { grant, .. }) => self.busy[worker] = Some((grant, now + self.pace[worker])),
            _ => self.idle += 1,
        }
    }
}

/// Seconds that perfect sharing of the work would take: leases over the summed rates of the workers.
fn ideal(config: &ScheduleConfig, pace: &[u64]) -> f64 {
    let leases = config.pacing.groups_per_batch().div_ceil(config.groups_per_lease.get().into()) * config.total_batches;
    leases as f64 / pace.iter().map(|&seconds| 1.0 / seconds as f64).sum::<f64>()
}

fn config(lag: u32, total_batches: u64) -> ScheduleConfig {
    ScheduleConfig {
        lease_timeout: seconds(60),
        lease_lifetime: seconds(10_000),
        max_waiting: 100,
        ..tests::config(32, 4, lag, total_batches)
    }
}

#[test]
fn equal_workers_share_a_run_as_well_as_is_possible() {
    for lag in [0, 1] {
        let (config, pace) = (config(lag, 10), [6; 4]);
        let (makespan, counts) = Crew::new(config, &pace).makespan();
        assert_eq!((makespan as f64, counts.doubled), (ideal(&config, &pace), 0));
    }
}

#[test]
fn a_worker_thirty_times_slower_does_not_hold_up_the_others() {
    let pace = [6, 6, 6, 180];
    for (lag, limit) in [(0, 1.8), (1, 1.3)] {
        let config = config(lag, 20);
        let (makespan, counts) = Crew::new(config, &pace).makespan();
        let ratio = makespan as f64 / ideal(&config, &pace);
        assert!(ratio < limit, "lag {lag}: {makespan} s are {ratio:.2} of the ideal");
        assert!(counts.doubled > 0 && counts.outrun + counts.overtaken > 0, "{counts:?}");
        // Without a second holder every batch would wait 180 s for the slow worker.
        assert!(makespan < 20 * 180 / 4);
    }
}

#[test]
fn workers_of_mixed_speed_come_near_the_ideal() {
    let pace = [3, 4, 6, 9, 12];
    let config = config(1, 30);
    let (makespan, _) = Crew::new(config, &pace).makespan();
    let ratio = makespan as f64 / ideal(&config, &pace);
    assert!(ratio < 1.25, "{makespan} s are {ratio:.2} of the ideal");
}

/// The slow worker asks again under the same name while its lease is still known: it must not be its own replacement.
#[test]
fn a_worker_does_not_get_a_second_holding_of_its_own_lease() {
    let config = config(0, 3);
    let mut crew = Crew::new(config, &[1, 1]);
    for now in 0..4 {
        crew.deliver(now);
        (0..2).for_each(|worker| crew.ask(worker, now));
    }
    // The eight leases of the batch are granted; the last two, one of each worker, are out for ever.
    crew.busy = vec![None, None];
    let open = crew.schedule.num_in_flight();
    for now in 5..9 {
        let ask = Event::Ask { ask: AskId(1000 + now), worker: WorkerId(0), until: seconds(now) };
        let mut effects = vec![];
        crew.schedule.apply(ask, seconds(now), &mut effects).unwrap();
        for effect in effects {
            let Effect::Grant { grant, .. } = effect else { continue };
            let other = crew.schedule.in_flight[&grant.lease].iter().any(|holder| holder.claim.worker != WorkerId(0));
            assert!(other, "{grant:?}");
        }
    }
    assert!(crew.schedule.num_in_flight() >= open);
}
