//! Arguments of the roles as processes of their own, and of the certificates they show each other.

use super::Settings;
use clap::Args;
use std::net::SocketAddr;
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
    --ca certs/ca.pem --cert certs/worker.pem --key certs/worker.key\n\n\
    The environment variable RISER_TOKEN does as well as --token-file. SIGTERM or Ctrl-C finishes the lease in hand and \
    ends with status 0; the second one ends at once, which costs the run nothing but the lease's time.")]
pub(crate) struct Worker {
    #[command(flatten)]
    pub(crate) contact: Contact,
    /// Seconds for which a coordinator or learner that is away is tried again.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub(crate) patience: u64,
    /// Address and port to show Prometheus metrics at, as in 127.0.0.1:9472.
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics: Option<SocketAddr>,
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
    /// Certificate of the authority that signed the coordinator's and the learner's certificate.
    #[arg(long, value_name = "FILE", requires_all = ["cert", "key"])]
    pub(crate) ca: Option<PathBuf>,
    /// Own certificate; a worker's does.
    #[arg(long, value_name = "FILE", requires = "ca")]
    pub(crate) cert: Option<PathBuf>,
    /// Own private key.
    #[arg(long, value_name = "FILE", requires = "ca")]
    pub(crate) key: Option<PathBuf>,
    /// Talks to other machines without certificates and without a token.
    #[arg(long)]
    pub(crate) plaintext: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    riser status --coordinator http://127.0.0.1:7470\n  \
    riser status --coordinator https://coordinator.example:7470 \\\n      \
    --ca certs/ca.pem --cert certs/worker.pem --key certs/worker.key --format json")]
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
#[command(after_help = "Examples:\n  \
    riser certs certs --host coordinator.example --host learner.example\n  \
    riser certs certs --host 10.0.0.1\n\n\
    Every host gets the whole configuration but only its own role's key: coordinator.pem and coordinator.key, learner.pem \
    and learner.key, worker.pem and worker.key, each with ca.pem. ca.key signs further certificates; keep it elsewhere. \
    Your own files do as well, under the same names.")]
pub(crate) struct Certs {
    /// Folder to write; files that are there are never overwritten.
    pub(crate) folder: PathBuf,
    /// Name or address that the coordinator or the learner is reached at; repeatable. localhost is always included.
    #[arg(long = "host", value_name = "NAME")]
    pub(crate) hosts: Vec<String>,
}
