use super::*;
use crate::prefix_tree::PrefixTree;
use proptest::prelude::*;
use std::{
    fs::{self, File},
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

/// Small chunks, so that small trees have several.
const SMALL: u32 = 1 << 10;

/// Items of many lengths in no order, so that no two chunks are alike.
fn tree(items: u32) -> PrefixTree {
    let path = |item: u32| {
        let middle = (0..1 + item % 8).map(move |place| item.wrapping_mul(0x9e37_79b1) >> place);
        std::iter::once(1 + item % 7).chain(middle).chain([0]).collect()
    };
    let paths: Vec<Vec<u32>> = (0..items).map(path).collect();
    PrefixTree::build(&paths).unwrap()
}

/// A manifest, the chunks it speaks of, and the tree they make.
fn cut(tree: &PrefixTree, chunk_bytes: u32) -> (Arc<CatalogManifest>, Vec<Vec<u8>>) {
    let bytes = tree.to_bytes();
    let manifest = CatalogManifest::of(tree.digest(), &bytes, chunk_bytes);
    let chunks = manifest.chunks().map(|chunk| bytes[chunk.range.start as usize..chunk.range.end as usize].to_vec());
    let chunks = chunks.collect();
    (Arc::new(manifest), chunks)
}

/// Time goes on by a second whenever it is asked for.
fn clock() -> SystemTime {
    static SECONDS: AtomicU64 = AtomicU64::new(0);
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000 + SECONDS.fetch_add(1, Ordering::Relaxed))
}

fn cache(folder: &tempfile::TempDir, max_bytes: u64) -> CatalogCache {
    CatalogCache::open(folder.path(), max_bytes, clock).unwrap()
}

/// Puts a catalog together; the second value is which chunks the cache did not have.
fn assemble(cache: &CatalogCache, manifest: &Arc<CatalogManifest>, chunks: &[Vec<u8>]) -> (PrefixTree, Vec<usize>) {
    let mut assembly = Assembly::in_cache(manifest.clone(), cache.clone()).unwrap();
    let mut fetched = vec![];
    for (index, chunk) in chunks.iter().enumerate() {
        let bytes = cache.chunk(manifest, index).unwrap_or_else(|| {
            fetched.push(index);
            cache.put(manifest.chunk(index).digest, chunk).unwrap();
            chunk.clone()
        });
        assembly = assembly.push(&bytes).unwrap();
    }
    (assembly.finish().unwrap(), fetched)
}

fn files(folder: &tempfile::TempDir) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn used(folder: &tempfile::TempDir) -> u64 {
    files(folder).iter().map(|file| fs::metadata(file).unwrap().len()).sum()
}

fn flip(file: &PathBuf, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 4;
    fs::write(file, bytes).unwrap();
}

fn path(folder: &tempfile::TempDir, digest: Digest, extension: &str) -> PathBuf {
    folder.path().join(format!("{digest}.{extension}"))
}

proptest! {
    #[test]
    fn chunks_of_any_size_cover_the_file_once_and_make_the_tree_again(items in 1u32..2000, chunk_bytes in 1024u32..9000) {
        let tree = tree(items);
        let (manifest, chunks) = cut(&tree, chunk_bytes);
        prop_assert_eq!(chunks.concat(), tree.to_bytes());
        let digests: Vec<Digest> = manifest.chunks().map(|chunk| chunk.digest).collect();
        let (total, limit) = (manifest.total_bytes(), manifest.total_bytes());
        let received = CatalogManifest::received(FORMAT, tree.digest(), total, chunk_bytes, digests, limit);
        prop_assert_eq!(received.as_ref(), Ok(&*manifest));
        let assembly = chunks.iter().try_fold(Assembly::in_memory(manifest), |assembly, chunk| assembly.push(chunk));
        prop_assert_eq!(assembly.unwrap().finish().unwrap().to_bytes(), tree.to_bytes());
    }

    #[test]
    fn a_flipped_bit_or_a_lost_byte_of_a_chunk_is_noticed(
        items in 1u32..2000, which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), bit in 0..8,
    ) {
        let (manifest, mut chunks) = cut(&tree(items), SMALL);
        let index = which.index(chunks.len());
        let chunk = &mut chunks[index];
        prop_assert!(manifest.verify(index, chunk).is_ok());
        let at = at.index(chunk.len());
        chunk[at] ^= 1_u8 << bit;
        let error = manifest.verify(index, chunk).unwrap_err();
        prop_assert_eq!((error.index, error.expected), (index, manifest.chunk(index).digest));
        chunk[at] ^= 1_u8 << bit;
        chunk.pop();
        prop_assert!(manifest.verify(index, chunk).is_err());
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn an_assembly_that_was_cut_off_anywhere_asks_only_for_what_is_missing(
        items in 1u32..2000, kept in any::<prop::sample::Index>(), damaged in any::<prop::sample::Index>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let tree = tree(items);
        let (manifest, chunks) = cut(&tree, SMALL);
        let cache = cache(&folder, 1 << 20);
        let kept = kept.index(chunks.len() + 1);
        for (index, chunk) in chunks.iter().enumerate().take(kept) {
            cache.put(manifest.chunk(index).digest, chunk).unwrap();
        }
        let damaged = (kept > 0).then(|| damaged.index(kept));
        if let Some(index) = damaged {
            flip(&path(&folder, manifest.chunk(index).digest, "chunk"), 5);
        }
        let (assembled, fetched) = assemble(&cache, &manifest, &chunks);
        prop_assert_eq!(assembled.to_bytes(), tree.to_bytes());
        let missing: Vec<usize> = damaged.into_iter().chain(kept..chunks.len()).collect();
        prop_assert_eq!(fetched, missing);
        // The tree took the place of its chunks.
        prop_assert_eq!(files(&folder), [path(&folder, tree.digest(), "tree")]);
    }
}

#[test]
fn a_manifest_that_lies_about_the_catalog_is_noticed_and_its_tree_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = tree(300).to_bytes();
    let lie = Arc::new(CatalogManifest::of(Digest::of(b"another"), &bytes, SMALL));
    let cache = cache(&folder, 1 << 20);
    for assembly in [Assembly::in_memory(lie.clone()), Assembly::in_cache(lie.clone(), cache).unwrap()] {
        let error = assembly.push(&bytes).unwrap().finish().unwrap_err();
        assert!(matches!(error, AssemblyError::Other { announced, .. } if announced == lie.catalog()), "{error}");
    }
    assert!(files(&folder).is_empty());
}

#[test]
fn a_damaged_tree_is_not_served_and_only_its_damaged_chunk_is_fetched_again() {
    let folder = tempfile::tempdir().unwrap();
    let tree = tree(2000);
    let (manifest, chunks) = cut(&tree, SMALL);
    let cache = cache(&folder, 1 << 20);
    assert!(cache.tree(&manifest).is_none());
    assemble(&cache, &manifest, &chunks);
    assert_eq!(cache.tree(&manifest).unwrap().to_bytes(), tree.to_bytes());
    let file = path(&folder, tree.digest(), "tree");
    flip(&file, 3 * SMALL as usize + 1);
    assert!(cache.tree(&manifest).is_none());
    let (assembled, fetched) = assemble(&cache, &manifest, &chunks);
    assert_eq!((assembled.digest(), fetched), (tree.digest(), vec![3]));
    // A file that was cut off serves what is left of it.
    File::options().write(true).open(&file).unwrap().set_len(2 * u64::from(SMALL)).unwrap();
    assert!(cache.tree(&manifest).is_none());
    let (_, fetched) = assemble(&cache, &manifest, &chunks);
    assert_eq!(fetched, (2..chunks.len()).collect::<Vec<_>>());
    assert!(cache.tree(&manifest).is_some());
}

#[test]
fn what_was_not_used_for_longest_makes_room_and_a_strangers_file_stays() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("notes.txt"), vec![0; 100_000]).unwrap();
    fs::write(folder.path().join("0123.chunk"), vec![0; 100_000]).unwrap();
    let cuts: Vec<_> = [1000, 1001, 1002, 1003].iter().map(|&items| cut(&tree(items), SMALL)).collect();
    let total = cuts[3].0.total_bytes();
    // Room for two trees beside one that is being put together from its chunks.
    let cache = cache(&folder, 4 * total + total / 2);
    for (manifest, chunks) in &cuts[..3] {
        assemble(&cache, manifest, chunks);
    }
    assert!(cache.tree(&cuts[0].0).is_some(), "used last");
    assemble(&cache, &cuts[3].0, &cuts[3].1);
    let kept: Vec<bool> = cuts.iter().map(|(manifest, _)| cache.tree(manifest).is_some()).collect();
    assert_eq!(kept, [true, false, true, true]);
    assert!(used(&folder) - 200_000 <= 4 * total + total / 2);
    assert!(folder.path().join("notes.txt").exists() && folder.path().join("0123.chunk").exists());
}

#[test]
fn a_catalog_that_the_cache_has_no_room_for_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (manifest, chunks) = cut(&tree(1000), SMALL);
    let tiny = cache(&folder, 2 * manifest.total_bytes() - 1);
    let error = Assembly::in_cache(manifest.clone(), tiny).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert!(error.to_string().contains("the cache has"), "{error}");
    let error = cache(&folder, 1000).put(manifest.chunk(0).digest, &chunks[0]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert!(files(&folder).is_empty());
}

#[test]
fn many_that_share_a_cache_at_once_all_get_the_tree() {
    let folder = tempfile::tempdir().unwrap();
    let trees = [tree(1500), tree(1501)];
    let cuts: Vec<_> = trees.iter().map(|tree| cut(tree, SMALL)).collect();
    // So little room that they also remove each other's files.
    let cache = cache(&folder, 2 * cuts[1].0.total_bytes() + 2 * u64::from(SMALL));
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let (cache, cuts, trees) = (cache.clone(), &cuts, &trees);
            scope.spawn(move || {
                for round in 0..20 {
                    let which = (worker + round) % 2;
                    let (manifest, chunks) = &cuts[which];
                    let found = cache.tree(manifest).map(Ok).unwrap_or_else(|| {
                        let assembly = Assembly::in_cache(manifest.clone(), cache.clone())?;
                        let assembly = chunks.iter().enumerate().try_fold(assembly, |assembly, (index, chunk)| {
                            let cached = cache.chunk(manifest, index);
                            assembly.push(cached.as_ref().unwrap_or(chunk))
                        })?;
                        assembly.finish()
                    });
                    match found {
                        Ok(tree) => assert_eq!(tree.to_bytes(), trees[which].to_bytes()),
                        // The disk may refuse, a wrong tree may never come out.
                        Err(error) => assert!(matches!(error, AssemblyError::Disk(_)), "{error}"),
                    }
                }
            });
        }
    });
}
