//! A learner's disk: it keeps what was synced, and it can be full, stop in the middle of a write, or be lost.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use riser_core::{catalog::plan::CatalogPlan, ids::Incarnation};
use riser_learner::{
    checkpoint::CheckpointError,
    config::DurableConfig,
    recovery::{self, Recovery},
};
use riser_store::{
    FileSystem,
    simulated_disk::{Effect, SimulatedDisk, Tree, replay, unsynced},
};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::host::Order;

/// The disk; its folder is also the one of the real disk where recovery reads what a crash has left.
#[derive(Debug)]
pub(crate) struct CrashingDisk {
    folder: TempDir,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    start: Tree,
    disk: Arc<SimulatedDisk>,
    is_full: bool,
    /// Operations before the power fails, and what happens then.
    fuse: Option<(u32, mpsc::UnboundedSender<Order>, Order)>,
    is_off: bool,
    /// The largest number of a start, which is on the disk before the role starts.
    incarnation: u32,
    /// Whether the run's model is there, which is written last.
    has_model: bool,
    /// Which batch is made with which catalog, once there was a change.
    plan: Option<CatalogPlan>,
}

impl CrashingDisk {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let start = empty(folder.path());
        let disk = Arc::new(SimulatedDisk::with(start.clone()));
        let state = State {
            start,
            disk,
            is_full: false,
            fuse: None,
            is_off: false,
            incarnation: 0,
            has_model: false,
            plan: None,
        };
        Self { folder, state: Mutex::new(state) }
    }

    /// Where the checkpoints are.
    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.folder.path().join("checkpoints")
    }

    pub(crate) fn set_full(&self, is_full: bool) {
        self.state().is_full = is_full;
    }

    /// After so many operations there is no other, and `order` is given.
    pub(crate) fn fail_after(&self, operations: u32, orders: mpsc::UnboundedSender<Order>, order: Order) {
        self.state().fuse = Some((operations, orders, order));
    }

    /// There will be no such failure after all.
    pub(crate) fn disarm(&self) {
        self.state().fuse = None;
    }

    /// An empty disk takes its place.
    pub(crate) fn lose(&self) {
        let mut state = self.state();
        state.begin(empty(self.folder.path()));
        (state.incarnation, state.has_model, state.plan) = (0, false, None);
    }

    /// A number for a new start, larger than all before it and than `known`.
    /// The plan of catalogs that was written down.
    pub(crate) fn plan(&self) -> Option<CatalogPlan> {
        self.state().plan.clone()
    }

    /// Writes the plan of catalogs down, for good.
    pub(crate) fn keep_plan(&self, plan: &CatalogPlan) -> io::Result<()> {
        let mut state = self.state();
        if state.is_full || state.is_off {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.plan = Some(plan.clone());
        Ok(())
    }

    pub(crate) fn new_incarnation(&self, known: Option<Incarnation>) -> Incarnation {
        let mut state = self.state();
        state.incarnation = state.incarnation.max(known.map_or(0, |known| known.0)) + 1;
        Incarnation(state.incarnation)
    }

    pub(crate) fn keep_model(&self) {
        self.state().has_model = true;
    }

    pub(crate) fn has_model(&self) -> bool {
        self.state().has_model
    }

    /// The process is gone: what was not synced is there or not, and the last write is torn somewhere.
    pub(crate) fn crash(&self, draws: &mut ChaCha8Rng) {
        let mut state = self.state();
        let mut effects = state.disk.effects();
        let mut lost: Vec<usize> = unsynced(&effects).into_iter().filter(|_| draws.random()).collect();
        for at in unsynced(&effects) {
            if let Effect::Fill(_, bytes) = &mut effects[at]
                && draws.random()
            {
                bytes.truncate(draws.random_range(0..=bytes.len()));
            }
        }
        lost.reverse();
        lost.into_iter().for_each(|at| drop(effects.remove(at)));
        let tree = replay(&state.start, effects);
        state.begin(tree);
    }

    /// What the run goes on from; reads, and repairs, the real folder as a process that starts does.
    ///
    /// # Errors
    /// Those of recovery.
    pub(crate) fn recover(&self, durable: Option<&DurableConfig>) -> Result<Recovery, CheckpointError> {
        let mut state = self.state();
        let root = self.checkpoints();
        let _ = fs::remove_dir_all(&root);
        let tree = state.disk.tree();
        // A file whose folder is lost is lost with it.
        let is_there = |path: &Path| path.starts_with(&root) && path.parent().is_some_and(Path::is_dir);
        for (path, content) in &tree {
            match content {
                _ if !is_there(path) => {}
                None => fs::create_dir(path).unwrap(),
                Some(bytes) => fs::write(path, bytes).unwrap(),
            }
        }
        // On a thread of its own that is waited for: nothing else happens meanwhile.
        let recovery = std::thread::scope(|scope| {
            let recover = || {
                let mut runtime = tokio::runtime::Builder::new_current_thread();
                let runtime = runtime.enable_time().start_paused(true).build().unwrap();
                runtime.block_on(recovery::recover(&root, durable))
            };
            scope.spawn(recover).join().unwrap()
        });
        let mut tree = empty(self.folder.path());
        read_into(&mut tree, &root);
        state.begin(tree);
        recovery
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The disk, if it takes another operation.
    fn disk(&self) -> io::Result<Arc<SimulatedDisk>> {
        let mut state = self.state();
        if let Some((left, ..)) = &mut state.fuse {
            match left.checked_sub(1) {
                Some(fewer) => *left = fewer,
                None => {
                    if let Some((_, orders, order)) = state.fuse.take() {
                        state.is_off = true;
                        let _ = orders.send(order);
                    }
                }
            }
        }
        if state.is_off { Err(io::Error::other("the power has failed")) } else { Ok(state.disk.clone()) }
    }

    fn room(&self) -> io::Result<()> {
        if self.state().is_full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl State {
    fn begin(&mut self, tree: Tree) {
        self.disk = Arc::new(SimulatedDisk::with(tree.clone()));
        (self.start, self.fuse, self.is_off) = (tree, None, false);
    }
}

/// A disk with nothing on it.
fn empty(folder: &Path) -> Tree {
    folder.ancestors().map(|folder| (folder.to_owned(), None)).collect()
}

fn read_into(tree: &mut Tree, path: &Path) {
    let Ok(entries) = fs::read_dir(path) else { return };
    tree.insert(path.to_owned(), None);
    for entry in entries {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => read_into(tree, &path),
            false => drop(tree.insert(path.clone(), Some(fs::read(&path).unwrap()))),
        }
    }
}

impl FileSystem for CrashingDisk {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        self.disk()?.create_folder(folder)
    }

    fn write(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        self.room()?;
        self.disk()?.write(file, bytes)
    }

    fn sync_file(&self, file: &Path) -> io::Result<()> {
        self.disk()?.sync_file(file)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.disk()?.sync_folder(folder)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk()?.rename(from, to)
    }

    fn remove_folder(&self, folder: &Path) -> io::Result<()> {
        self.disk()?.remove_folder(folder)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        self.disk()?.list(folder)
    }

    fn read(&self, file: &Path) -> io::Result<Vec<u8>> {
        self.disk()?.read(file)
    }
}
