//! A crash between any two operations, with any of the unsynced ones lost and the last write torn anywhere.

use super::*;
use crate::simulated_disk::{Effect, SimulatedDisk, Tree, replay, unsynced};

const ROOT: &str = "/run/checkpoints";

fn folder(disk: SimulatedDisk) -> (Arc<SimulatedDisk>, CheckpointFolder<String>) {
    let disk = Arc::new(disk);
    (disk.clone(), CheckpointFolder::on(disk, ROOT))
}

fn contents(version: u64) -> Contents {
    Contents::new()
        .with_bytes("model", format!("model of {version}"))
        .with_bytes("optimizer", vec![version as u8; 9])
        .with_bytes("retained/older", format!("policy before {version}"))
}

fn write(folder: &mut CheckpointFolder<String>, version: u64) {
    folder.write(version, format!("about {version}"), contents(version)).unwrap();
}

/// The version that is found, after a look at all of its content.
fn found(tree: Tree) -> Option<u64> {
    let (disk, mut folder) = folder(SimulatedDisk::with(tree));
    let checkpoint = folder.recover().unwrap().newest?;
    let version = checkpoint.manifest.version;
    assert_eq!(checkpoint.manifest.about, format!("about {version}"));
    let read = |name: &str| disk.read(&checkpoint.path.join(name)).unwrap();
    for (name, make) in contents(version) {
        assert_eq!(read(&name), make().unwrap(), "{name} of version {version}");
    }
    Some(version)
}

/// Every state of the disk that a crash can leave after the first `cut` effects.
fn crashes(start: &Tree, effects: &[Effect]) -> Vec<Tree> {
    let unsynced = unsynced(effects);
    assert!(unsynced.len() <= 12, "{} unsynced effects are too many to enumerate", unsynced.len());
    let mut states = vec![];
    for lost in 0..1_u32 << unsynced.len() {
        let is_lost = |at: usize| unsynced.iter().position(|&one| one == at).is_some_and(|bit| lost & 1 << bit != 0);
        let kept = effects.iter().enumerate().filter(|(at, _)| !is_lost(*at)).map(|(_, effect)| effect.clone());
        states.push(replay(start, kept));
    }
    for &at in &unsynced {
        let Effect::Fill(path, bytes) = &effects[at] else { continue };
        for end in 0..bytes.len() {
            let mut zeroed = bytes.clone();
            zeroed[end..].fill(0);
            let mut hole = bytes.clone();
            hole[..end].fill(0);
            for torn in [bytes[..end].to_vec(), zeroed, hole] {
                let mut torn_effects = effects.to_vec();
                torn_effects[at] = Effect::Fill(path.clone(), torn);
                states.push(replay(start, torn_effects));
            }
        }
    }
    states
}

/// Runs `work` on a disk, then crashes at every moment of it; gives the versions found by number of effects.
fn enumerate(start: Tree, work: impl FnOnce(&mut CheckpointFolder<String>)) -> Vec<BTreeSet<Option<u64>>> {
    let (disk, mut folder) = folder(SimulatedDisk::with(start.clone()));
    work(&mut folder);
    let effects = disk.effects();
    (0..=effects.len()).map(|cut| crashes(&start, &effects[..cut]).into_iter().map(found).collect()).collect()
}

fn holding(versions: &[u64]) -> Tree {
    let (disk, mut folder) = folder(SimulatedDisk::empty());
    versions.iter().for_each(|&version| write(&mut folder, version));
    disk.tree()
}

/// Once a version has been found after every crash so far, no older one may be found later.
fn never_goes_back(moments: &[BTreeSet<Option<u64>>]) {
    let mut reached = None;
    for (cut, found) in moments.iter().enumerate() {
        let least = found.first().copied().flatten();
        assert!(least >= reached, "after {cut} effects {found:?} may be found, {reached:?} was certain before");
        reached = reached.max(least);
    }
}

#[test]
fn a_write_that_is_cut_anywhere_leaves_the_previous_or_the_new_checkpoint_whole() {
    let moments = enumerate(holding(&[4]), |folder| write(folder, 8));
    assert!(moments.len() >= 20, "{} moments", moments.len());
    assert!(moments.iter().flatten().all(|found| [Some(4), Some(8)].contains(found)), "{moments:?}");
    assert_eq!(moments[0], [Some(4)].into());
    assert_eq!(moments.last(), Some(&[Some(8)].into()), "a write that has returned is durable");
    never_goes_back(&moments);
}

#[test]
fn the_first_write_that_is_cut_anywhere_leaves_nothing_or_a_whole_checkpoint() {
    let moments = enumerate(SimulatedDisk::empty().tree(), |folder| write(folder, 2));
    assert!(moments.iter().flatten().all(|found| [None, Some(2)].contains(found)), "{moments:?}");
    assert_eq!(moments.last(), Some(&[Some(2)].into()));
    never_goes_back(&moments);
}

#[test]
fn pruning_that_is_cut_anywhere_keeps_the_newest_checkpoint() {
    let moments = enumerate(holding(&[2, 4, 6, 8]), |folder| drop(folder.prune(2, &[]).unwrap()));
    assert!(moments.len() > 10 && moments.iter().flatten().all(|found| *found == Some(8)), "{moments:?}");
}

#[test]
fn setting_damaged_checkpoints_aside_can_be_cut_anywhere() {
    let mut tree = holding(&[2, 4, 6, 8]);
    for version in [6, 8] {
        tree.insert(format!("{ROOT}/step-{version:08}/model").into(), Some(b"garbage".to_vec()));
    }
    let moments = enumerate(tree, |folder| drop(folder.recover().unwrap()));
    assert!(moments.len() > 3 && moments.iter().flatten().all(|found| *found == Some(4)), "{moments:?}");
}

#[test]
fn a_damaged_version_that_is_written_again_can_be_cut_anywhere() {
    let mut tree = holding(&[4, 8]);
    tree.insert(format!("{ROOT}/step-00000008/optimizer").into(), Some(vec![8; 8]));
    let moments = enumerate(tree, |folder| write(folder, 8));
    assert!(moments.iter().flatten().all(|found| [Some(4), Some(8)].contains(found)), "{moments:?}");
    assert_eq!(moments.last(), Some(&[Some(8)].into()));
}

#[test]
fn after_any_crash_the_run_goes_on_to_the_same_checkpoints() {
    let start = holding(&[4]);
    let (disk, mut writing) = folder(SimulatedDisk::with(start.clone()));
    write(&mut writing, 8);
    let effects = disk.effects();
    for cut in 0..=effects.len() {
        for tree in crashes(&start, &effects[..cut]) {
            let (disk, mut folder) = folder(SimulatedDisk::with(tree));
            folder.recover().unwrap();
            write(&mut folder, 8);
            assert_eq!(found(disk.tree()), Some(8), "cut after {cut} effects");
            assert_eq!(folder.versions().unwrap(), [4, 8]);
        }
    }
}

#[test]
fn every_flipped_bit_of_every_file_is_noticed_and_the_previous_checkpoint_is_used() {
    let whole = holding(&[4, 8]);
    let files: Vec<_> = whole.iter().filter_map(|(path, bytes)| Some((path, bytes.as_ref()?))).collect();
    let newest: Vec<_> = files.iter().filter(|(path, _)| path.starts_with(format!("{ROOT}/step-00000008"))).collect();
    assert_eq!(newest.len(), 4);
    for (path, bytes) in newest {
        for position in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = (*bytes).clone();
                changed[position] ^= 1 << bit;
                let mut tree = whole.clone();
                tree.insert((*path).clone(), Some(changed));
                assert_eq!(found(tree), Some(4), "bit {bit} of byte {position} of {}", path.display());
            }
        }
        let mut tree = whole.clone();
        tree.remove(*path);
        assert_eq!(found(tree), Some(4), "{} is missing", path.display());
    }
}
