//! JSON text that notices when one of its bytes is changed.
//!
//! The value stands beside the digest of its own text, and only the text that writing the value gives is accepted. So a
//! change either breaks the syntax, or makes another text than the value's, or another value than the digest's.

use riser_core::digest::Digest;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Layout of the sealed text; this code writes and reads 2. (1 had sizes and no digests.)
const FORMAT: u32 = 2;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed<T> {
    format: u32,
    digest: Digest,
    content: T,
}

/// Why a text is not a sealed value.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Not JSON, or not of this shape.
    #[error("it cannot be read: {0}")]
    Syntax(#[from] serde_json::Error),
    /// Written by another release, or changed to look so.
    #[error("it has format {got}, this release reads {FORMAT}")]
    Format {
        /// Its format.
        got: u32,
    },
    /// Not what was written.
    #[error("its bytes are not those that were written")]
    Broken,
}

/// The text of a value, and the digest that names it.
pub(crate) fn seal<T: Serialize>(content: &T) -> Result<(Vec<u8>, Digest), SealError> {
    let digest = Digest::of(&serde_json::to_vec(content)?);
    let mut text = serde_json::to_vec_pretty(&Sealed { format: FORMAT, digest, content })?;
    text.push(b'\n');
    Ok((text, digest))
}

/// The value of a text, and the digest that names it.
pub(crate) fn unseal<T: Serialize + DeserializeOwned>(text: &[u8]) -> Result<(T, Digest), SealError> {
    #[derive(Deserialize)]
    struct Header {
        format: u32,
    }
    // Read on its own first: another release may have had other fields.
    let Header { format } = serde_json::from_slice(text)?;
    if format != FORMAT {
        return Err(SealError::Format { got: format });
    }
    let sealed: Sealed<T> = serde_json::from_slice(text)?;
    let (written, digest) = seal(&sealed.content)?;
    if digest != sealed.digest || written != text {
        return Err(SealError::Broken);
    }
    Ok((sealed.content, digest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn value() -> BTreeMap<String, f64> {
        [("loss".to_owned(), 0.1), ("step".to_owned(), 3.0)].into()
    }

    #[test]
    fn a_value_comes_back_and_every_changed_bit_cut_or_addition_is_noticed() {
        let (text, digest) = seal(&value()).unwrap();
        assert_eq!(unseal::<BTreeMap<String, f64>>(&text).unwrap(), (value(), digest));
        for position in 0..text.len() {
            for bit in 0..8 {
                let mut changed = text.clone();
                changed[position] ^= 1 << bit;
                assert!(unseal::<BTreeMap<String, f64>>(&changed).is_err(), "bit {bit} of byte {position}");
            }
            assert!(unseal::<BTreeMap<String, f64>>(&text[..position]).is_err(), "cut at {position}");
        }
        assert!(unseal::<BTreeMap<String, f64>>(&[&text[..], b" "].concat()).is_err());
    }

    #[test]
    fn another_format_is_named() {
        let error = unseal::<BTreeMap<String, f64>>(br#"{"format": 1, "version": 7}"#).unwrap_err();
        assert_eq!(error.to_string(), "it has format 1, this release reads 2");
    }
}
