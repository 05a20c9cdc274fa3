//! Keeping account: every change of a holding is counted and written down in one place.

use super::Schedule;
use riser_core::{
    lease::Claim,
    run_event::{LeaseChange, LeaseRecord},
};

impl Schedule {
    /// Counts a change and keeps it for whoever writes the run's event log.
    pub(super) fn record(&mut self, claim: &Claim, change: LeaseChange) {
        let counts = &mut self.counts;
        let counter = match change {
            LeaseChange::Granted => &mut counts.granted,
            LeaseChange::Doubled => {
                counts.doubled += 1;
                &mut counts.granted
            }
            LeaseChange::Adopted => &mut counts.adopted,
            LeaseChange::Completed => &mut counts.completed,
            LeaseChange::Released => &mut counts.released,
            LeaseChange::Expired => &mut counts.expired,
            LeaseChange::Overtaken => &mut counts.overtaken,
            LeaseChange::Outrun => &mut counts.outrun,
            LeaseChange::Rewound => &mut counts.rewound,
        };
        *counter += 1;
        let Claim { lease, epoch, worker, version } = *claim;
        let coordinator = self.config.incarnation;
        self.records.push(LeaseRecord {
            coordinator,
            lease,
            epoch,
            worker,
            version,
            groups: self.groups_of(lease),
            change,
        });
    }
}
