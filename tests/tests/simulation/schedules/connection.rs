//! One connection: two flows of bytes, each with what is under way.

use super::{host::Host, network::Shared};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};
use tonic::transport::server::Connected;

/// Bytes that may be under way in each direction.
const WINDOW: usize = 256 << 10;

/// Most bytes that travel together.
const SEGMENT: usize = 16 << 10;

pub(crate) struct Connection {
    number: u64,
    hosts: [Host; 2],
    wire: Mutex<Wire>,
}

#[derive(Default)]
struct Wire {
    /// Flow `i` leads away from host `i`.
    flows: [Flow; 2],
    is_reset: bool,
    /// The side whose host vanished.
    dark: Option<usize>,
}

#[derive(Default)]
struct Flow {
    under_way: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    /// When the last byte arrives.
    last: Option<Instant>,
    /// When the sender's goodbye arrives.
    end: Option<Instant>,
    /// Nobody is there to read it.
    is_unread: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// Both ends of a new connection.
pub(crate) struct Ends {
    pub(crate) near: End,
    pub(crate) far: End,
}

/// One end.
pub(crate) struct End {
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    side: usize,
    draws: ChaCha8Rng,
    timer: Pin<Box<Sleep>>,
}

impl Flow {
    fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }
}

impl Connection {
    /// A connection that `from` has made to `to`.
    pub(crate) fn between(shared: &Arc<Shared>, number: u64, from: Host, to: Host) -> Ends {
        let connection = Arc::new(Self { number, hosts: [from, to], wire: Mutex::default() });
        shared.add(&connection);
        let end = |side| End {
            shared: shared.clone(),
            connection: connection.clone(),
            side,
            draws: shared.draws(number, side),
            timer: Box::pin(sleep_until(shared.now())),
        };
        Ends { near: end(0), far: end(1) }
    }

    pub(crate) fn is_of(&self, host: Host) -> bool {
        self.hosts.contains(&host)
    }

    pub(crate) fn is_between(&self, one: Host, other: Host) -> bool {
        self.is_of(one) && self.is_of(other)
    }

    pub(crate) fn is_dark(&self, host: Host) -> bool {
        self.wire.lock().unwrap().dark.is_some_and(|side| self.hosts[side] == host)
    }

    /// Both ends hear that it is over.
    pub(crate) fn reset(&self) {
        let mut wire = self.wire.lock().unwrap();
        wire.is_reset = true;
        wire.flows.iter_mut().for_each(Flow::wake);
    }

    /// The end at `host` is no more, and the other does not hear of it.
    pub(crate) fn darken(&self, host: Host) {
        let mut wire = self.wire.lock().unwrap();
        wire.dark = self.hosts.iter().position(|&one| one == host);
        wire.flows.iter_mut().for_each(Flow::wake);
    }

    /// Lets both ends look again.
    pub(crate) fn wake(&self) {
        self.wire.lock().unwrap().flows.iter_mut().for_each(Flow::wake);
    }
}

impl Wire {
    /// What both reading and writing fail with at `side`.
    fn broken(&self, side: usize) -> Option<io::Error> {
        (self.is_reset || self.dark == Some(side)).then(|| io::ErrorKind::ConnectionReset.into())
    }

    fn is_silent(&self) -> bool {
        self.dark.is_some()
    }
}

impl End {
    /// The hosts that this end's outgoing flow leads from and to.
    fn way(&self) -> (Host, Host) {
        (self.connection.hosts[self.side], self.connection.hosts[1 - self.side])
    }
}

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let (here, there) = this.way();
        let is_blocked = this.shared.is_blocked(there, here);
        let connection = this.connection.clone();
        let mut wire = connection.wire.lock().unwrap();
        if let Some(broken) = wire.broken(this.side) {
            return Poll::Ready(Err(broken));
        }
        let is_silent = wire.is_silent();
        let flow = &mut wire.flows[1 - this.side];
        flow.reader = Some(context.waker().clone());
        if is_blocked || is_silent {
            return Poll::Pending;
        }
        let due = flow.under_way.front().map(|(due, _)| *due).or(flow.end);
        let Some(due) = due else { return Poll::Pending };
        if due > this.shared.now() {
            this.timer.as_mut().reset(due);
            ready!(this.timer.as_mut().poll(context));
        }
        if let Some((_, bytes)) = flow.under_way.front_mut() {
            let taken = bytes.len().min(out.remaining());
            out.put_slice(&bytes[..taken]);
            bytes.drain(..taken);
            if bytes.is_empty() {
                flow.under_way.pop_front();
            }
            flow.bytes -= taken;
            flow.writer.take().into_iter().for_each(Waker::wake);
            this.shared.trace.note("read", format_args!("{} {} {taken}", this.connection.number, this.side));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let (here, there) = this.way();
        let connection = this.connection.clone();
        let mut wire = connection.wire.lock().unwrap();
        if let Some(broken) = wire.broken(this.side) {
            return Poll::Ready(Err(broken));
        }
        let flow = &mut wire.flows[this.side];
        if flow.end.is_some() || flow.is_unread {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = WINDOW - flow.bytes;
        if room == 0 {
            flow.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let taken = bytes.len().min(room).min(this.draws.random_range(1..=SEGMENT));
        let arrives = this.shared.now() + this.shared.delay(here, there, &mut this.draws);
        let arrives = flow.last.map_or(arrives, |last| last.max(arrives));
        flow.last = Some(arrives);
        flow.bytes += taken;
        flow.under_way.push_back((arrives, bytes[..taken].to_vec()));
        flow.reader.take().into_iter().for_each(Waker::wake);
        let digest = blake3::hash(&bytes[..taken]).to_hex();
        this.shared
            .trace
            .note("write", format_args!("{} {} {taken} {}", this.connection.number, this.side, &digest[..16]));
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().say_goodbye();
        Poll::Ready(Ok(()))
    }
}

impl End {
    fn say_goodbye(&mut self) {
        let (here, there) = self.way();
        let mut wire = self.connection.wire.lock().unwrap();
        let flow = &mut wire.flows[self.side];
        if flow.end.is_none() {
            let arrives = self.shared.now() + self.shared.delay(here, there, &mut self.draws);
            flow.end = Some(flow.last.map_or(arrives, |last| last.max(arrives)));
            flow.wake();
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.say_goodbye();
        let mut wire = self.connection.wire.lock().unwrap();
        // A host that vanished tells nobody.
        if !wire.is_silent() {
            let flow = &mut wire.flows[1 - self.side];
            flow.is_unread = true;
            flow.wake();
        }
    }
}

impl Connected for End {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}
