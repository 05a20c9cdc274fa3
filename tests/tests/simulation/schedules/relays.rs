//! Who takes policies from whom, as far as an onlooker can tell: nobody is sent to the learner while there is another place,
//! and nobody who has another place asks the learner without a reason.

use super::{host::Host, trace::Trace};
use riser_core::ids::WorkerId;
use riser_proto::{egress::Egress, join::Welcome};
use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
};

/// The workers of a run that hand policies on.
#[derive(Debug, Clone)]
pub(crate) struct Relays {
    pub(crate) fan_out: NonZeroU32,
    pub(crate) hosts: BTreeSet<Host>,
}

/// What was seen of them.
#[derive(Default)]
pub(crate) struct Tree {
    members: BTreeMap<WorkerId, Member>,
    /// Hosts to which something happened, or whose process has ended: whatever they say may come late or not at all.
    disturbed: BTreeSet<Host>,
}

struct Member {
    host: Host,
    parent: Option<Host>,
    /// The start of the coordinator that gave the place, and which of its newcomers this was.
    coordinator: u64,
    place: u64,
    /// The hosts that were disturbed by then.
    disturbed: BTreeSet<Host>,
}

impl Tree {
    pub(crate) fn disturbed(&mut self, hosts: &[Host]) {
        self.disturbed.extend(hosts);
    }

    /// A worker was taken up and given its place; numbers of workers grow by `per_start` with each coordinator.
    pub(crate) fn joined(&mut self, relays: &Relays, host: Host, welcome: &Welcome, per_start: u64, trace: &Trace) {
        let parent = welcome.parent.as_ref().map(|parent| Host::named(parent.host()));
        if parent == Some(host) {
            trace.violation(format_args!("{host} is to take policies from itself"));
        }
        if let Some(parent) = parent.filter(|parent| !relays.hosts.contains(parent)) {
            trace.violation(format_args!("{host} is sent to {parent}, which hands nothing on"));
        }
        let (coordinator, place) = (welcome.worker.0 / per_start, welcome.worker.0 % per_start);
        let disturbed = self.disturbed.clone();
        self.members.insert(welcome.worker, Member { host, parent, coordinator, place, disturbed });
    }

    /// Whether every newcomer was given a place below a relay while there was one and the learner had enough to do.
    pub(crate) fn examine(&self, relays: &Relays, trace: &Trace) {
        let fan_out = relays.fan_out.get() as usize;
        for member in self.members.values().filter(|member| member.parent.is_none()) {
            let is_earlier = |other: &&Member| other.coordinator == member.coordinator && other.place < member.place;
            let earlier: Vec<&Member> = self.members.values().filter(is_earlier).collect();
            // The welcome of some may have been lost, and nobody knows their place.
            if earlier.len() as u64 + 1 < member.place {
                continue;
            }
            let is_calm = |other: &&&Member| !member.disturbed.contains(&other.host) && other.host != member.host;
            let crowd = earlier.iter().filter(is_calm).filter(|other| other.parent.is_none()).count();
            let below = |host| earlier.iter().filter(|other| other.parent == Some(host)).count();
            let is_free = |other: &&Member| relays.hosts.contains(&other.host) && below(other.host) < fan_out;
            if crowd >= fan_out && earlier.iter().filter(is_calm).any(is_free) {
                let host = member.host;
                trace.violation(format_args!("{host} was sent to the learner, which had {crowd}, beside a free relay"));
            }
        }
    }

    /// Whom some learner sends to.
    pub(crate) fn fed(&self, egress: &Egress, trace: &Trace) {
        for worker in egress.subscribers.values().filter_map(|subscriber| subscriber.worker) {
            let Some(member) = self.members.get(&WorkerId(worker)) else { continue };
            let Some(parent) = member.parent else { continue };
            // A learner that vanished has left everybody below it without a word.
            let (mut chain, mut above) = (vec![Host::LEARNER, Host::SECOND_LEARNER, member.host], Some(parent));
            while let Some(host) = above.filter(|host| !chain.contains(host)) {
                chain.push(host);
                above = self.members.values().rev().find(|other| other.host == host).and_then(|other| other.parent);
            }
            if !chain.iter().any(|host| self.disturbed.contains(host)) {
                trace.violation(format_args!("{} takes policies from the learner instead of {parent}", member.host));
            }
        }
    }
}
