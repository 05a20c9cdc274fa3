//! A byte-level BPE tokenizer trained on the catalog's titles, for models that start from scratch.

use super::{SpellingError, library};
use serde::{Deserialize, Serialize};
use tokenizers::{
    AddedToken, Tokenizer,
    models::{
        TrainerWrapper,
        bpe::{BPE, BpeTrainerBuilder},
    },
    pre_tokenizers::byte_level::ByteLevel,
};

/// The special tokens of a trained tokenizer; their ids are their positions.
pub const SPECIAL_TOKENS: [&str; 5] = ["<|pad|>", "<|bos|>", "<|eos|>", "<|item|>", "<|next|>"];

/// Size of a trained tokenizer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BpeSettings {
    /// Largest number of tokens, special tokens and the 256 bytes included.
    pub vocab_size: usize,
    /// How often a pair must occur in the titles to become a token.
    pub min_frequency: u64,
}

impl Default for BpeSettings {
    fn default() -> Self {
        Self { vocab_size: 4096, min_frequency: 2 }
    }
}

/// Trains a byte-level BPE tokenizer. The result depends on the titles and the settings only: merges are ordered by count,
/// then by token ids, and every byte has a token, so any title of any catalog can be spelled.
///
/// # Errors
/// [`SpellingError::Tokenizer`].
pub fn train_bpe<T: AsRef<str> + Sync>(titles: &[T], settings: &BpeSettings) -> Result<Tokenizer, SpellingError> {
    let byte_level = ByteLevel::new(false, true, true);
    let mut tokenizer = Tokenizer::new(BPE::default());
    // As the tokenizer files of the Hugging Face library have it; when decoding, the flag has no effect.
    tokenizer.with_pre_tokenizer(Some(byte_level)).with_decoder(Some(ByteLevel::new(true, true, true)));
    let trainer = BpeTrainerBuilder::new()
        .vocab_size(settings.vocab_size)
        .min_frequency(settings.min_frequency)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(SPECIAL_TOKENS.iter().map(|token| AddedToken::from(*token, true)).collect())
        .build();
    let mut trainer = TrainerWrapper::from(trainer);
    tokenizer.train(&mut trainer, titles.iter().map(AsRef::as_ref)).map_err(library)?;
    Ok(tokenizer)
}

/// The `tokenizer_config.json` that goes with a trained tokenizer, so that `transformers` loads the folder.
pub fn tokenizer_config_json() -> String {
    let config = serde_json::json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|bos|>",
        "eos_token": "<|eos|>",
        "pad_token": "<|pad|>",
        "clean_up_tokenization_spaces": false,
    });
    serde_json::to_string_pretty(&config).expect("a literal JSON value")
}
