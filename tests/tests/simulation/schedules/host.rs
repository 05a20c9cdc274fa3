//! A host with one process, which is started again whenever it ends before the run does.

use super::{network::Network, trace::Trace};
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A host by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Host(pub(crate) u8);

impl Host {
    pub(crate) const COORDINATOR: Self = Self(0);
    pub(crate) const LEARNER: Self = Self(1);
    /// Where an operator starts another learner.
    pub(crate) const SECOND_LEARNER: Self = Self(100);
    /// Where an operator starts another coordinator, with the folder of the first.
    pub(crate) const SECOND_COORDINATOR: Self = Self(102);
    /// The object store.
    pub(crate) const STORE: Self = Self(101);

    fn is_worker(self) -> bool {
        (2..100).contains(&self.0)
    }

    /// The host of a name.
    pub(crate) fn named(name: &str) -> Self {
        let worker = |number: &str| number.parse::<u8>().ok().map(|number| Self(number + 2));
        let others = [Self::COORDINATOR, Self::LEARNER, Self::SECOND_LEARNER, Self::SECOND_COORDINATOR, Self::STORE];
        let found = others.into_iter().find(|host| host.to_string() == name);
        found.or_else(|| worker(name.strip_prefix("worker-")?)).unwrap_or_else(|| panic!("nobody is called {name}"))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::COORDINATOR => formatter.write_str("coordinator"),
            Self::LEARNER => formatter.write_str("learner"),
            Self::SECOND_LEARNER => formatter.write_str("learner-2"),
            Self::SECOND_COORDINATOR => formatter.write_str("coordinator-2"),
            Self::STORE => formatter.write_str("store"),
            Self(number) => write!(formatter, "worker-{}", number - 2),
        }
    }
}

/// Pause before a process that failed is started again.
const RESTART: Duration = Duration::from_secs(1);

/// What can be done to a process from outside.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Order {
    /// It is gone at once, and its host with it if that goes `dark`; the next one starts after `down`.
    Kill { dark: bool, down: Duration },
    /// It is gone at once, and no other comes.
    Remove,
    /// Its host is gone with everything on its disk; an empty one takes its place after `down`.
    Replace { down: Duration },
    /// It is asked to end; the next one starts `down` after it has.
    Stop { down: Duration },
}

/// How a process ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The run is over for it.
    Done,
    /// It was asked to.
    Stopped,
    /// For want of a peer, which may happen to it.
    Lost(String),
    /// Another one has taken its place, so it is not started again.
    Replaced(String),
    /// For a reason that there should not be.
    Wrong(String),
}

/// How a process went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gone {
    ByItself,
    Killed { dark: bool },
    WithDisk,
}

/// The way to a host.
#[derive(Clone)]
pub(crate) struct Controls {
    pub(crate) orders: mpsc::UnboundedSender<Order>,
    pub(crate) ice: Arc<Ice>,
}

/// A host and what happens to it.
pub(crate) struct Site {
    pub(crate) host: Host,
    pub(crate) network: Network,
    pub(crate) trace: Trace,
    orders: mpsc::UnboundedReceiver<Order>,
    ice: Arc<Ice>,
}

impl Site {
    pub(crate) fn new(host: Host, network: &Network, trace: &Trace) -> (Self, Controls) {
        let (sender, orders) = mpsc::unbounded_channel();
        let ice = Arc::new(Ice::default());
        let site = Self { host, network: network.clone(), trace: trace.clone(), orders, ice: ice.clone() };
        (site, Controls { orders: sender, ice })
    }

    /// What was ordered meanwhile met nobody; whether one of the orders was for good.
    pub(crate) fn forget_orders(&mut self) -> bool {
        let mut is_removed = false;
        while let Ok(order) = self.orders.try_recv() {
            is_removed |= matches!(order, Order::Remove);
        }
        is_removed
    }

    /// Keeps a process alive until one says that it is done, or is lost once the run is `over`. `start` makes the process of
    /// a number, from 1; `gone` is told how each ended.
    pub(crate) async fn keep<F: Future<Output = Ended> + Send + 'static>(
        mut self,
        over: CancellationToken,
        mut start: impl FnMut(u32, CancellationToken) -> F,
        mut gone: impl FnMut(Gone),
    ) {
        for number in 1.. {
            let stop = CancellationToken::new();
            self.trace.note("start", format_args!("{} {number}", self.host));
            let mut process =
                tokio::spawn(Freezable { ice: self.ice.clone(), inner: Box::pin(start(number, stop.clone())) });
            let mut down = RESTART;
            let ended = loop {
                tokio::select! {
                    biased;
                    order = self.orders.recv() => match order {
                        Some(Order::Kill { dark, down: pause }) => {
                            process.abort();
                            self.network.kill(self.host, dark);
                            let _ = (&mut process).await;
                            gone(Gone::Killed { dark });
                            down = pause;
                            break None;
                        }
                        Some(Order::Remove) => {
                            process.abort();
                            self.network.kill(self.host, false);
                            let _ = (&mut process).await;
                            gone(Gone::Killed { dark: false });
                            return;
                        }
                        Some(Order::Replace { down: pause }) => {
                            process.abort();
                            self.network.kill(self.host, true);
                            let _ = (&mut process).await;
                            gone(Gone::WithDisk);
                            down = pause;
                            break None;
                        }
                        Some(Order::Stop { down: pause }) => {
                            stop.cancel();
                            down = pause;
                        }
                        None => std::future::pending().await,
                    },
                    ended = &mut process => break Some(ended),
                }
            };
            self.trace.note("end", format_args!("{} {number} {ended:?}", self.host));
            if ended.is_some() && self.host.is_worker() {
                // A relay has no goodbye for those it serves.
                self.network.kill(self.host, false);
            }
            if ended.is_some() {
                gone(Gone::ByItself);
            }
            match ended {
                Some(Ok(Ended::Done)) => return,
                Some(Ok(Ended::Replaced(reason))) => {
                    self.trace.note("replaced", format_args!("{} {reason}", self.host));
                    return;
                }
                Some(Ok(Ended::Lost(reason))) => {
                    tracing::info!(host = %self.host, reason, "process lost its peer");
                    if over.is_cancelled() {
                        return;
                    }
                }
                Some(Ok(Ended::Wrong(reason))) => self.trace.violation(format_args!("{} ended: {reason}", self.host)),
                Some(Err(panic)) => self.trace.violation(format_args!("{} panicked: {panic}", self.host)),
                Some(Ok(Ended::Stopped)) | None => {}
            }
            tokio::time::sleep(down).await;
            self.network.revive(self.host);
            if self.forget_orders() {
                return;
            }
        }
    }
}

/// Holds a process still.
#[derive(Default)]
pub(crate) struct Ice {
    state: Mutex<(bool, Option<Waker>)>,
}

impl Ice {
    pub(crate) fn freeze(&self) {
        self.state.lock().unwrap().0 = true;
    }

    pub(crate) fn thaw(&self) {
        let mut state = self.state.lock().unwrap();
        state.0 = false;
        state.1.take().into_iter().for_each(Waker::wake);
    }
}

struct Freezable<F> {
    ice: Arc<Ice>,
    inner: Pin<Box<F>>,
}

impl<F: Future> Future for Freezable<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        {
            let mut state = self.ice.state.lock().unwrap();
            if state.0 {
                state.1 = Some(context.waker().clone());
                return Poll::Pending;
            }
        }
        self.inner.as_mut().poll(context)
    }
}
