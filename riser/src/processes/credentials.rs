//! What a process shows to others and asks of them.

use super::certificates::RELAY_NAME;
use super::connector::Connector;
use crate::cli::cluster::Contact;
use crate::failure::{Hint, Usage};
use anyhow::Context;
use riser_core::config::{ClusterSection, HostPort, Security};
use riser_core::digest::Digest;
use riser_proto::access::{Access, Token, Tokens, role::Role};
use riser_proto::channel::Pass;
use riser_proto::transport;
use std::path::{Path, PathBuf};
use tonic::transport::{Certificate, Channel, Endpoint, Identity, ServerTlsConfig};

/// Environment variable with the join token, for where a file is inconvenient.
pub(crate) const TOKEN_VARIABLE: &str = "RISER_TOKEN";

/// The same with the learner's own token.
const LEARNER_TOKEN_VARIABLE: &str = "RISER_LEARNER_TOKEN";

/// The same with the token of those who only watch.
const WATCH_TOKEN_VARIABLE: &str = "RISER_WATCH_TOKEN";

/// Certificate files of one process.
#[derive(Debug, Clone)]
pub(crate) struct CertificateFiles {
    /// Whose certificates are believed.
    pub(crate) ca: PathBuf,
    /// The process's own certificate.
    pub(crate) cert: PathBuf,
    /// Its private key.
    pub(crate) key: PathBuf,
    /// Whether a certificate that names no role is believed to be that of any role.
    pub(crate) without_roles: bool,
}

/// What a process shows to others and asks of them.
pub(crate) struct Credentials {
    tls: Option<Tls>,
    tokens: Option<Tokens>,
    role: Role,
    /// Whether other machines may be talked to without either.
    plaintext: bool,
}

/// Both ends of connections with certificates.
struct Tls {
    server: ServerTlsConfig,
    connector: Connector,
    without_roles: bool,
}

impl Credentials {
    /// The credentials of a role, from the configuration.
    pub(crate) fn of_role(cluster: &ClusterSection, role: Role) -> anyhow::Result<Self> {
        let files = match (cluster.security, &cluster.certificates) {
            (Security::Mtls, Some(folder)) => Some(CertificateFiles {
                ca: folder.join("ca.pem"),
                cert: folder.join(format!("{role}.pem")),
                key: folder.join(format!("{role}.key")),
                without_roles: cluster.certificates_without_roles,
            }),
            (Security::Mtls, None) => {
                return Err(Usage("`cluster.security = \"mtls\"` needs `cluster.certificates`".to_owned()))
                    .hint(|| "make them with `riser certs DIR --host NAME`, then set it to DIR".to_owned());
            }
            _ => None,
        };
        let common = token(cluster.token_file.as_deref(), TOKEN_VARIABLE)?;
        let learner = token(cluster.learner_token_file.as_deref(), LEARNER_TOKEN_VARIABLE)?;
        let watcher = token(cluster.watch_token_file.as_deref(), WATCH_TOKEN_VARIABLE)?;
        let is_needed = cluster.security == Security::Token || learner.is_some() || watcher.is_some();
        if is_needed && common.is_none() {
            let problem = match cluster.security {
                Security::Token => "`cluster.security = \"token\"` needs a token",
                _ => "a token of the learner or of watchers needs one of the workers beside it",
            };
            return Err(Usage(problem.to_owned())).hint(|| {
                format!("set `cluster.token_file`, or the environment variable {TOKEN_VARIABLE}; `openssl rand -hex 32` makes one")
            });
        }
        let tokens = common.map(|common| Tokens::common(common).with_learner(learner).with_watcher(watcher));
        Self::new(files, tokens, role, cluster.security == Security::Plaintext)
    }

    /// Credentials of `role` from files.
    pub(crate) fn new(
        files: Option<CertificateFiles>,
        tokens: Option<Tokens>,
        role: Role,
        plaintext: bool,
    ) -> anyhow::Result<Self> {
        Ok(Self { tls: files.map(|files| Tls::read(&files)).transpose()?, tokens, role, plaintext })
    }

    /// What a server of `run` asks of its callers.
    pub(crate) fn access(&self, run: Digest) -> Access {
        Access {
            tls: self.tls.as_ref().map(|tls| tls.server.clone()),
            certificates_without_roles: self.tls.as_ref().is_some_and(|tls| tls.without_roles),
            tokens: self.tokens.clone(),
            run: Some(run),
        }
    }

    /// What is shown with every call.
    pub(crate) fn pass(&self) -> Pass {
        match &self.tokens {
            Some(tokens) => Pass::default().with_token(tokens.of(self.role)),
            None => Pass::default(),
        }
    }

    /// A connection to the `role` at `address`, made when it is first used.
    pub(crate) fn connect(&self, address: &HostPort, role: Role) -> anyhow::Result<Channel> {
        self.connect_to(address, address.host(), Some(role))
    }

    /// A connection to whatever role is at `address`.
    pub(crate) fn connect_to_any(&self, address: &HostPort) -> anyhow::Result<Channel> {
        self.connect_to(address, address.host(), None)
    }

    /// A connection to a worker that hands policies on, whose certificate is for a name that all workers share.
    pub(crate) fn connect_to_relay(&self, address: &HostPort) -> anyhow::Result<Channel> {
        self.connect_to(address, RELAY_NAME, Some(Role::Worker))
    }

    /// Whether callers can be told from strangers.
    pub(crate) fn asks_nobody(&self) -> bool {
        self.tls.is_none() && self.tokens.is_none() && !self.plaintext
    }

    fn connect_to(&self, address: &HostPort, name: &str, role: Option<Role>) -> anyhow::Result<Channel> {
        if self.asks_nobody() && !address.is_loopback() {
            return Err(Usage(format!("{address} is another machine, and there is neither a certificate nor a token")))
                .hint(|| {
                    "give certificates or a token, or ask for plaintext by name if the network is trusted".to_owned()
                });
        }
        let impossible = || format!("cannot make a connection to {address}");
        // The connector brings certificates itself.
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map(transport::endpoint);
        let endpoint = endpoint.with_context(impossible)?;
        match &self.tls {
            Some(Tls { connector, .. }) => {
                connector.connect(&endpoint, (address.host(), address.port()), name, role).with_context(impossible)
            }
            None => Ok(endpoint.connect_lazy()),
        }
    }
}

impl Tls {
    fn read(CertificateFiles { ca, cert, key, without_roles }: &CertificateFiles) -> anyhow::Result<Self> {
        let authority = read(ca, "certificate of the authority")?;
        let (chain, secret) = (read(cert, "certificate")?, read(key, "private key")?);
        let connector = Connector::new(&authority, &chain, &secret, *without_roles).with_context(|| {
            format!(
                "{}, {} and {} are no certificates that belong together",
                ca.display(),
                cert.display(),
                key.display()
            )
        })?;
        let identity = Identity::from_pem(chain, secret);
        let server = ServerTlsConfig::new().client_ca_root(Certificate::from_pem(authority)).identity(identity);
        Ok(Self { server, connector, without_roles: *without_roles })
    }
}

/// The token in a file, or else in an environment variable.
pub(crate) fn token(file: Option<&Path>, variable: &str) -> anyhow::Result<Option<Token>> {
    match (file, std::env::var(variable)) {
        (Some(path), _) => {
            let text = read(path, "token")?;
            let text = String::from_utf8_lossy(&text);
            Token::new(&text).map(Some).with_context(|| format!("{} holds no token", path.display()))
        }
        (None, Ok(text)) => Token::new(&text).map(Some).with_context(|| format!("{variable} holds no token")),
        (None, Err(_)) => Ok(None),
    }
}

/// Where to call as `role` and what is shown there, from the command line.
pub(crate) fn of_contact(contact: &Contact, role: Role) -> anyhow::Result<(HostPort, Credentials)> {
    let Contact { coordinator, token_file, certificates, plaintext } = contact;
    let files = certificates.files();
    let address = address_of(coordinator, files.is_some())?;
    let file = token_file.as_deref();
    let own = match role {
        Role::Watcher => token(file, WATCH_TOKEN_VARIABLE)?,
        Role::Operator => token(file, LEARNER_TOKEN_VARIABLE)?,
        _ => None,
    };
    let shown = own.map_or_else(|| token(file, TOKEN_VARIABLE), |token| Ok(Some(token)))?;
    Ok((address, Credentials::new(files, shown.map(Tokens::common), role, *plaintext)?))
}

/// The address in a URL whose scheme fits the credentials that were given.
pub(crate) fn address_of(url: &str, has_certificates: bool) -> anyhow::Result<HostPort> {
    let wrong = |problem: &str, remedy: &str| -> anyhow::Result<HostPort> {
        Err(Usage(format!("`{url}` {problem}"))).hint(|| remedy.to_owned())
    };
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    match (scheme, has_certificates) {
        ("http", false) | ("https", true) => {}
        ("http", true) => return wrong("is plaintext, but certificates are given", "write https://"),
        ("https", false) => return wrong("needs certificates", "add --ca, --cert and --key"),
        _ => return wrong("is not a URL", "write http://HOST:PORT, or https://HOST:PORT with certificates"),
    }
    match rest.trim_end_matches('/').parse() {
        Ok(address) => Ok(address),
        Err(_) => wrong("has no host and port", "write it as in http://127.0.0.1:7470"),
    }
}

fn read(path: &Path, what: &str) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path)
        .map_err(|error| Usage(format!("cannot read the {what} {}: {error}", path.display())))
        .hint(|| "`riser certs` makes certificates; a token is any text of at least 16 characters".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_must_fit_the_credentials() {
        let address = |url: &str, certificates| address_of(url, certificates).map(|address| address.to_string());
        assert_eq!(address("http://127.0.0.1:7470/", false).unwrap(), "127.0.0.1:7470");
        assert_eq!(address("https://host:1", true).unwrap(), "host:1");
        for (url, certificates) in [
            ("https://host:1", false),
            ("http://host:1", true),
            ("host:1", false),
            ("ftp://host:1", false),
            ("http://host", false),
        ] {
            assert!(address(url, certificates).is_err(), "{url}");
        }
    }

    #[tokio::test]
    async fn another_machine_is_not_talked_to_in_plaintext_unless_that_is_asked_for() {
        let there: HostPort = "10.0.0.1:7470".parse().unwrap();
        let here: HostPort = "localhost:7470".parse().unwrap();
        let none = Credentials { tls: None, tokens: None, role: Role::Worker, plaintext: false };
        assert!(none.connect(&there, Role::Coordinator).unwrap_err().to_string().contains("is another machine"));
        assert!(none.connect(&here, Role::Coordinator).is_ok());
        let named = Credentials { plaintext: true, ..none };
        assert!(named.connect(&there, Role::Coordinator).is_ok());
    }
}
