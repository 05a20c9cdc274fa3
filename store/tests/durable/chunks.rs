//! Chunks of catalogs in every kind of store.

use crate::stores::Kind;
use bytes::Bytes;
use riser_core::digest::Digest;
use riser_store::durable::Committed;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunk_is_put_once_and_comes_back_from_every_store_or_not_at_all() {
    for kind in Kind::ALL {
        let opened = kind.open().await;
        let store = opened.store.within("catalogs");
        let bytes = Bytes::from((0..70_000u32).map(|at| (at % 251) as u8).collect::<Vec<_>>());
        let (digest, len) = (Digest::of(&bytes), bytes.len() as u64);
        assert_eq!(store.chunk(digest, len).await.unwrap(), None, "{kind:?}");
        assert_eq!(store.put_chunk(digest, bytes.clone()).await.unwrap(), Committed::Now, "{kind:?}");
        // Whoever comes second may hold anything: what is there stays.
        assert_eq!(store.put_chunk(digest, Bytes::from_static(b"other")).await.unwrap(), Committed::Before, "{kind:?}");
        assert_eq!(store.chunk(digest, len).await.unwrap(), Some(bytes), "{kind:?}");
        assert_eq!(store.chunk(digest, len - 1).await.unwrap(), None, "{kind:?}");
    }
}
