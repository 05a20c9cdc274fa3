//! What went wrong with a call to another process, and what can be done about it.

use crate::failure::hinted;
use anyhow::anyhow;
use riser_core::refusals::RefusalReason;
use riser_proto::access::reason_of;
use riser_proto::call::{explain, is_distrust};
use tonic::Status;

/// The error that a call to `peer` ended with.
pub(crate) fn of(peer: &str, status: &Status) -> anyhow::Error {
    with_remedy(anyhow!("{peer}: {}", explain(status)), status)
}

/// `error`, which `status` caused, with a remedy where there is one.
pub(crate) fn with_remedy(error: anyhow::Error, status: &Status) -> anyhow::Error {
    match remedy(status) {
        Some(hint) => hinted(error, hint),
        None => error,
    }
}

fn remedy(status: &Status) -> Option<&'static str> {
    let roles = "`riser certs` writes a certificate for each role: show the one of this role; older certificates name no role, make \
         new ones, or set `cluster.certificates_without_roles` (`--certificates-without-roles`) for an authority that cannot name \
         roles";
    match reason_of(status) {
        Some(RefusalReason::Role) => Some(roles),
        Some(RefusalReason::Token) => {
            Some("give the token of this role with `--token-file`, `cluster.token_file` or RISER_TOKEN")
        }
        Some(RefusalReason::Run) => Some(
            "coordinator and learner need the same configuration, data and `train.init`; workers take theirs from the coordinator",
        ),
        Some(RefusalReason::Size) => None,
        None if is_distrust(status) && explain(status).contains("shows a certificate") => Some(roles),
        None => None,
    }
}
