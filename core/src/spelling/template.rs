//! The prompt and the item as text, given as data.

use serde::{Deserialize, Serialize};

/// The place of a title inside an item or target text.
const TITLE: &str = "{title}";

/// How histories and items are written.
///
/// ```text
/// prompt = prefix item(h_1) separator item(h_2) ... item(h_n) suffix context
/// target = target(title) end
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Text before the first history item.
    pub prefix: String,
    /// Text of one history item, with `{title}` in it.
    pub item: String,
    /// Text between two history items.
    #[serde(default)]
    pub separator: String,
    /// Text after the last history item.
    pub suffix: String,
    /// The last part of the prompt, which is tokenised together with the target and then stripped, so that a tokenizer
    /// that looks across the boundary spells items the same way everywhere. Empty if the boundary is a special token.
    #[serde(default)]
    pub context: String,
    /// Text of the item to be generated, with `{title}` in it.
    pub target: String,
    /// The token on which every item ends.
    pub end: String,
}

/// Why a template cannot spell.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TemplateError {
    /// `item` or `target` does not say where the title goes, or says it twice.
    #[error("`{field}` of the template must hold `{{title}}` exactly once, got `{text}`")]
    Title {
        /// The field.
        field: &'static str,
        /// Its text.
        text: String,
    },
    /// There is no built-in template of that name.
    #[error("there is no template `{name}`: known are `tokens` and `d3`")]
    Unknown {
        /// The name asked for.
        name: String,
    },
}

impl Template {
    /// Special tokens around bare titles: short prompts, the default for models that start from scratch.
    pub fn tokens() -> Self {
        Self {
            prefix: "<|bos|>".to_owned(),
            item: "<|item|>{title}".to_owned(),
            separator: String::new(),
            suffix: "<|next|>".to_owned(),
            context: String::new(),
            target: TITLE.to_owned(),
            end: "<|eos|>".to_owned(),
        }
    }

    /// The instruction prompt of the D3 and ReRe family, for pretrained language models (method.md 2.2).
    ///
    /// Titles are quoted; the closing quote and the line break belong to the item, so no title is a prefix of another.
    pub fn d3() -> Self {
        let preamble = "Below is an instruction that describes a task, paired with an input that provides further \
                        context. Write a response that appropriately completes the request. \n\n";
        let instruction = "### Instruction:\nGiven a list of items the user recently enjoyed, please write a new item \
                           that the user may enjoy next.\n\n";
        Self {
            prefix: format!(
                "{preamble}{instruction}### User Input: \nThe user has enjoyed the following items before: "
            ),
            item: "\"{title}\"".to_owned(),
            separator: ", ".to_owned(),
            suffix: "\n\n".to_owned(),
            context: "### Response: \n".to_owned(),
            target: "\"{title}\"\n".to_owned(),
            end: "<|endoftext|>".to_owned(),
        }
    }

    /// The built-in template of that name.
    ///
    /// # Errors
    /// [`TemplateError::Unknown`].
    pub fn named(name: &str) -> Result<Self, TemplateError> {
        match name {
            "tokens" => Ok(Self::tokens()),
            "d3" => Ok(Self::d3()),
            _ => Err(TemplateError::Unknown { name: name.to_owned() }),
        }
    }

    /// Checks that titles have a place.
    ///
    /// # Errors
    /// [`TemplateError::Title`].
    pub fn check(&self) -> Result<(), TemplateError> {
        for (field, text) in [("item", &self.item), ("target", &self.target)] {
            if text.matches(TITLE).count() != 1 {
                return Err(TemplateError::Title { field, text: text.clone() });
            }
        }
        Ok(())
    }

    /// The text of a prompt, `context` included.
    pub fn prompt_text<T: AsRef<str>>(&self, history: &[T]) -> String {
        let items: Vec<String> = history.iter().map(|title| self.item.replacen(TITLE, title.as_ref(), 1)).collect();
        [self.prefix.as_str(), &items.join(&self.separator), &self.suffix, &self.context].concat()
    }

    /// The text of an item to be generated, without the end token.
    pub fn target_text(&self, title: &str) -> String {
        self.target.replacen(TITLE, title, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_that_looks_like_a_placeholder_stays_text() {
        let template = Template::tokens();
        assert_eq!(template.prompt_text(&["{title}", "b"]), "<|bos|><|item|>{title}<|item|>b<|next|>");
        assert_eq!(template.target_text("{title}"), "{title}");
    }

    #[test]
    fn a_template_without_a_place_for_the_title_is_refused() {
        let template = Template { item: "item".to_owned(), ..Template::tokens() };
        assert_eq!(template.check(), Err(TemplateError::Title { field: "item", text: "item".to_owned() }));
        assert_eq!(Template::d3().check(), Ok(()));
    }

    #[test]
    fn an_unknown_key_in_a_template_is_refused() {
        let text = toml::to_string(&Template::tokens()).unwrap();
        assert_eq!(toml::from_str::<Template>(&text).unwrap(), Template::tokens());
        assert!(toml::from_str::<Template>(&format!("{text}\nseperator = ','")).is_err());
    }
}
