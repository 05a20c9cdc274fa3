//! Event logs as the roles' own disks keep them: what was not written when a process died is lost, and of what was written
//! but not synced a host that vanishes loses the end.

use super::trace::Trace;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use riser_coordinator::reception::{Memory, Remembering};
use riser_core::{pace, run_event::RunEvent};
use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::sync::{Notify, mpsc};

/// Events that may wait for the onlooker, who takes them at once.
const BUFFER: usize = 64;

/// Transactions that a host which vanishes may lose; SQLite syncs its log now and then.
const UNSYNCED: usize = 10;

/// All that was ever said to the logs of a run, in order, whatever became of it.
pub(crate) type Everything = Arc<Mutex<Vec<RunEvent>>>;

/// The log of one role on one host; cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct LogDisk(Arc<Mutex<Content>>);

#[derive(Default)]
struct Content {
    transactions: Vec<Vec<RunEvent>>,
    /// Whether the coordinator has written down that the run is over.
    is_over: bool,
    /// Whether the learner has written down that there was another one elsewhere.
    is_elsewhere: bool,
    /// The largest number of a start.
    incarnation: u32,
}

/// One start's way to its log.
pub(crate) struct Writer {
    disk: LogDisk,
    unwritten: Arc<(Mutex<Vec<RunEvent>>, Notify)>,
}

impl LogDisk {
    /// What a process that starts writes with: the sender for its role, and a writer that lives and dies with it.
    pub(crate) fn open(&self, everything: &Everything, trace: &Trace) -> (mpsc::Sender<RunEvent>, Writer) {
        let (sender, mut events) = mpsc::channel::<RunEvent>(BUFFER);
        let unwritten = Arc::new((Mutex::default(), Notify::new()));
        let writer = Writer { disk: self.clone(), unwritten: unwritten.clone() };
        let (everything, trace) = (everything.clone(), trace.clone());
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                trace.note("log", format_args!("{event:?}"));
                everything.lock().unwrap().push(event.clone());
                unwritten.0.lock().unwrap().push(event);
                unwritten.1.notify_one();
            }
        });
        (sender, writer)
    }

    /// The host has vanished.
    pub(crate) fn lose_end(&self, draws: &mut ChaCha8Rng) {
        let mut content = self.content();
        let lost = draws.random_range(0..=UNSYNCED).min(content.transactions.len());
        let left = content.transactions.len() - lost;
        content.transactions.truncate(left);
    }

    /// The disk is gone.
    pub(crate) fn lose(&self) {
        *self.content() = Content::default();
    }

    /// The number of a new start of a coordinator, which is on the disk before it starts.
    pub(crate) fn new_incarnation(&self) -> u32 {
        let mut content = self.content();
        content.incarnation += 1;
        content.incarnation
    }

    pub(crate) fn trained_elsewhere(&self) {
        self.content().is_elsewhere = true;
    }

    pub(crate) fn is_elsewhere(&self) -> bool {
        self.content().is_elsewhere
    }

    /// What is there, in order.
    pub(crate) fn events(&self) -> Vec<RunEvent> {
        self.content().transactions.concat()
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap()
    }
}

impl Writer {
    /// Writes until `role` ends, and then the rest.
    pub(crate) async fn during<T>(self, role: impl Future<Output = T>) -> T {
        let ended = tokio::select! {
            ended = role => ended,
            never = self.write() => match never {},
        };
        // Whoever is still there has nothing to say.
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.transact();
        ended
    }

    async fn write(&self) -> std::convert::Infallible {
        loop {
            self.unwritten.1.notified().await;
            // About as long as other work with the disk.
            tokio::time::sleep(pace::simulated().unwrap_or_default()).await;
            self.transact();
        }
    }

    fn transact(&self) {
        let events = std::mem::take(&mut *self.unwritten.0.lock().unwrap());
        if !events.is_empty() {
            self.disk.content().transactions.push(events);
        }
    }
}

impl fmt::Debug for LogDisk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("simulated log")
    }
}

impl Memory for LogDisk {
    fn keep_end(&self) -> Remembering<'_, ()> {
        Box::pin(async move {
            tokio::time::sleep(pace::simulated().unwrap_or_default()).await;
            self.content().is_over = true;
            Ok(())
        })
    }

    fn is_over(&self) -> Remembering<'_, bool> {
        Box::pin(async move { Ok(self.content().is_over) })
    }
}
