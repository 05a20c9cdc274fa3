//! What goes into a checkpoint: named files whose bytes are made when they are written.

use std::fmt;

/// Why bytes cannot be made, in the words of whoever makes them.
pub type ContentError = Box<dyn std::error::Error + Send + Sync>;

type Make = Box<dyn FnOnce() -> Result<Vec<u8>, ContentError> + Send>;

/// An immutable state as named files. Handing it over is cheap; the bytes of one file at a time are made by whoever writes
/// them, on another thread.
#[derive(Default)]
pub struct Contents(Vec<(String, Make)>);

impl Contents {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file; its `name` is relative to the checkpoint, with `/` between folders.
    #[must_use]
    pub fn with<E: Into<ContentError>>(
        mut self,
        name: impl Into<String>,
        make: impl FnOnce() -> Result<Vec<u8>, E> + Send + 'static,
    ) -> Self {
        self.0.push((name.into(), Box::new(|| make().map_err(Into::into))));
        self
    }

    /// Adds a file whose bytes are there already.
    #[must_use]
    pub fn with_bytes(self, name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        self.with(name, move || Ok::<_, ContentError>(bytes))
    }
}

impl IntoIterator for Contents {
    type Item = (String, Make);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl fmt::Debug for Contents {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}
