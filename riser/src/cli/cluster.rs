//! Arguments of the roles as processes of their own, and of the certificates they show each other.

use super::Settings;
use crate::processes::credentials::CertificateFiles;
use clap::{Args, Subcommand};
use riser_core::config::HostPort;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    riser coordinator -c run.toml --out runs/games-riser\n  \
    riser coordinator -c run.toml --set cluster.security=mtls --set cluster.certificates=certs \\\n      \
    --set cluster.coordinator.listen=0.0.0.0:7470 --out runs/games-riser\n\n\
    Ends with the run. Started again it hears from the learner where the run stands. `[cluster]` has its settings; they \
    are no part of what a run computes.")]
pub(crate) struct Coordinator {
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// Run folder; the coordinator keeps its own files in FOLDER/coordinator.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    riser learner -c run.toml --set cluster.coordinator.advertise=coordinator.example:7470 --out runs/games-riser\n  \
    riser learner -c run.toml --set cluster.learner.listen=0.0.0.0:7471 \\\n      \
    --set cluster.learner.advertise=learner.example:7471 --out runs/games-riser\n\n\
    Started again it goes on from its latest checkpoint, also on another host; so does `riser train` with the same folder.")]
pub(crate) struct Learner {
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// Run folder; created, or resumed if it holds the same run.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    riser worker --coordinator http://127.0.0.1:7470\n  \
    riser worker --coordinator http://coordinator.example:7470 --token-file token\n  \
    riser worker --coordinator https://coordinator.example:7470 \\\n      \
    --ca certs/ca.pem --cert certs/worker.pem --key certs/worker.key\n  \
    riser worker --coordinator http://127.0.0.1:7470 --cache /var/cache/riser --cache-size 1024\n  \
    riser worker --coordinator http://coordinator.example:7470 --token-file token \\\n      \
    --relay 0.0.0.0:7472 --relay-advertise host-7.example:7472\n\n\
    The environment variable RISER_TOKEN does as well as --token-file. SIGTERM or Ctrl-C finishes the lease in hand and \
    ends with status 0; the second one ends at once, which costs the run nothing but the lease's time.")]
pub(crate) struct Worker {
    #[command(flatten)]
    pub(crate) contact: Contact,
    /// Seconds for which a coordinator or learner that is away is tried again.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub(crate) patience: u64,
    /// Hands policies on to other workers at this address and port, so that the learner need not send to all of them.
    #[arg(long, value_name = "ADDR")]
    pub(crate) relay: Option<SocketAddr>,
    /// Host and port that other workers reach `--relay` at, if that is not its address.
    #[arg(long, value_name = "HOST:PORT", requires = "relay")]
    pub(crate) relay_advertise: Option<HostPort>,
    /// Address and port to show Prometheus metrics at, as in 127.0.0.1:9472.
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics: Option<SocketAddr>,
    /// File with the token that `--metrics` asks for; the environment variable RISER_METRICS_TOKEN does as well.
    #[arg(long, value_name = "FILE", requires = "metrics")]
    pub(crate) metrics_token_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) cache: Cache,
    #[command(flatten)]
    pub(crate) store: Store,
}

/// Where a run's coordinator is, and what is shown there.
#[derive(Debug, Args)]
pub(crate) struct Contact {
    /// Where the coordinator is: http://HOST:PORT, or https://HOST:PORT with certificates.
    #[arg(long, value_name = "URL")]
    pub(crate) coordinator: String,
    /// File with the join token.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) certificates: Certificates,
    /// Talks to other machines without certificates and without a token.
    #[arg(long)]
    pub(crate) plaintext: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    riser status --coordinator http://127.0.0.1:7470\n  \
    riser status --coordinator https://coordinator.example:7470 \\\n      \
    --ca certs/ca.pem --cert certs/watcher.pem --key certs/watcher.key --format json\n\n\
    The environment variables RISER_WATCH_TOKEN and RISER_TOKEN do as well as --token-file.")]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) contact: Contact,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  riser top --coordinator http://127.0.0.1:7470\n\nq, Escape or Ctrl-C ends it.")]
pub(crate) struct Top {
    #[command(flatten)]
    pub(crate) contact: Contact,
}

#[derive(Debug, Args)]
pub(crate) struct Catalog {
    #[command(subcommand)]
    pub(crate) action: CatalogAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CatalogAction {
    /// Goes on with the items of another data folder; no batch mixes the old ones with the new ones.
    Update(CatalogUpdate),
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    riser prepare interactions log.csv items-today.csv data/shop-today \\\n      \
    --tokenizer data/shop --min-interactions 0 --bad-records drop\n  \
    riser catalog update data/shop-today --coordinator http://127.0.0.1:7470\n  \
    riser catalog update data/shop-today --from-step 400 --coordinator https://coordinator.example:7470 \\\n      \
    --ca certs/ca.pem --cert certs/operator.pem --key certs/operator.key\n\n\
    The folder must be there under the same path on the hosts of the learner and the coordinator; workers fetch the items \
    from the coordinator. Histories and targets stay those of the run; of the new folder only the items are taken. So it \
    needs the run's tokenizer and template, and items that stay must be spelled as before. Prompts whose target went are \
    left out.")]
pub(crate) struct CatalogUpdate {
    /// Prepared data folder with the new items.
    pub(crate) folder: PathBuf,
    /// First step that is taken with it; default is the first that nobody has begun to sample for.
    #[arg(long, value_name = "STEP")]
    pub(crate) from_step: Option<NonZeroU64>,
    #[command(flatten)]
    pub(crate) contact: Contact,
}

/// Where a worker may find the catalog besides with the coordinator.
#[derive(Debug, Args)]
pub(crate) struct Store {
    /// Object store that the coordinator puts the catalog into, its `store.url`; asked before the coordinator.
    #[arg(long = "store", value_name = "URL")]
    pub(crate) url: Option<String>,
    /// The coordinator's `store.endpoint`.
    #[arg(long = "store-endpoint", value_name = "URL", requires = "url")]
    pub(crate) endpoint: Option<String>,
    /// The coordinator's `store.region`.
    #[arg(long = "store-region", value_name = "NAME", requires = "url")]
    pub(crate) region: Option<String>,
}

/// Where a worker keeps catalogs.
#[derive(Debug, Args)]
pub(crate) struct Cache {
    /// Folder for catalogs, shared by the workers of a host; default is `riser` in the user's cache folder.
    #[arg(long = "cache", value_name = "FOLDER")]
    pub(crate) folder: Option<PathBuf>,
    /// Keeps nothing on the disk; every start fetches the catalog anew.
    #[arg(long = "no-cache", conflicts_with = "folder")]
    pub(crate) off: bool,
    /// Mebibytes that the folder may hold; what was not used for longest goes first.
    #[arg(long = "cache-size", value_name = "MIB", default_value_t = 4096)]
    pub(crate) mebibytes: u64,
}

/// Certificate files of a process that no configuration names.
#[derive(Debug, Args)]
pub(crate) struct Certificates {
    /// Certificate of the authority that signed the coordinator's and the learner's certificate.
    #[arg(long, value_name = "FILE", requires_all = ["cert", "key"])]
    ca: Option<PathBuf>,
    /// Certificate of this process.
    #[arg(long, value_name = "FILE", requires = "ca")]
    cert: Option<PathBuf>,
    /// Private key of this process.
    #[arg(long, value_name = "FILE", requires = "ca")]
    key: Option<PathBuf>,
    /// Believes a certificate that names no role to be that of any role, as `cluster.certificates_without_roles` does.
    #[arg(long, requires = "ca")]
    certificates_without_roles: bool,
}

impl Certificates {
    /// All three, or nothing.
    pub(crate) fn files(&self) -> Option<CertificateFiles> {
        let Self { ca: Some(ca), cert: Some(cert), key: Some(key), certificates_without_roles: without_roles } = self
        else {
            return None;
        };
        let (ca, cert, key) = (ca.clone(), cert.clone(), key.clone());
        Some(CertificateFiles { ca, cert, key, without_roles: *without_roles })
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    riser health http://localhost:7470\n  \
    riser health https://localhost:7471 --ca certs/ca.pem --cert certs/learner.pem --key certs/learner.key\n\n\
    Exit status: 0 it is ready, 1 it is not ready yet or does not answer. A coordinator is ready when it listens, a learner \
    when the coordinator knows of it. No token is needed.")]
pub(crate) struct Health {
    /// Where it listens: http://HOST:PORT, or https://HOST:PORT with certificates.
    #[arg(value_name = "URL")]
    pub(crate) server: String,
    #[command(flatten)]
    pub(crate) certificates: Certificates,
    /// An answer is enough, whatever it says: for a probe that restarts a process that hangs.
    #[arg(long)]
    pub(crate) alive: bool,
    /// Seconds that it may take to answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    pub(crate) timeout: u64,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    riser certs certs --host coordinator.example --host learner.example\n  \
    riser certs certs --host 10.0.0.1\n\n\
    Every host gets the whole configuration but only its own role's key: coordinator.pem and coordinator.key, learner.pem \
    and learner.key, worker.pem and worker.key, each with ca.pem; whoever runs `riser status` and `riser top` gets \
    watcher.pem and watcher.key, whoever runs `riser catalog` operator.pem and operator.key. ca.key signs further certificates; keep it elsewhere.\n\n\
    A certificate is for one role, which its subject alternative name says as a URI: riser:role:coordinator, \
    riser:role:learner, riser:role:worker, riser:role:watcher or riser:role:operator. Your own files do as well, under the same names, if they \
    have such a name; `cluster.certificates_without_roles` is for authorities that cannot write one.")]
pub(crate) struct Certs {
    /// Folder to write; files that are there are never overwritten.
    pub(crate) folder: PathBuf,
    /// Name or address that the coordinator or the learner is reached at; repeatable. localhost is always included.
    #[arg(long = "host", value_name = "NAME")]
    pub(crate) hosts: Vec<String>,
}
