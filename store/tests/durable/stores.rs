//! Stores to test with, among them a server that speaks S3 on a loopback socket and can be told to misbehave.

use hyper::{Request, Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use object_store::{memory::InMemory, path::Path as ObjectPath};
use riser_store::{DurableStore, Location, durable::Transfer};
use s3s::{Body, HttpError, auth::SimpleAuth, service::S3ServiceBuilder};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tempfile::TempDir;
use tokio::net::TcpListener;

const KEY: &str = "test-key";
const SECRET: &str = "test-secret";
const BUCKET: &str = "riser-bucket";

/// A kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Memory,
    Folder,
    S3,
}

/// An empty store of some kind, with what keeps it alive.
pub(crate) struct Opened {
    pub(crate) store: DurableStore,
    pub(crate) folder: Option<TempDir>,
    _server: Option<Server>,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Memory, Self::Folder, Self::S3];

    /// Parts as small as S3 allows.
    pub(crate) const TRANSFER: Transfer =
        Transfer { patience: Duration::from_secs(30), part_bytes: 5 << 20, parallel_parts: 2 };

    pub(crate) async fn open(self) -> Opened {
        match self {
            Self::Memory => {
                let store = DurableStore::on(Arc::new(InMemory::new()), ObjectPath::from("runs"), Self::TRANSFER);
                Opened { store, folder: None, _server: None }
            }
            Self::Folder => {
                let folder = tempfile::tempdir().unwrap();
                let url = format!("file://{}/runs", folder.path().display());
                let location = Location { url, transfer: Self::TRANSFER, ..Location::default() };
                let store = DurableStore::connect(&location).unwrap();
                Opened { store, folder: Some(folder), _server: None }
            }
            Self::S3 => {
                let server = Server::start().await;
                let store = DurableStore::connect(&server.location()).unwrap();
                Opened { store, folder: None, _server: Some(server) }
            }
        }
    }
}

#[derive(Debug, Default)]
struct Behaviour {
    requests: Vec<String>,
    failures: usize,
    fail_every: Option<usize>,
    lose_answers_to: Option<String>,
}

/// An S3 server in this process over a temporary folder.
pub(crate) struct Server {
    address: SocketAddr,
    behaviour: Arc<Mutex<Behaviour>>,
    task: tokio::task::JoinHandle<()>,
    _root: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let s3 = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let behaviour = Arc::new(Mutex::new(Behaviour::default()));
        let shared = behaviour.clone();
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (s3, behaviour) = (s3.clone(), shared.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let (s3, behaviour) = (s3.clone(), behaviour.clone());
                    async move {
                        let (fails_before, fails_after) = behaviour.lock().unwrap().judge(&request);
                        if fails_before {
                            return Ok::<_, HttpError>(unavailable());
                        }
                        let answer = s3.call(request.map(Body::from)).await?;
                        Ok(if fails_after { unavailable() } else { answer })
                    }
                });
                let connection = async move {
                    let _ =
                        auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await;
                };
                tokio::spawn(connection);
            }
        });
        Self { address, behaviour, task, _root: root }
    }

    /// Where the server is, with the right credentials.
    pub(crate) fn location(&self) -> Location {
        let options = [("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", SECRET), ("HOME", "/nowhere")];
        Location {
            url: format!("s3://{BUCKET}/runs"),
            endpoint: Some(format!("http://{}", self.address)),
            region: Some("eu-central-1".to_owned()),
            options: options.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            transfer: Kind::TRANSFER,
        }
    }

    /// Every `n`th request from now on fails.
    pub(crate) fn fail_every(&self, n: usize) {
        self.behaviour.lock().unwrap().fail_every = Some(n);
    }

    /// The first write of an object with this name is carried out and then answered as if it had failed.
    pub(crate) fn lose_answers_to(&self, name: &str) {
        self.behaviour.lock().unwrap().lose_answers_to = Some(name.to_owned());
    }

    /// Method and path of every request so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.behaviour.lock().unwrap().requests.clone()
    }

    /// Requests that were made to fail.
    pub(crate) fn failures(&self) -> usize {
        self.behaviour.lock().unwrap().failures
    }
}

impl Behaviour {
    /// Whether a request fails before or after it is carried out.
    fn judge(&mut self, request: &Request<Incoming>) -> (bool, bool) {
        let line = format!("{} {}", request.method(), request.uri());
        self.requests.push(line.clone());
        let before = self.fail_every.is_some_and(|n| self.requests.len().is_multiple_of(n));
        let is_lost = |name: &mut String| line.starts_with("PUT") && line.contains(name.as_str());
        let after = self.lose_answers_to.take_if(is_lost).is_some();
        self.failures += usize::from(before || after);
        (before, after)
    }
}

fn unavailable() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}
