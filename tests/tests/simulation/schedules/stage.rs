//! Where faults happen: carries a plan out.

use super::{
    disk::CrashingDisk,
    host::{Controls, Host, Order},
    network::Network,
    objects::Objects,
    plan::{Cast, Fault, Plan},
    trace::Trace,
    witness::Witness,
};
use std::{collections::BTreeMap, sync::Arc};
use tokio::{task::JoinSet, time::sleep_until};
use tokio_util::sync::CancellationToken;

/// The disk of each learner.
pub(crate) type Disks = BTreeMap<Host, Arc<CrashingDisk>>;

/// Everything that faults happen to.
pub(crate) struct Stage {
    pub(crate) cast: Cast,
    pub(crate) controls: BTreeMap<Host, Controls>,
    /// Starts the second learner, and the second coordinator.
    pub(crate) second: [CancellationToken; 2],
    pub(crate) network: Network,
    pub(crate) disks: Disks,
    pub(crate) store: Option<Objects>,
    pub(crate) witness: Arc<Witness>,
    pub(crate) trace: Trace,
}

impl Stage {
    /// Carries the plan out.
    pub(crate) async fn play(self, plan: Plan) {
        let start = tokio::time::Instant::now();
        let mut going_on = JoinSet::new();
        for (at, fault) in plan.0 {
            sleep_until(start + at).await;
            self.trace.note(fault.kind(), format_args!("{fault:?}"));
            // A coordinator that hears nobody for long knows nobody, whichever side it is on.
            match &fault {
                Fault::Partition { .. } | Fault::Freeze { host: Host::COORDINATOR, .. } => {
                    self.witness.disturbed(&self.cast.network());
                }
                fault => self.witness.disturbed(&fault.hosts()),
            }
            let lasting = fault.lasting();
            if let Some(undo) = self.begin(fault) {
                going_on.spawn(async move {
                    tokio::time::sleep(lasting).await;
                    undo();
                });
            }
        }
        while going_on.join_next().await.is_some() {}
        self.disks.values().for_each(|disk| disk.disarm());
        self.trace.note("calm", "");
    }

    /// Begins a fault; what is returned ends it.
    fn begin(&self, fault: Fault) -> Option<Box<dyn FnOnce() + Send>> {
        let order = |host: Host, order| self.controls[&host].orders.send(order).unwrap_or_default();
        let network = self.network.clone();
        match fault {
            Fault::Crash { host, dark, down } => order(host, Order::Kill { dark, down }),
            Fault::Stop { host, down } => order(host, Order::Stop { down }),
            Fault::DiskLost { host, down } => order(host, Order::Replace { down }),
            Fault::CrashWriting { host, operations, down } => {
                let orders = self.controls[&host].orders.clone();
                self.disks[&host].fail_after(operations, orders, Order::Kill { dark: false, down });
            }
            Fault::Cut { one, other } => network.cut(one, other),
            Fault::SecondLearner => self.second[0].cancel(),
            Fault::SecondCoordinator { .. } => {
                self.second[1].cancel();
                network.lead(Host::COORDINATOR, Host::SECOND_COORDINATOR);
                let first = self.controls[&Host::COORDINATOR].orders.clone();
                return Some(Box::new(move || first.send(Order::Remove).unwrap_or_default()));
            }
            Fault::Freeze { host, .. } => {
                let (ice, thaw) = (self.controls[&host].ice.clone(), self.block(&[host], false));
                ice.freeze();
                return Some(Box::new(move || {
                    ice.thaw();
                    thaw();
                }));
            }
            Fault::Partition { side, one_way, .. } => return Some(self.block(&side, one_way)),
            Fault::Slow { from, to, slowness, .. } => {
                network.slow(from, to, slowness);
                return Some(Box::new(move || network.slow(from, to, 1)));
            }
            Fault::DiskFull { host, .. } => {
                let disk = self.disks[&host].clone();
                disk.set_full(true);
                return Some(Box::new(move || disk.set_full(false)));
            }
            Fault::StoreAway { .. } => {
                let store = self.store.clone()?;
                store.begin_outage();
                return Some(Box::new(move || store.end_outage()));
            }
        }
        None
    }

    /// Blocks all links between `side` and everyone else.
    fn block(&self, side: &[Host], one_way: bool) -> Box<dyn FnOnce() + Send> {
        let (network, ways) = (self.network.clone(), ways(side, &self.cast.network(), one_way));
        ways.iter().for_each(|&(from, to)| network.block(from, to));
        Box::new(move || ways.iter().for_each(|&(from, to)| network.unblock(from, to)))
    }
}

/// The directed links between `side` and everyone else.
fn ways(side: &[Host], all: &[Host], one_way: bool) -> Vec<(Host, Host)> {
    let mut ways = vec![];
    for &here in side {
        for &there in all.iter().filter(|there| !side.contains(there)) {
            ways.push((here, there));
            if !one_way {
                ways.push((there, here));
            }
        }
    }
    ways
}
