//! What a process shows to others and asks of them.

use super::certificates::RELAY_NAME;
use crate::cli::cluster::Contact;
use crate::failure::{Hint, Usage};
use anyhow::Context;
use riser_core::config::{ClusterSection, HostPort, Security};
use riser_core::digest::Digest;
use riser_proto::access::{Access, Token};
use riser_proto::channel::Pass;
use riser_proto::transport;
use std::path::{Path, PathBuf};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, ServerTlsConfig};

/// Environment variable with the join token, for where a file is inconvenient.
pub(crate) const TOKEN_VARIABLE: &str = "RISER_TOKEN";

/// Certificate files of one process.
#[derive(Debug, Clone)]
pub(crate) struct CertificateFiles {
    /// Whose certificates are believed.
    pub(crate) ca: PathBuf,
    /// The process's own certificate.
    pub(crate) cert: PathBuf,
    /// Its private key.
    pub(crate) key: PathBuf,
}

/// What a process shows to others and asks of them.
pub(crate) struct Credentials {
    tls: Option<(Certificate, Identity)>,
    token: Option<Token>,
    /// Whether other machines may be talked to without either.
    plaintext: bool,
}

impl Credentials {
    /// The credentials of a role, from the configuration.
    pub(crate) fn of_role(cluster: &ClusterSection, role: &str) -> anyhow::Result<Self> {
        let files = match (cluster.security, &cluster.certificates) {
            (Security::Mtls, Some(folder)) => Some(CertificateFiles {
                ca: folder.join("ca.pem"),
                cert: folder.join(format!("{role}.pem")),
                key: folder.join(format!("{role}.key")),
            }),
            (Security::Mtls, None) => {
                return Err(Usage("`cluster.security = \"mtls\"` needs `cluster.certificates`".to_owned()))
                    .hint(|| "make them with `riser certs DIR --host NAME`, then set it to DIR".to_owned());
            }
            _ => None,
        };
        let credentials = Self::new(files, cluster.token_file.as_deref(), cluster.security == Security::Plaintext)?;
        if cluster.security == Security::Token && credentials.token.is_none() {
            return Err(Usage("`cluster.security = \"token\"` needs a token".to_owned())).hint(|| {
                format!("set `cluster.token_file`, or the environment variable {TOKEN_VARIABLE}; `openssl rand -hex 32` makes one")
            });
        }
        Ok(credentials)
    }

    /// Credentials from files; the token may also come from the environment.
    pub(crate) fn new(
        files: Option<CertificateFiles>,
        token_file: Option<&Path>,
        plaintext: bool,
    ) -> anyhow::Result<Self> {
        let tls = match files {
            Some(CertificateFiles { ca, cert, key }) => Some((
                Certificate::from_pem(read(&ca, "certificate of the authority")?),
                Identity::from_pem(read(&cert, "certificate")?, read(&key, "private key")?),
            )),
            None => None,
        };
        let token = match (token_file, std::env::var(TOKEN_VARIABLE)) {
            (Some(path), _) => {
                let text = read(path, "join token")?;
                let text = String::from_utf8_lossy(&text);
                Some(Token::new(&text).with_context(|| format!("{} holds no token", path.display()))?)
            }
            (None, Ok(text)) => Some(Token::new(&text).with_context(|| format!("{TOKEN_VARIABLE} holds no token"))?),
            (None, Err(_)) => None,
        };
        Ok(Self { tls, token, plaintext })
    }

    /// What a server of `run` asks of its callers.
    pub(crate) fn access(&self, run: Digest) -> Access {
        let tls = self.tls.clone().map(|(ca, identity)| ServerTlsConfig::new().client_ca_root(ca).identity(identity));
        Access { tls, token: self.token.clone(), run: Some(run) }
    }

    /// What is shown with every call.
    pub(crate) fn pass(&self) -> Pass {
        match &self.token {
            Some(token) => Pass::default().with_token(token),
            None => Pass::default(),
        }
    }

    /// A connection to `address`, made when it is first used.
    pub(crate) fn connect(&self, address: &HostPort) -> anyhow::Result<Channel> {
        self.connect_to(address, None)
    }

    /// A connection to a worker that hands policies on, whose certificate is for a name that all workers share.
    pub(crate) fn connect_to_relay(&self, address: &HostPort) -> anyhow::Result<Channel> {
        self.connect_to(address, Some(RELAY_NAME))
    }

    /// Whether callers can be told from strangers.
    pub(crate) fn asks_nobody(&self) -> bool {
        self.tls.is_none() && self.token.is_none() && !self.plaintext
    }

    fn connect_to(&self, address: &HostPort, name: Option<&str>) -> anyhow::Result<Channel> {
        if self.asks_nobody() && !address.is_loopback() {
            return Err(Usage(format!("{address} is another machine, and there is neither a certificate nor a token")))
                .hint(|| {
                    "give certificates or a token, or ask for plaintext by name if the network is trusted".to_owned()
                });
        }
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{address}")).map(transport::endpoint);
        let endpoint = match (&self.tls, endpoint) {
            (Some((ca, identity)), Ok(endpoint)) => {
                let tls = ClientTlsConfig::new().ca_certificate(ca.clone()).identity(identity.clone());
                endpoint.tls_config(name.into_iter().fold(tls, ClientTlsConfig::domain_name))
            }
            (_, endpoint) => endpoint,
        };
        Ok(endpoint.with_context(|| format!("cannot make a connection to {address}"))?.connect_lazy())
    }
}

/// Where to call and what is shown there, from the command line.
pub(crate) fn of_contact(contact: &Contact) -> anyhow::Result<(HostPort, Credentials)> {
    let Contact { coordinator, token_file, certificates, plaintext } = contact;
    let files = certificates.files();
    let address = address_of(coordinator, files.is_some())?;
    Ok((address, Credentials::new(files, token_file.as_deref(), *plaintext)?))
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
        let none = Credentials { tls: None, token: None, plaintext: false };
        assert!(none.connect(&there).unwrap_err().to_string().contains("is another machine"));
        assert!(none.connect(&here).is_ok());
        let named = Credentials { plaintext: true, ..none };
        assert!(named.connect(&there).is_ok());
    }
}
