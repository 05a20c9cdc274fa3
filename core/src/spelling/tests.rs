use super::*;
use proptest::prelude::*;

const TITLES: [&str; 6] = [
    "Harbor Lights - Deluxe Edition - Switch",
    "Harbor Lights II - Deluxe Edition - Switch",
    "Harbor Lights II - Standard Edition",
    "Stone & Sail: \"The Long Way\"",
    "Caf\u{e9} Owner \u{2605}",
    "Harbor",
];

fn trained() -> Tokenizer {
    train_bpe(&TITLES, &BpeSettings { vocab_size: 320, min_frequency: 2 }).unwrap()
}

fn speller() -> Speller {
    Speller::new(trained(), Template::tokens()).unwrap()
}

#[test]
fn training_twice_gives_the_same_bytes_and_the_special_tokens_come_first() {
    assert_eq!(trained().to_string(true).unwrap(), trained().to_string(true).unwrap());
    for (id, token) in SPECIAL_TOKENS.iter().enumerate() {
        assert_eq!(trained().token_to_id(token), Some(id as u32));
    }
}

#[test]
fn an_item_is_its_title_and_the_end_token() {
    let tokens = speller().item_tokens(TITLES[0]).unwrap();
    assert_eq!(tokens.last(), Some(&2));
    assert_eq!(speller().decode(&tokens).unwrap(), format!("{}<|eos|>", TITLES[0]));
}

#[test]
fn a_prompt_is_the_concatenation_of_its_parts_when_special_tokens_separate_them() {
    let mut expected = vec![1];
    for title in [TITLES[1], TITLES[4]] {
        expected.push(3);
        let item = speller().item_tokens(title).unwrap();
        expected.extend(&item[..item.len() - 1]);
    }
    expected.push(4);
    assert_eq!(speller().prompt_tokens(&[TITLES[1], TITLES[4]], 1000).unwrap(), expected);
}

#[test]
fn a_prompt_that_is_too_long_loses_its_oldest_items_first() {
    let newest = speller().prompt_tokens(&TITLES[4..], 1000).unwrap();
    assert_eq!(speller().prompt_tokens(&TITLES, newest.len()).unwrap(), newest);
    assert_eq!(speller().prompt_tokens(&TITLES, 2).unwrap(), [1, 4]);
    let error = speller().prompt_tokens(&TITLES, 1).unwrap_err();
    assert!(matches!(error, SpellingError::PromptTooLong { tokens: 2, max_tokens: 1 }), "{error}");
}

#[test]
fn a_title_cannot_smuggle_in_a_special_token() {
    let error = speller().item_tokens("a <|eos|> b").unwrap_err();
    assert!(matches!(&error, SpellingError::SpecialInTitle { token, .. } if token == "<|eos|>"), "{error}");
    assert!(speller().prompt_tokens(&["x<|next|>"], 100).is_err());
}

#[test]
fn an_end_token_unknown_to_the_tokenizer_is_refused() {
    let error = Speller::new(trained(), Template::d3()).err().unwrap();
    assert!(matches!(&error, SpellingError::NoEndToken { token } if token == "<|endoftext|>"), "{error}");
}

#[test]
fn the_context_is_tokenised_with_the_item_and_taken_off_again() {
    let template = Template { end: "<|eos|>".to_owned(), ..Template::d3() };
    let speller = Speller::new(trained(), template).unwrap();
    let prompt = speller.prompt_tokens(&[TITLES[0]], 10_000).unwrap();
    let item = speller.item_tokens(TITLES[1]).unwrap();
    let text = speller.decode(&[prompt, item].concat()).unwrap();
    assert!(
        text.ends_with(&format!("before: \"{}\"\n\n### Response: \n\"{}\"\n<|eos|>", TITLES[0], TITLES[1])),
        "{text}"
    );
}

#[test]
fn an_item_that_merges_with_its_context_is_refused() {
    // The context ends in a letter, so the title's first letters join its last word.
    let template = Template { context: "Harb".to_owned(), ..Template::tokens() };
    let speller = Speller::new(trained(), template).unwrap();
    let error = speller.item_tokens("or").unwrap_err();
    assert!(matches!(error, SpellingError::Context { .. }), "{error}");
}

#[test]
fn ids_that_are_shared_or_beyond_every_vocabulary_are_refused() {
    let error_of = |id: u32| {
        let file = trained().to_string(false).unwrap();
        let changed = file.replace(":20,", &format!(":{id},"));
        assert!(file.contains(":20,"));
        Speller::new(changed.parse().unwrap(), Template::tokens()).err().map(|error| error.to_string())
    };
    assert_eq!(error_of(20), None);
    assert_eq!(error_of(21).unwrap(), "two tokens of the tokenizer have the id 21");
    assert!(error_of(1 << 22).unwrap().contains("a token with id 4194304"));
}

proptest! {
    #[test]
    fn every_title_survives_spelling(title in "[^<]{1,40}") {
        let speller = speller();
        let tokens = speller.item_tokens(&title).unwrap();
        prop_assert_eq!(speller.decode(&tokens).unwrap(), format!("{title}<|eos|>"));
    }
}
