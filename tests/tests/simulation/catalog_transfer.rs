//! The catalog's way to a worker: whatever breaks on it, the tree arrives, and nothing arrives twice.

use crate::{
    hash_policy,
    network::{Incoming, Rebootable},
    scenario::{SEED, Scenario, patience, prompts},
};
use bytes::Bytes;
use riser_coordinator::{catalog::CatalogService, catalogs::RunData, reception::Reception};
use riser_core::{catalog::CatalogCache, digest::Digest, ids::WorkerId, prefix_tree::PrefixTree};
use riser_proto::{
    access::{Access, Token, Tokens},
    catalog::CatalogFile,
    channel::{Channel, Pass},
    transport,
    v1::{self, catalog_server::Catalog},
};
use riser_rollout_worker::{
    WorkerConfig, WorkerError,
    catalog::{Fetched, Mirror, Mirrored, Sources, fetch},
};
use std::{
    collections::HashMap,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};

/// A catalog of some forty chunks.
fn file() -> (PrefixTree, CatalogFile) {
    // Items of many lengths in no order, so that no two chunks are alike.
    let path = |item: u32| {
        let middle = (0..1 + item % 8).map(move |place| item.wrapping_mul(0x9e37_79b1) >> place);
        std::iter::once(1 + item % 7).chain(middle).chain([0]).collect()
    };
    let paths: Vec<Vec<u32>> = (0..1400).map(path).collect();
    let tree = PrefixTree::build(&paths).unwrap();
    let file = CatalogFile::cut(&tree, 1 << 10);
    assert!((40..60).contains(&file.manifest().num_chunks()));
    (tree, file)
}

/// What a server does to the n-th chunk that it is asked for.
type Fault = Arc<dyn Fn(usize, v1::CatalogChunk) -> v1::CatalogChunk + Send + Sync>;

/// A coordinator that keeps a list of what it was asked for, and sends as many chunks as it has permits.
#[derive(Clone)]
struct Server {
    inner: CatalogService,
    asked: Arc<Mutex<Vec<Digest>>>,
    permits: Arc<Semaphore>,
    fault: Fault,
}

impl Server {
    fn new(file: CatalogFile) -> Self {
        let permits = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
        Self { inner: CatalogService::new(file), asked: Arc::default(), permits, fault: Arc::new(|_, chunk| chunk) }
    }

    /// One that falls silent after some chunks.
    fn silent_after(self, chunks: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(chunks)), ..self }
    }

    fn with_fault(self, fault: impl Fn(usize, v1::CatalogChunk) -> v1::CatalogChunk + Send + Sync + 'static) -> Self {
        Self { fault: Arc::new(fault), ..self }
    }

    fn num_asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    fn serve(&self, incoming: Incoming) -> JoinHandle<()> {
        let service = transport::catalog_server(self.clone());
        tokio::spawn(async move {
            let _ = transport::server().add_service(service).serve_with_incoming(incoming).await;
        })
    }
}

#[tonic::async_trait]
impl Catalog for Server {
    async fn describe(
        &self,
        request: Request<v1::DescribeCatalogRequest>,
    ) -> Result<Response<v1::CatalogManifest>, Status> {
        self.inner.describe(request).await
    }

    async fn fetch(&self, request: Request<v1::FetchChunkRequest>) -> Result<Response<v1::CatalogChunk>, Status> {
        let place = {
            let mut asked = self.asked.lock().unwrap();
            asked.push(Digest::from_bytes(&request.get_ref().digest).unwrap());
            asked.len() - 1
        };
        self.permits.acquire().await.unwrap().forget();
        Ok(self.inner.fetch(request).await?.map(|chunk| (self.fault)(place, chunk)))
    }
}

fn config() -> WorkerConfig {
    WorkerConfig { patience: patience(), ..WorkerConfig::new(WorkerId(1)) }
}

fn cache(folder: &Path, max_bytes: u64) -> CatalogCache {
    CatalogCache::open(folder, max_bytes, || SystemTime::UNIX_EPOCH + Duration::from_secs(1)).unwrap()
}

/// A transfer from a server of its own.
async fn transfer(server: &Server, cache: Option<CatalogCache>) -> Result<Fetched, WorkerError> {
    transfer_with(server, Sources { cache, mirror: None }).await
}

async fn transfer_with(server: &Server, sources: Sources) -> Result<Fetched, WorkerError> {
    let network = Rebootable::default();
    let serving = server.serve(network.boot());
    let fetched = fetch(&config(), network.connect().into(), sources, None).await;
    serving.abort();
    fetched
}

#[tokio::test(start_paused = true)]
async fn a_second_start_of_a_worker_transfers_nothing_and_maps_the_same_tree() {
    let folder = tempfile::tempdir().unwrap();
    let (tree, file) = file();
    let (total, server) = (file.manifest().total_bytes(), Server::new(file));
    let cache = cache(folder.path(), 1 << 20);
    let first = transfer(&server, Some(cache.clone())).await.unwrap();
    assert_eq!((first.bytes, first.tree.to_bytes()), (total, tree.to_bytes()));
    let asked = server.num_asked();
    let second = transfer(&server, Some(cache)).await.unwrap();
    assert_eq!((second.bytes, server.num_asked()), (0, asked));
    assert_eq!(second.tree.to_bytes(), tree.to_bytes());
    let third = transfer(&server, None).await.unwrap();
    assert_eq!((third.bytes, third.tree.to_bytes()), (total, tree.to_bytes()));
}

#[test]
fn a_worker_that_is_killed_in_the_middle_fetches_only_what_it_had_not() {
    let folder = tempfile::tempdir().unwrap();
    let (tree, file) = file();
    let (total, manifest) = (file.manifest().total_bytes(), file.manifest().clone());
    let cache = cache(folder.path(), 1 << 20);
    let run = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let killed = run();
    let server = Server::new(file.clone()).silent_after(17);
    killed.block_on(async {
        let (config, network) = (config(), Rebootable::default());
        let sources = Sources { cache: Some(cache.clone()), mirror: None };
        server.serve(network.boot());
        let has_all = async {
            while std::fs::read_dir(folder.path()).unwrap().filter(is_chunk).count() < 17 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            fetched = fetch(&config, network.connect().into(), sources, None) => panic!("{fetched:?}"),
            () = has_all => {}
        }
    });
    drop(killed);
    let server = Server::new(file);
    let fetched = run().block_on(transfer(&server, Some(cache))).unwrap();
    // All chunks but the last one are of one size.
    assert_eq!(server.num_asked(), manifest.num_chunks() - 17);
    assert_eq!((fetched.bytes, fetched.tree.to_bytes()), (total - 17 * 1024, tree.to_bytes()));
}

fn is_chunk(entry: &std::io::Result<std::fs::DirEntry>) -> bool {
    entry.as_ref().is_ok_and(|entry| entry.path().extension().is_some_and(|extension| extension == "chunk"))
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_dies_in_the_middle_is_gone_on_with_after_its_restart() {
    for with_cache in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let (tree, file) = file();
        let total = file.manifest().total_bytes();
        let (first, second) = (Server::new(file.clone()).silent_after(20), Server::new(file));
        let network = Rebootable::default();
        first.serve(network.boot());
        let cache = with_cache.then(|| cache(folder.path(), 1 << 20));
        let (channel, dying) = (network.connect(), first.clone());
        let fetching =
            tokio::spawn(async move { fetch(&config(), channel.into(), Sources { cache, mirror: None }, None).await });
        // It owes several chunks by now, and will not send them.
        while dying.num_asked() < 25 {
            tokio::task::yield_now().await;
        }
        second.serve(network.boot());
        let fetched = fetching.await.unwrap().unwrap();
        assert_eq!((fetched.bytes, fetched.tree.to_bytes()), (total, tree.to_bytes()), "with cache: {with_cache}");
        assert!(second.num_asked() > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_chunk_is_asked_for_again_and_a_coordinator_that_sends_nothing_else_is_not_believed() {
    let (tree, file) = file();
    let (total, num_chunks) = (file.manifest().total_bytes(), file.manifest().num_chunks());
    let flip = |mut chunk: v1::CatalogChunk| {
        let mut data = chunk.data.to_vec();
        data[100] ^= 1;
        chunk.data = data.into();
        chunk
    };
    let once = Server::new(file.clone()).with_fault(move |place, chunk| if place == 5 { flip(chunk) } else { chunk });
    let fetched = transfer(&once, None).await.unwrap();
    assert_eq!((fetched.bytes, once.num_asked()), (total + 1024, num_chunks + 1));
    assert_eq!(fetched.tree.to_bytes(), tree.to_bytes());

    let folder = tempfile::tempdir().unwrap();
    let always = Server::new(file.clone()).with_fault(move |_, chunk| flip(chunk));
    let error = transfer(&always, Some(cache(folder.path(), 1 << 20))).await.unwrap_err();
    assert!(
        error.to_string().starts_with("message from the coordinator: chunk 0 of the catalog has digest"),
        "{error}"
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_cannot_be_written_or_is_too_small_costs_the_next_transfer_and_nothing_else() {
    let (tree, file) = file();
    let (total, server) = (file.manifest().total_bytes(), Server::new(file));
    let gone = tempfile::tempdir().unwrap();
    let away = cache(&gone.path().join("cache"), 1 << 20);
    gone.close().unwrap();
    let folder = tempfile::tempdir().unwrap();
    // Large enough for any chunk and for half of the tree; and too small even for a chunk.
    for cache in [away, cache(folder.path(), total), cache(folder.path(), 1000)] {
        for _ in 0..2 {
            let fetched = transfer(&server, Some(cache.clone())).await.unwrap();
            assert_eq!((fetched.bytes, fetched.tree.to_bytes()), (total, tree.to_bytes()));
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn workers_that_fetch_at_once_into_one_cache_all_get_the_tree() {
    let folder = tempfile::tempdir().unwrap();
    let (tree, file) = file();
    let server = Server::new(file);
    let start = || {
        let (server, cache) = (server.clone(), cache(folder.path(), 1 << 20));
        tokio::spawn(async move { transfer(&server, Some(cache)).await })
    };
    for worker in [start(), start(), start(), start()] {
        assert_eq!(worker.await.unwrap().unwrap().tree.to_bytes(), tree.to_bytes());
    }
    assert_eq!(transfer(&server, Some(cache(folder.path(), 1 << 20))).await.unwrap().bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_catalog_is_handed_out_by_the_coordinator_to_nobody_without_the_join_token() {
    let token = Token::new("0123456789abcdef").unwrap();
    let access = Access { tokens: Some(Tokens::common(token.clone())), ..Access::default() };
    let reception = Reception { access, strangers: None };
    let network = Rebootable::default();
    let (incoming, schedule, stop) = (network.boot(), Scenario::new(0, 1).schedule(1), CancellationToken::new());
    let serving = stop.clone();
    let coordinator = tokio::spawn(async move {
        let (log, tree) = (mpsc::channel(1).0, hash_policy::tree());
        let data = RunData::fixed(prompts(), &tree);
        riser_coordinator::serve(schedule, SEED, data, reception, incoming, log, serving).await
    });
    let refused = fetch(&config(), network.connect().into(), Sources::default(), None).await.unwrap_err();
    assert!(
        matches!(&refused, WorkerError::Coordinator(status) if status.code() == Code::Unauthenticated),
        "{refused}"
    );
    let channel = Channel::from(network.connect()).with_pass(Pass::default().with_token(&token));
    let fetched = fetch(&config(), channel, Sources::default(), None).await.unwrap();
    assert_eq!(fetched.tree.digest(), hash_policy::tree().digest());
    stop.cancel();
    coordinator.await.unwrap().unwrap();
}

/// A mirror that has what is in it.
#[derive(Debug, Clone)]
struct Chunks {
    held: HashMap<Digest, Bytes>,
    answers: bool,
    asked: Arc<Mutex<usize>>,
}

impl Chunks {
    fn of(file: &CatalogFile) -> Self {
        Self { held: file.chunks().collect(), answers: true, asked: Arc::default() }
    }

    fn source(&self) -> Sources {
        Sources { cache: None, mirror: Some(Arc::new(self.clone())) }
    }
}

impl Mirror for Chunks {
    fn chunk(&self, digest: Digest, _len: u64) -> Pin<Box<dyn Future<Output = Mirrored> + Send + '_>> {
        *self.asked.lock().unwrap() += 1;
        let found = if self.answers { Ok(self.held.get(&digest).cloned()) } else { Err("gone fishing".into()) };
        Box::pin(async move { found })
    }
}

#[tokio::test(start_paused = true)]
async fn a_mirror_relieves_the_coordinator_of_every_chunk_that_it_has_intact() {
    let (tree, file) = file();
    let (total, server) = (file.manifest().total_bytes(), Server::new(file.clone()));
    let whole = Chunks::of(&file);
    let fetched = transfer_with(&server, whole.source()).await.unwrap();
    assert_eq!((fetched.bytes, server.num_asked(), fetched.tree.to_bytes()), (0, 0, tree.to_bytes()));

    let mut holed = whole.clone();
    let [missing, damaged] = [3, 8].map(|index| file.manifest().chunk(index).digest);
    holed.held.remove(&missing);
    holed.held.insert(damaged, Bytes::from_static(b"noise"));
    let fetched = transfer_with(&server, holed.source()).await.unwrap();
    assert_eq!((fetched.bytes, fetched.tree.to_bytes()), (2 * 1024, tree.to_bytes()));
    assert_eq!(*server.asked.lock().unwrap(), [missing, damaged]);

    let away = Chunks { answers: false, asked: Arc::default(), ..whole };
    let fetched = transfer_with(&server, away.source()).await.unwrap();
    assert_eq!((fetched.bytes, fetched.tree.to_bytes()), (total, tree.to_bytes()));
    // Those on their way at the first failure, and no more.
    assert!(*away.asked.lock().unwrap() <= 8, "{away:?}");
}
