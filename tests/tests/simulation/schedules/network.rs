//! A network between hosts that carries real gRPC: connections with delays of their own, links that hold back what is sent
//! over them, and hosts that vanish. TCP as its users see it: bytes of a connection arrive in order or not at all, and what
//! a partition holds back arrives after it, unless the connection has been given up.

use super::{host::Host, trace::Trace};
use hyper_util::rt::TokioIo;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use riser_core::random::Seed;
use riser_proto::transport;
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex, MutexGuard, Weak},
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

pub(crate) use super::connection::End;
use super::connection::{Connection, Ends};

/// Connections that may wait to be accepted.
const BACKLOG: usize = 64;

/// Connections as they arrive at a server.
pub(crate) type Incoming = ReceiverStream<io::Result<End>>;

/// The network; cheap to clone.
#[derive(Clone)]
pub(crate) struct Network {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) trace: Trace,
    seed: Seed,
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    links: BTreeMap<(Host, Host), Link>,
    listeners: BTreeMap<Host, Listener>,
    /// Hosts that are gone without a word.
    dark: BTreeSet<Host>,
    connections: Vec<Weak<Connection>>,
    num_connections: u64,
    /// Names that lead to other hosts than they used to.
    moved: BTreeMap<Host, Host>,
}

struct Listener {
    port: u16,
    arrivals: mpsc::Sender<io::Result<End>>,
}

/// One direction between two hosts.
#[derive(Clone, Copy)]
struct Link {
    /// Usual time on the way.
    delay: Duration,
    /// Makes the link slower.
    slowness: u32,
    /// Reasons for which nothing gets through.
    blocks: u32,
}

impl Network {
    /// A network whose delays are drawn from `seed`.
    pub(crate) fn new(seed: Seed, trace: Trace) -> Self {
        let shared = Shared { trace, seed, state: Mutex::default(), changed: watch::Sender::new(()) };
        Self { shared: Arc::new(shared) }
    }

    /// Connections that arrive at `port` of `host`, whose earlier server is gone.
    pub(crate) fn listen(&self, host: Host, port: u16) -> Incoming {
        let (arrivals, incoming) = mpsc::channel(BACKLOG);
        self.state().listeners.insert(host, Listener { port, arrivals });
        ReceiverStream::new(incoming)
    }

    /// A channel between two hosts, connected when it is first used and again when it must.
    pub(crate) fn channel(&self, from: Host, to: Host, port: u16) -> Channel {
        let network = self.clone();
        let connector = tower::service_fn(move |_| {
            let network = network.clone();
            async move { network.connect(from, to, port).await.map(TokioIo::new) }
        });
        transport::endpoint(Endpoint::from_static("http://simulated")).connect_with_connector_lazy(connector)
    }

    async fn connect(&self, from: Host, to: Host, port: u16) -> io::Result<End> {
        let (number, to) = {
            let mut state = self.state();
            state.num_connections += 1;
            (state.num_connections, state.moved.get(&to).copied().unwrap_or(to))
        };
        // Each attempt has delays of its own, so connections overtake each other.
        let mut draws = self.shared.seed.stream("connect", &[number]);
        self.pass(from, to, &mut draws).await;
        let (is_dark, arrivals) = self.look_up(to, port);
        if is_dark {
            return std::future::pending().await;
        }
        let end = arrivals.and_then(|arrivals| {
            let Ends { near, far } = Connection::between(&self.shared, number, from, to);
            arrivals.try_send(Ok(far)).is_ok().then_some(near)
        });
        self.shared.trace.note("connect", format_args!("{number} {from} {to} {}", end.is_some()));
        self.pass(to, from, &mut draws).await;
        let end = end.ok_or(io::ErrorKind::ConnectionRefused)?;
        self.state().connections.retain(|connection| connection.strong_count() > 0);
        Ok(end)
    }

    /// Whether a host is gone without a word, and who listens at a port of it.
    fn look_up(&self, host: Host, port: u16) -> (bool, Option<mpsc::Sender<io::Result<End>>>) {
        let state = self.state();
        let listener = state.listeners.get(&host).filter(|listener| listener.port == port);
        (state.dark.contains(&host), listener.map(|listener| listener.arrivals.clone()))
    }

    /// Waits as long as a packet takes.
    pub(crate) async fn pass(&self, from: Host, to: Host, draws: &mut ChaCha8Rng) {
        let mut changed = self.shared.changed.subscribe();
        tokio::time::sleep(self.shared.delay(from, to, draws)).await;
        while self.shared.is_blocked(from, to) {
            changed.changed().await.expect("the network lives as long as whoever waits for it");
        }
    }

    /// Whether nothing gets from `from` to `to` at this moment.
    pub(crate) fn is_blocked(&self, from: Host, to: Host) -> bool {
        self.shared.is_blocked(from, to)
    }

    /// Nothing gets from `from` to `to` until it is unblocked as often.
    pub(crate) fn block(&self, from: Host, to: Host) {
        self.state().link(&self.shared, from, to).blocks += 1;
    }

    /// Takes one block away.
    pub(crate) fn unblock(&self, from: Host, to: Host) {
        let connections = {
            let mut state = self.state();
            state.link(&self.shared, from, to).blocks -= 1;
            state.live()
        };
        self.shared.changed.send_replace(());
        connections.iter().for_each(|connection| connection.wake());
    }

    /// From now on whoever connects to `host` by its name gets to `other`; connections stay where they are.
    pub(crate) fn lead(&self, host: Host, other: Host) {
        self.state().moved.insert(host, other);
    }

    /// Makes a link `slowness` times as slow as usual.
    pub(crate) fn slow(&self, from: Host, to: Host, slowness: u32) {
        self.state().link(&self.shared, from, to).slowness = slowness;
    }

    /// Resets every connection between two hosts; what is under way is lost.
    pub(crate) fn cut(&self, one: Host, other: Host) {
        let connections = self.state().live();
        let between = connections.iter().filter(|connection| connection.is_between(one, other));
        between.for_each(|connection| connection.reset());
    }

    /// The process of `host` is gone. Its connections are reset, or, if it goes `dark`, nobody else hears of it.
    pub(crate) fn kill(&self, host: Host, dark: bool) {
        let connections = {
            let mut state = self.state();
            state.listeners.remove(&host);
            if dark {
                state.dark.insert(host);
            }
            state.live()
        };
        for connection in connections.iter().filter(|connection| connection.is_of(host)) {
            if dark { connection.darken(host) } else { connection.reset() }
        }
    }

    /// `host` answers again, if only to say that it knows of no connection.
    pub(crate) fn revive(&self, host: Host) {
        let connections = {
            let mut state = self.state();
            state.dark.remove(&host);
            state.live()
        };
        connections.iter().filter(|connection| connection.is_dark(host)).for_each(|connection| connection.reset());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }
}

impl State {
    fn link(&mut self, shared: &Shared, from: Host, to: Host) -> &mut Link {
        self.links.entry((from, to)).or_insert_with(|| {
            let mut draws = shared.seed.stream("link", &[from.0.into(), to.0.into()]);
            // From a rack to across the world.
            let delay = Duration::from_secs_f64(10_f64.powf(draws.random_range(-4.0..-1.0)));
            Link { delay, slowness: 1, blocks: 0 }
        })
    }

    fn live(&self) -> Vec<Arc<Connection>> {
        self.connections.iter().filter_map(Weak::upgrade).collect()
    }
}

impl Shared {
    pub(crate) fn add(&self, connection: &Arc<Connection>) {
        self.state.lock().unwrap().connections.push(Arc::downgrade(connection));
    }

    pub(crate) fn is_blocked(&self, from: Host, to: Host) -> bool {
        self.state.lock().unwrap().link(self, from, to).blocks > 0
    }

    /// How long the next packet takes.
    pub(crate) fn delay(&self, from: Host, to: Host, draws: &mut ChaCha8Rng) -> Duration {
        let link = *self.state.lock().unwrap().link(self, from, to);
        link.delay.mul_f64(draws.random_range(0.5..2.0)) * link.slowness
    }

    /// Draws of one end of a connection.
    pub(crate) fn draws(&self, connection: u64, side: usize) -> ChaCha8Rng {
        self.seed.stream("end", &[connection, side as u64])
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::now()
    }
}
