//! Item spelling: the one place where titles become tokens.
//!
//! The prefix tree, the supervised targets, the prompts and the sampled completions must agree token for token, or the
//! policy is trained on items the catalog does not hold. So a [`Speller`] is a tokenizer with a [`Template`], both are
//! stored in the data folder, and every part of the system asks it.

mod template;
mod tokenizer;

pub use template::{Template, TemplateError};
pub use tokenizer::{BpeSettings, SPECIAL_TOKENS, tokenizer_config_json, train_bpe};

use std::{panic::catch_unwind, path::Path};
use tokenizers::Tokenizer;

/// Largest id of a token, with room above every vocabulary there is.
const MAX_TOKEN_ID: u32 = (1 << 22) - 1;

/// Why a title or a token sequence has no spelling.
#[derive(Debug, thiserror::Error)]
pub enum SpellingError {
    /// The template contradicts itself.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The tokenizer file cannot be read.
    #[error("cannot read the tokenizer `{path}`: {reason}")]
    Open {
        /// The file.
        path: String,
        /// What the operating system or the tokenizer library says.
        reason: String,
    },
    /// The tokenizer library failed.
    #[error("tokenizer: {reason}")]
    Tokenizer {
        /// Its message.
        reason: String,
    },
    /// Ids that no policy can have embeddings for.
    #[error("the tokenizer has a token with id {id}, the largest that can be learned is {MAX_TOKEN_ID}")]
    TokenId {
        /// The largest id.
        id: u32,
    },
    /// Two tokens that cannot be told apart: what is written with one is read as the other.
    #[error("two tokens of the tokenizer have the id {id}")]
    SharedId {
        /// Their id.
        id: u32,
    },
    /// The end token of the template is unknown to the tokenizer.
    #[error("the end token `{token}` of the template is not one token of the tokenizer")]
    NoEndToken {
        /// The text of the end token.
        token: String,
    },
    /// A title that holds the text of a special token would be cut by the tokenizer.
    #[error("the title `{title}` contains the special token `{token}`")]
    SpecialInTitle {
        /// The title.
        title: String,
        /// The special token in it.
        token: String,
    },
    /// The end token occurs before the end.
    #[error("the spelling of `{title}` holds the end token before its end")]
    EndInside {
        /// The title.
        title: String,
    },
    /// The boundary between prompt and target falls inside a token.
    #[error(
        "`{title}` merges with the text before it: tokenised together they do not start with the tokens of the context"
    )]
    Context {
        /// The title.
        title: String,
    },
    /// Even the prompt without any history is too long.
    #[error("the prompt without history has {tokens} tokens, more than the {max_tokens} allowed")]
    PromptTooLong {
        /// Tokens of the shortest prompt.
        tokens: usize,
        /// The limit.
        max_tokens: usize,
    },
}

/// A tokenizer and a template: spells items and prompts.
#[derive(Clone)]
pub struct Speller {
    tokenizer: Tokenizer,
    template: Template,
    end: u32,
    context: Vec<u32>,
    specials: Vec<String>,
}

impl Speller {
    /// Joins a tokenizer and a template after checking that they fit.
    ///
    /// # Errors
    /// [`SpellingError::Template`], [`SpellingError::TokenId`], [`SpellingError::SharedId`] and
    /// [`SpellingError::NoEndToken`].
    pub fn new(tokenizer: Tokenizer, template: Template) -> Result<Self, SpellingError> {
        template.check()?;
        check_ids(&tokenizer)?;
        let end = tokenizer
            .token_to_id(&template.end)
            .ok_or_else(|| SpellingError::NoEndToken { token: template.end.clone() })?;
        let mut specials: Vec<String> =
            tokenizer.get_added_tokens_decoder().into_values().map(|token| token.content).collect();
        specials.sort();
        let context = encode(&tokenizer, &template.context)?;
        Ok(Self { tokenizer, template, end, context, specials })
    }

    /// Reads a Hugging Face `tokenizer.json`.
    ///
    /// # Errors
    /// [`SpellingError::Open`], and those of [`Speller::new`].
    pub fn open(tokenizer: &Path, template: Template) -> Result<Self, SpellingError> {
        let open = |reason: String| SpellingError::Open { path: tokenizer.display().to_string(), reason };
        let bytes = std::fs::read(tokenizer).map_err(|error| open(error.to_string()))?;
        // The library asserts what its own files have.
        let parsed = catch_unwind(|| Tokenizer::from_bytes(bytes));
        let parsed = parsed.map_err(|_| open("not a tokenizer that was written".to_owned()))?;
        let tokenizer = parsed.map_err(|error| open(error.to_string()))?;
        Self::new(tokenizer, template)
    }

    /// The tokens of an item, end token last. Everything that spells an item calls this.
    ///
    /// # Errors
    /// [`SpellingError::SpecialInTitle`], [`SpellingError::EndInside`], [`SpellingError::Context`].
    pub fn item_tokens(&self, title: &str) -> Result<Vec<u32>, SpellingError> {
        self.refuse_specials(title)?;
        let text = self.template.target_text(title);
        let mut tokens = if self.context.is_empty() {
            encode(&self.tokenizer, &text)?
        } else {
            let joint = encode(&self.tokenizer, &format!("{}{text}", self.template.context))?;
            let tail = joint.strip_prefix(self.context.as_slice());
            tail.ok_or_else(|| SpellingError::Context { title: title.to_owned() })?.to_vec()
        };
        if tokens.contains(&self.end) {
            return Err(SpellingError::EndInside { title: title.to_owned() });
        }
        tokens.push(self.end);
        Ok(tokens)
    }

    /// The prompt for a history of titles, oldest first. Whole items are dropped from the old end until at most
    /// `max_tokens` are left.
    ///
    /// # Errors
    /// [`SpellingError::SpecialInTitle`], and [`SpellingError::PromptTooLong`] if the empty history does not fit either.
    pub fn prompt_tokens<T: AsRef<str>>(&self, history: &[T], max_tokens: usize) -> Result<Vec<u32>, SpellingError> {
        for title in history {
            self.refuse_specials(title.as_ref())?;
        }
        let mut first = 0;
        loop {
            let tokens = encode(&self.tokenizer, &self.template.prompt_text(&history[first..]))?;
            if tokens.len() <= max_tokens {
                return Ok(tokens);
            }
            if first == history.len() {
                return Err(SpellingError::PromptTooLong { tokens: tokens.len(), max_tokens });
            }
            first += 1;
        }
    }

    /// The text of a token sequence, special tokens included.
    ///
    /// # Errors
    /// [`SpellingError::Tokenizer`] for ids outside the vocabulary.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, SpellingError> {
        self.tokenizer.decode(tokens, false).map_err(library)
    }

    /// The token on which every item ends.
    pub fn end_token(&self) -> u32 {
        self.end
    }

    /// Number of tokens a policy must have embeddings for: the largest id plus one.
    pub fn vocab_size(&self) -> usize {
        self.tokenizer.get_vocab(true).into_values().max().map_or(0, |largest| largest as usize + 1)
    }

    /// The template.
    pub fn template(&self) -> &Template {
        &self.template
    }

    /// The content of `tokenizer.json`.
    ///
    /// # Errors
    /// [`SpellingError::Tokenizer`].
    pub fn tokenizer_json(&self) -> Result<String, SpellingError> {
        self.tokenizer.to_string(true).map_err(library)
    }

    fn refuse_specials(&self, title: &str) -> Result<(), SpellingError> {
        match self.specials.iter().find(|special| title.contains(special.as_str())) {
            Some(token) => Err(SpellingError::SpecialInTitle { title: title.to_owned(), token: token.clone() }),
            None => Ok(()),
        }
    }
}

fn check_ids(tokenizer: &Tokenizer) -> Result<(), SpellingError> {
    let mut ids: Vec<u32> = tokenizer.get_vocab(true).into_values().collect();
    ids.sort_unstable();
    if let Some(&id) = ids.last().filter(|id| **id > MAX_TOKEN_ID) {
        return Err(SpellingError::TokenId { id });
    }
    match ids.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(SpellingError::SharedId { id: pair[0] }),
        None => Ok(()),
    }
}

fn encode(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, SpellingError> {
    // Special tokens come from the template alone: a post-processor of the model's folder must not add its own.
    Ok(tokenizer.encode_fast(text, false).map_err(library)?.get_ids().to_vec())
}

fn library(error: tokenizers::Error) -> SpellingError {
    SpellingError::Tokenizer { reason: error.to_string() }
}

#[cfg(test)]
mod tests;
