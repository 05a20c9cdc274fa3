//! Which role a process has, as its certificate says, and which role each call is for.

use crate::v1;
use std::fmt;
use tonic::transport::CertificateDer;

/// What a process is in a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Schedules.
    Coordinator,
    /// Trains.
    Learner,
    /// Samples, and may hand policies on.
    Worker,
    /// Looks on: `riser status` and `riser top`.
    Watcher,
    /// Runs the run, and may change it: `riser catalog`. It may look on as well.
    Operator,
}

/// What the URI of a role begins with. It has no authority part, whose host would have to be a domain name (RFC 5280, 4.2.1.6).
const SCHEME: &str = "riser:role:";

impl Role {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Coordinator, Self::Learner, Self::Worker, Self::Watcher, Self::Operator];

    /// Its name, which is also that of its files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Learner => "learner",
            Self::Worker => "worker",
            Self::Watcher => "watcher",
            Self::Operator => "operator",
        }
    }

    /// The subject alternative name, of the kind URI, of a certificate for this role: `riser:role:worker`.
    pub fn uri(self) -> String {
        format!("{SCHEME}{}", self.name())
    }
}

impl Role {
    /// For people: `a worker`, `an operator`.
    fn with_article(self) -> String {
        let article = if self == Self::Operator { "an" } else { "a" };
        format!("{article} {self}")
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The roles that a certificate is for: usually one; none if its authority knows nothing of roles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles(Vec<Role>);

/// A certificate whose names cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a certificate: {0}")]
pub struct CertificateError(webpki::Error);

impl Roles {
    /// The roles that a certificate in DER names. Whether the certificate is to be believed is not asked here.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn of_certificate(der: &[u8]) -> Result<Self, CertificateError> {
        let der = CertificateDer::from(der);
        let certificate = webpki::EndEntityCert::try_from(&der).map_err(CertificateError)?;
        let named = |uri: &str| Role::ALL.into_iter().find(|role| uri.strip_prefix(SCHEME) == Some(role.name()));
        Ok(Self(certificate.valid_uri_names().filter_map(named).collect()))
    }

    /// Whether the certificate may be used as one of `wanted`; `unnamed` is the answer for one that names no role.
    pub fn include(&self, wanted: &[Role], unnamed: bool) -> bool {
        if self.0.is_empty() { unnamed } else { self.0.iter().any(|role| wanted.contains(role)) }
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0[..] {
            [] => formatter.write_str("without a role"),
            [first, others @ ..] => {
                write!(formatter, "for {}", first.with_article())?;
                others.iter().try_for_each(|role| write!(formatter, " and {}", role.with_article()))
            }
        }
    }
}

const LEARNER: &[Role] = &[Role::Learner];
const WORKER: &[Role] = &[Role::Worker];
const OPERATOR: &[Role] = &[Role::Operator];

/// Every service and call, and who may make it.
const CALLERS: &[(&str, &str, &[Role])] = &[
    (v1::coordinator_server::SERVICE_NAME, "Join", WORKER),
    (v1::coordinator_server::SERVICE_NAME, "Leave", WORKER),
    (v1::coordinator_server::SERVICE_NAME, "Lease", WORKER),
    (v1::coordinator_server::SERVICE_NAME, "Renew", WORKER),
    (v1::coordinator_server::SERVICE_NAME, "Complete", WORKER),
    // A learner asks for its predecessor.
    (v1::coordinator_server::SERVICE_NAME, "Locate", &[Role::Worker, Role::Learner]),
    (v1::coordinator_server::SERVICE_NAME, "Advance", LEARNER),
    (v1::catalog_server::SERVICE_NAME, "Describe", WORKER),
    (v1::catalog_server::SERVICE_NAME, "Fetch", WORKER),
    (v1::watch_server::SERVICE_NAME, "Status", &[Role::Watcher, Role::Operator]),
    (v1::learner_server::SERVICE_NAME, "SubmitGroups", WORKER),
    (v1::learner_server::SERVICE_NAME, "SubscribePolicy", WORKER),
    (v1::operator_server::SERVICE_NAME, "ChangeCatalog", OPERATOR),
    (v1::policy_relay_server::SERVICE_NAME, "SubscribePolicy", WORKER),
];

/// Who may call `path`, as in `/riser.v1.Coordinator/Join`; `None` if there is no such call.
pub(crate) fn callers_of(path: &str) -> Option<&'static [Role]> {
    let (service, call) = path.strip_prefix('/')?.split_once('/')?;
    let known = CALLERS.iter().find(|known| known.0 == service && known.1 == call);
    known.map(|(_, _, callers)| *callers)
}

/// The roles of a call, for people: `a worker or a learner`.
pub(crate) fn one_of(roles: &[Role]) -> String {
    if roles.is_empty() {
        return "nobody".to_owned();
    }
    roles.iter().map(|role| role.with_article()).collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_call_of_the_protocol_says_who_may_make_it_and_nothing_else_does() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/proto/riser/v1");
        let mut written = BTreeSet::new();
        for file in std::fs::read_dir(folder).unwrap() {
            let (text, mut service) = (std::fs::read_to_string(file.unwrap().path()).unwrap(), String::new());
            for line in text.lines().map(str::trim) {
                let word = |keyword| line.strip_prefix(keyword)?.split([' ', '(', '{']).next();
                if let Some(name) = word("service ") {
                    service = format!("riser.v1.{name}");
                }
                written.extend(word("rpc ").map(|call| format!("/{service}/{call}")));
            }
        }
        assert!(written.contains("/riser.v1.Coordinator/Advance"), "{written:?}");
        let known: BTreeSet<_> = CALLERS.iter().map(|(service, call, _)| format!("/{service}/{call}")).collect();
        assert_eq!(known, written);
        assert_eq!(callers_of("/riser.v1.Coordinator/Advance"), Some(&[Role::Learner][..]));
        for path in ["/riser.v1.Coordinator/Advance/", "riser.v1.Coordinator/Advance", "/", ""] {
            assert_eq!(callers_of(path), None, "{path}");
        }
    }

    #[test]
    fn a_certificate_without_a_role_is_for_nobody_unless_that_is_asked_for_and_one_with_a_role_is_held_to_it() {
        let (none, worker) = (Roles(vec![]), Roles(vec![Role::Worker]));
        assert!(!none.include(&[Role::Worker], false) && none.include(&[Role::Worker], true));
        for unnamed in [false, true] {
            assert!(worker.include(&[Role::Learner, Role::Worker], unnamed));
            assert!(!worker.include(&[Role::Learner], unnamed));
        }
        let two = Roles(vec![Role::Worker, Role::Watcher]);
        assert!(two.include(&[Role::Watcher], false));
        assert_eq!(
            [none, worker, two].map(|roles| roles.to_string()),
            ["without a role", "for a worker", "for a worker and a watcher"]
        );
    }

    #[test]
    fn bytes_that_are_no_certificate_are_an_error() {
        for bytes in [&b""[..], b"0", &[0x30, 0x82, 0xff, 0xff]] {
            assert!(Roles::of_certificate(bytes).is_err());
        }
    }
}
