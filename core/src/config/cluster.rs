//! `[cluster]`: where the roles are and how they trust each other. Nothing here changes what a run computes, so nothing
//! here is part of its identity.

use super::check::Ranges;
use super::{ConfigError, Conflict};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

/// How the processes of a cluster trust each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Security {
    /// Nothing is encrypted and nobody is asked, so every address must be one of this machine.
    Loopback,
    /// Certificates on both sides, from `certificates`; a token as well if `token_file` is set.
    Mtls,
    /// Callers show a token; nothing is encrypted, so the network must be trusted not to listen.
    Token,
    /// Nothing is encrypted and nobody is asked, on any address.
    Plaintext,
}

/// `[cluster]`: the roles as processes of their own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterSection {
    /// How the processes trust each other.
    pub security: Security,
    /// Folder with `ca.pem` and, for each role, `ROLE.pem` and `ROLE.key`, as `riser certs` writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificates: Option<PathBuf>,
    /// Whether a certificate that names no role is believed to be that of any role, for authorities that cannot write roles into
    /// certificates. One that names a role is held to it in any case.
    pub certificates_without_roles: bool,
    /// File with the join token; the environment variable `RISER_TOKEN` does as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// File with the learner's own token, which `token_file` does not do for then; or `RISER_LEARNER_TOKEN`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learner_token_file: Option<PathBuf>,
    /// File with the token of those who only watch, which `token_file` does not do for then; or `RISER_WATCH_TOKEN`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watch_token_file: Option<PathBuf>,
    /// File with the token that the pages with Prometheus metrics ask for; or `RISER_METRICS_TOKEN`. Without either they ask
    /// for nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics_token_file: Option<PathBuf>,
    /// Where the coordinator is.
    pub coordinator: CoordinatorAddress,
    /// Where the learner is.
    pub learner: LearnerAddress,
    /// Seconds after which a worker that says nothing loses its lease.
    pub lease_timeout: u64,
    /// Seconds after which a worker that does not finish a lease loses it.
    pub lease_lifetime: u64,
    /// Seconds for which a role keeps trying to reach another one that is away.
    pub patience: u64,
    /// Seconds between two signs of life of the learner to the coordinator.
    pub heartbeat: u64,
    /// Wrong groups after which a worker is refused.
    pub max_rejections: u32,
    /// Most workers at one time.
    pub max_workers: usize,
    /// Workers that take their policies from the learner, and from each worker that hands them on, as long as there are such.
    pub fan_out: NonZeroU32,
}

/// `[cluster.coordinator]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CoordinatorAddress {
    /// Address and port that it listens on.
    pub listen: SocketAddr,
    /// Host and port that the learner reaches it at; `listen` if not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertise: Option<HostPort>,
    /// Address and port that Prometheus metrics are shown at; nowhere if not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<SocketAddr>,
}

/// `[cluster.learner]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LearnerAddress {
    /// Address and port that it listens on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Host and port that workers reach it at, as the coordinator tells them; where it listens if not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertise: Option<HostPort>,
    /// Address and port that Prometheus metrics are shown at; nowhere if not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<SocketAddr>,
}

impl Default for ClusterSection {
    fn default() -> Self {
        Self {
            security: Security::Loopback,
            certificates: None,
            certificates_without_roles: false,
            token_file: None,
            learner_token_file: None,
            watch_token_file: None,
            metrics_token_file: None,
            coordinator: CoordinatorAddress::default(),
            learner: LearnerAddress::default(),
            lease_timeout: 60,
            lease_lifetime: 600,
            patience: 600,
            heartbeat: 5,
            max_rejections: 8,
            max_workers: 1024,
            fan_out: NonZeroU32::new(8).expect("not zero"),
        }
    }
}

impl Default for CoordinatorAddress {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 7470)), advertise: None, metrics: None }
    }
}

impl Default for LearnerAddress {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 7471)), advertise: None, metrics: None }
    }
}

impl ClusterSection {
    /// Where others reach the coordinator.
    pub fn coordinator_address(&self) -> HostPort {
        let CoordinatorAddress { listen, advertise, .. } = &self.coordinator;
        advertise.clone().unwrap_or_else(|| HostPort::from(*listen))
    }

    /// How long a role keeps trying to reach another one.
    pub fn patience(&self) -> Duration {
        Duration::from_secs(self.patience)
    }

    pub(super) fn ranges(&self, ranges: &Ranges<'_>) -> Result<(), ConfigError> {
        ranges.at_least_one("cluster.lease_timeout", self.lease_timeout)?;
        ranges.at_least_one("cluster.lease_lifetime", self.lease_lifetime)?;
        ranges.at_least_one("cluster.patience", self.patience)?;
        ranges.at_least_one("cluster.heartbeat", self.heartbeat)?;
        ranges.at_least_one("cluster.max_rejections", self.max_rejections)?;
        ranges.at_least_one("cluster.max_workers", self.max_workers)
    }

    pub(super) fn conflicts(
        &self,
        unless: &dyn Fn(&str, bool, Conflict) -> Result<(), ConfigError>,
    ) -> Result<(), ConfigError> {
        let advertised = |advertise: &Option<HostPort>| advertise.clone().map(|address| address.to_string());
        let (coordinator, learner) = (&self.coordinator, &self.learner);
        let addresses = [
            ("cluster.coordinator.listen", Some(coordinator.listen.to_string())),
            ("cluster.coordinator.advertise", advertised(&coordinator.advertise)),
            ("cluster.learner.listen", Some(learner.listen.to_string())),
            ("cluster.learner.advertise", advertised(&learner.advertise)),
        ];
        for (key, address) in addresses {
            let Some(address) = address else { continue };
            let exposed = self.security == Security::Loopback
                && !address.parse::<HostPort>().is_ok_and(|address| address.is_loopback());
            unless(key, exposed, Conflict::PlaintextBeyondLoopback { key, address })?;
        }
        let nowhere = learner.listen.ip().is_unspecified() && learner.advertise.is_none();
        let key = "cluster.learner.listen";
        unless(key, nowhere, Conflict::NothingToAdvertise { listen: learner.listen })?;
        let key = "cluster.lease_lifetime";
        let (timeout, lifetime) = (self.lease_timeout, self.lease_lifetime);
        unless(key, lifetime < timeout, Conflict::LeaseLifetime { timeout, lifetime })
    }
}

/// A host, by name or address, and a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPort {
    host: String,
    port: u16,
}

/// A text that is not a host and a port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not HOST:PORT, as in `trainer.example:7470` or `[2001:db8::1]:7470`")]
pub struct HostPortError(String);

impl HostPort {
    /// The host: a name, or an address without brackets.
    pub fn host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether it can only be reached from this machine.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host().parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.host, self.port)
    }
}

impl From<SocketAddr> for HostPort {
    fn from(address: SocketAddr) -> Self {
        let host = match address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        Self { host, port: address.port() }
    }
}

impl std::str::FromStr for HostPort {
    type Err = HostPortError;

    fn from_str(text: &str) -> Result<Self, HostPortError> {
        let error = || HostPortError(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(error)?;
        let port = port.parse().map_err(|_| error())?;
        let bracketed = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
        let plain = |host: &str| !host.is_empty() && !host.contains([':', '/', '@', '[', ']', ' ', '?', '#']);
        match bracketed {
            Some(inner) if inner.parse::<std::net::Ipv6Addr>().is_ok() => {}
            None if plain(host) => {}
            _ => return Err(error()),
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl TryFrom<String> for HostPort {
    type Error = HostPortError;

    fn try_from(text: String) -> Result<Self, HostPortError> {
        text.parse()
    }
}

impl From<HostPort> for String {
    fn from(address: HostPort) -> String {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{RunConfig, Sources};

    fn resolve(flags: &[&str]) -> Result<RunConfig, ConfigError> {
        let flags = flags.iter().map(|flag| format!("cluster.{flag}")).collect();
        RunConfig::resolve(&Sources { flags, ..Sources::default() }, 2)
    }

    #[test]
    fn host_and_port_are_told_apart_and_other_texts_are_refused() {
        for text in ["localhost:1", "10.0.0.1:7470", "[::1]:7470", "trainer.example:65535"] {
            assert_eq!(text.parse::<HostPort>().unwrap().to_string(), text);
        }
        for text in
            ["", ":1", "host", "host:", "host:65536", "::1:80", "[::1:80", "[host]:80", "http://host:80", "a b:1"]
        {
            assert!(text.parse::<HostPort>().is_err(), "{text:?}");
        }
        let local = |text: &str| text.parse::<HostPort>().unwrap().is_loopback();
        assert!(local("localhost:1") && local("127.1.2.3:1") && local("[::1]:1"));
        assert!(!local("10.0.0.1:1") && !local("localhost.example:1") && !local("0.0.0.0:1"));
    }

    #[test]
    fn plaintext_beyond_loopback_is_refused_unless_it_is_asked_for_by_name() {
        let exposed = ["coordinator.listen=0.0.0.0:7470"];
        let error = resolve(&exposed).unwrap_err().to_string();
        assert!(error.contains("`cluster.coordinator.listen = \"0.0.0.0:7470\"` can be reached from"), "{error}");
        assert!(resolve(&["learner.advertise=learner.example:7471"]).is_err());
        for security in ["plaintext", "token", "mtls"] {
            let security = format!("security={security}");
            assert!(resolve(&[exposed[0], &security]).is_ok(), "{security}");
        }
        assert!(resolve(&["coordinator.listen=[::1]:7470"]).is_ok());
    }

    #[test]
    fn a_learner_that_listens_everywhere_must_say_where_it_is() {
        let everywhere = ["security=mtls", "learner.listen=0.0.0.0:7471"];
        let error = resolve(&everywhere).unwrap_err().to_string();
        assert!(error.contains("says no address"), "{error}");
        assert!(resolve(&[&everywhere[..], &["learner.advertise=learner:7471"]].concat()).is_ok());
    }

    #[test]
    fn moving_hosts_does_not_change_a_run() {
        let digest = |flags: &[&str]| resolve(flags).unwrap().digest();
        assert_eq!(digest(&[]), digest(&["security=mtls", "lease_timeout=5", "coordinator.listen=10.0.0.1:1"]));
    }

    #[test]
    fn an_unknown_key_and_a_wrong_address_are_reported_with_their_name() {
        let error = resolve(&["coordinator.lisen=1"]).unwrap_err().to_string();
        assert!(error.contains("unknown key `cluster.coordinator.lisen`"), "{error}");
        let error = resolve(&["learner.advertise=learner"]).unwrap_err().to_string();
        assert!(error.contains("`learner` is not HOST:PORT"), "{error}");
    }
}
