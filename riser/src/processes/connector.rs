//! Connections with certificates on both sides, over which only a peer of the right role is talked to.
//!
//! The name that is connected to is checked as everywhere; a certificate of the run's authority for that name is not enough, as a
//! worker may run on the coordinator's host.

use riser_proto::access::role::{Role, Roles};
use std::io;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};
use tonic::transport::{Channel, Endpoint, Uri};

/// Why certificate files are of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateFilesError {
    /// One of them is not PEM.
    #[error(transparent)]
    Pem(#[from] pem::Error),
    /// They do not belong together, or are of a kind that is not known.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    /// A host has no name that a certificate can be for.
    #[error(transparent)]
    Name(#[from] InvalidDnsNameError),
}

/// A server whose certificate is for something else.
#[derive(Debug, thiserror::Error)]
#[error("invalid peer certificate: {server} shows a certificate {shown}, a {role} was expected there")]
struct WrongRole {
    server: String,
    shown: String,
    role: Role,
}

/// Makes connections as one process.
#[derive(Clone)]
pub(crate) struct Connector {
    tls: Arc<ClientConfig>,
    /// Whether a certificate that names no role is anybody's.
    without_roles: bool,
}

impl Connector {
    /// A connector that believes the authority `ca` and shows `cert`; all in PEM.
    pub(crate) fn new(ca: &[u8], cert: &[u8], key: &[u8], without_roles: bool) -> Result<Self, CertificateFilesError> {
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(ca) {
            roots.add(authority?)?;
        }
        let chain = CertificateDer::pem_slice_iter(cert).collect::<Result<Vec<_>, _>>()?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key)?)?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self { tls: Arc::new(tls), without_roles })
    }

    /// A connection to `host` and `port`, made when it is first used: the certificate there must be for `name` and for `role`,
    /// if one is given.
    pub(crate) fn connect(
        &self,
        endpoint: &Endpoint,
        (host, port): (&str, u16),
        name: &str,
        role: Option<Role>,
    ) -> Result<Channel, CertificateFilesError> {
        let name = ServerName::try_from(name.to_owned())?;
        let (host, Self { tls, without_roles }) = (host.to_owned(), self.clone());
        let connect = move |_: Uri| {
            let (host, name, tls) = (host.clone(), name.clone(), TlsConnector::from(tls.clone()));
            async move {
                let tcp = TcpStream::connect((&host[..], port)).await?;
                tcp.set_nodelay(true)?;
                let stream = tls.connect(name, tcp).await?;
                if let Some(role) = role {
                    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                    check(&format!("{host}:{port}"), shown, role, without_roles).map_err(io::Error::other)?;
                }
                Ok::<_, io::Error>(hyper_util::rt::TokioIo::new(stream))
            }
        };
        Ok(endpoint.connect_with_connector_lazy(tower::service_fn(connect)))
    }
}

fn check(
    server: &str,
    certificate: Option<&CertificateDer<'_>>,
    role: Role,
    without_roles: bool,
) -> Result<(), WrongRole> {
    let roles = certificate.map(|certificate| Roles::of_certificate(certificate));
    let shown = match roles {
        Some(Ok(roles)) if roles.include(&[role], without_roles) => return Ok(()),
        Some(Ok(roles)) => roles.to_string(),
        Some(Err(error)) => format!("that cannot be read ({error})"),
        None => "that is not there".to_owned(),
    };
    Err(WrongRole { server: server.to_owned(), shown, role })
}
