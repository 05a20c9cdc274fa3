//! The object store of a run, a host of the network like others: requests take time, get lost before or after they are
//! carried out, and are carried out whatever has become of whoever sent them. What it has acknowledged it keeps.

use super::{host::Host, network::Network, trace::Trace};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, memory::InMemory, path::Path,
};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use riser_core::random::Seed;
use std::{
    collections::BTreeMap,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex},
};
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};

/// Share of requests that fail without a reason.
const FAILING: f64 = 0.03;

/// The store as everybody shares it; cheap to clone.
#[derive(Clone)]
pub(crate) struct Objects {
    seed: Seed,
    network: Network,
    trace: Trace,
    inner: Arc<InMemory>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    requests: u64,
    /// Reasons for which everything is refused.
    outages: u32,
    /// What was committed first, by name.
    committed: BTreeMap<Path, blake3::Hash>,
}

/// The store as one host sees it.
#[derive(Clone)]
pub(crate) struct View {
    objects: Objects,
    from: Host,
    /// Whether answers come at once, for a caller who is not on the simulated clock.
    is_instant: bool,
}

impl Objects {
    pub(crate) fn new(seed: Seed, network: &Network, trace: &Trace) -> Self {
        let (network, trace) = (network.clone(), trace.clone());
        Self { seed, network, trace, inner: Arc::default(), state: Arc::default() }
    }

    pub(crate) fn seen_from(&self, from: Host, is_instant: bool) -> View {
        View { objects: self.clone(), from, is_instant }
    }

    pub(crate) fn begin_outage(&self) {
        self.state.lock().unwrap().outages += 1;
    }

    pub(crate) fn end_outage(&self) {
        self.state.lock().unwrap().outages -= 1;
    }

    /// A manifest is the commit of a version, so it is put only if absent.
    fn check(&self, location: &Path, payload: &PutPayload, mode: &PutMode) {
        if location.extension() != Some("json") {
            return;
        }
        if !matches!(mode, PutMode::Create) {
            self.trace.violation(format_args!("{location} may be put over another"));
        }
        let content = payload.iter().fold(blake3::Hasher::new(), |mut all, part| {
            all.update(part);
            all
        });
        let (content, mut state) = (content.finalize(), self.state.lock().unwrap());
        // One that nobody needs any more was removed, and a learner that does not know it may bring its own.
        let is_newest = state.committed.last_key_value().is_none_or(|(newest, _)| newest <= location);
        if *state.committed.entry(location.clone()).or_insert(content) != content && is_newest {
            self.trace.violation(format_args!("{location} is committed a second time with other content"));
        }
    }
}

fn fails(what: &'static str) -> Error {
    Error::Generic { store: "simulated", source: what.into() }
}

impl View {
    /// Carries a request out.
    async fn ask<T, F>(&self, what: String, work: impl FnOnce(Arc<InMemory>) -> F + Send + 'static) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let this = self.clone();
        let request = async move {
            let Objects { seed, network, trace, inner, state } = this.objects.clone();
            let (number, is_away) = {
                let mut state = state.lock().unwrap();
                state.requests += 1;
                (state.requests, state.outages > 0)
            };
            let mut draws: ChaCha8Rng = seed.stream("request", &[number]);
            this.travel(&network, this.from, Host::STORE, &mut draws).await?;
            if is_away || draws.random_bool(FAILING) {
                return Err(fails("not available"));
            }
            let done = work(inner).await;
            if !this.is_instant {
                trace.note("store", format_args!("{what} {}", done.is_ok()));
            }
            this.travel(&network, Host::STORE, this.from, &mut draws).await?;
            if draws.random_bool(FAILING) { Err(fails("the answer is lost")) } else { done }
        };
        // A task of its own: what was sent arrives, even if its sender is gone.
        tokio::spawn(request).await.unwrap()
    }

    async fn travel(&self, network: &Network, from: Host, to: Host, draws: &mut ChaCha8Rng) -> Result<()> {
        match self.is_instant {
            true if network.is_blocked(from, to) => Err(fails("cut off")),
            true => Ok(()),
            false => {
                network.pass(from, to, draws).await;
                Ok(())
            }
        }
    }
}

impl fmt::Debug for View {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("simulated store")
    }
}

impl fmt::Display for View {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("simulated store")
    }
}

type Items<T> = Pin<Box<dyn Stream<Item = Result<T>> + Send>>;

#[tonic::async_trait]
impl ObjectStore for View {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let (to, objects) = (location.clone(), self.objects.clone());
        let work = move |inner: Arc<InMemory>| async move {
            let (copy, mode) = (payload.clone(), opts.mode.clone());
            let put = inner.put_opts(&to, payload, opts).await;
            if put.is_ok() {
                objects.check(&to, &copy, &mode);
            }
            put
        };
        self.ask(format!("put {location}"), work).await
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        unreachable!("the files of a simulated run are small")
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let from = location.clone();
        self.ask(format!("get {location}"), move |inner| async move { inner.get_opts(&from, options).await }).await
    }

    fn delete_stream(&self, locations: Items<Path>) -> Items<Path> {
        let this = self.clone();
        Box::pin(locations.then(move |location| {
            let this = this.clone();
            async move {
                let location = location?;
                let gone = location.clone();
                this.ask(format!("delete {location}"), move |inner| async move { inner.delete(&gone).await }).await?;
                Ok(location)
            }
        }))
    }

    fn list(&self, prefix: Option<&Path>) -> Items<ObjectMeta> {
        let (this, prefix) = (self.clone(), prefix.cloned());
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            let listing = this.ask("list".to_owned(), move |inner| async move {
                let mut all = vec![];
                let mut listing = inner.list(prefix.as_ref());
                while let Some(meta) = listing.next().await {
                    all.push(meta?);
                }
                Ok(all)
            });
            let all = match listing.await {
                Ok(all) => all.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            };
            for meta in all {
                if sender.send(meta).await.is_err() {
                    return;
                }
            }
        });
        Box::pin(ReceiverStream::new(receiver))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let prefix = prefix.cloned();
        let work = move |inner: Arc<InMemory>| async move { inner.list_with_delimiter(prefix.as_ref()).await };
        self.ask("list".to_owned(), work).await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        unreachable!("nobody copies")
    }
}
