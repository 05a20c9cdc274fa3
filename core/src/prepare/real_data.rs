//! Checks against real data that cannot be shipped: run with `RISER_SHARED` naming the folder that holds `data` and
//! `workloads`.

use super::*;
use crate::{baselines::Rule, dataset::BadRecords, report::SplitReport};
use serde::Deserialize;

fn shared() -> Option<PathBuf> {
    let folder = std::env::var_os("RISER_SHARED").map(PathBuf::from);
    if folder.is_none() {
        skipped();
    }
    folder
}

#[expect(clippy::print_stderr, reason = "a test that did not run must say so")]
fn skipped() {
    eprintln!("SKIPPED, NOT PASSED: RISER_SHARED is not set, so nothing was compared with real data");
}

fn games(shared: &Path) -> PrepareOptions {
    PrepareOptions::new(Source::D3(D3Options { path: shared.join("data/amazon_games_d3") }))
}

fn prepare_games(tokenizer: TokenizerOptions) -> Option<(tempfile::TempDir, DataFolder)> {
    let shared = shared()?;
    let output = tempfile::tempdir().unwrap();
    let options = PrepareOptions { tokenizer, ..games(&shared) };
    let folder = prepare(&options, output.path(), &mut |_| {}).unwrap();
    Some((output, folder))
}

#[test]
fn the_counts_of_amazon_games_are_those_of_its_readme() {
    let Some((_output, folder)) = prepare_games(TokenizerOptions::default()) else { return };
    let report = folder.report().unwrap();
    assert_eq!((report.items, report.repeated_titles, report.items_with_repeated_title), (3858, 52, 99));
    assert_eq!((report.title_words.median, report.title_words.p95, report.title_words.max), (7, 14, 20));
    let rounded = |value: f64| (value * 100.0).round() / 100.0;
    assert_eq!(rounded(report.title_words.mean), 7.65);
    let row = |split: &SplitReport| {
        let length = &split.history_length;
        (split.rows, split.users, split.distinct_targets, rounded(length.mean), length.median, length.max, split.at_cap)
    };
    let rows: Vec<_> = report.splits.iter().map(row).collect();
    assert_eq!(
        rows,
        [
            (49_133, None, 3815, 4.43, 4, 10, 6557),
            (6142, Some(2202), 2328, 5.21, 4, 10, 1134),
            (6142, Some(2122), 2286, 5.45, 5, 10, 1195)
        ]
    );
    let users: u64 = report.splits.iter().map(|split| split.starting_users).sum();
    let rows: u64 = report.splits.iter().map(|split| split.rows).sum();
    assert_eq!((users, rows + users), (9066, 70_483)); // every interaction but a user's first is a row
    let test = &report.splits[2];
    // 2017-11-18 and 2018-10-01 in seconds; 174 of 6142 is 2.8 %.
    assert_eq!((test.cold_targets, test.target_is_last, test.target_in_history), (390, 168, 174));
    assert_eq!(test.time, Some((1_510_963_200, 1_538_352_000)));
}

#[test]
fn the_floor_of_amazon_games_is_that_of_its_readme() {
    let Some(shared) = shared() else { return };
    let (dataset, _) = d3::read(&shared.join("data/amazon_games_d3"), 10, BadRecords::Error).unwrap();
    let text = std::fs::read_to_string(shared.join("data/amazon_games_d3/README.md")).unwrap();
    let report = crate::report::baselines(&dataset);
    assert_eq!(report.len(), 2 * Rule::ALL.len());
    for line in &report {
        let counted = if line.with_valid { "train+valid to test" } else { "train to test" };
        let (hit, ndcg) = (line.all.hit_ratio, line.all.ndcg);
        let cells = [hit[0], ndcg[0], hit[1], ndcg[1], hit[2], ndcg[2]].map(|value| format!("{value:.4}"));
        let expected = format!("| {counted} | {} | {} |", line.rule.name(), cells.join(" | "));
        assert!(text.contains(&expected), "not in the README: {expected}");
    }
}

#[derive(Deserialize)]
struct Catalog {
    items: Vec<Vec<u32>>,
    titles: Vec<String>,
}

#[derive(Deserialize)]
struct Prompt {
    prompt: Vec<u32>,
    target: u32,
    history: Vec<u32>,
}

fn workload<T: serde::de::DeserializeOwned>(name: &str) -> T {
    let path = shared().unwrap().join("workloads/games-tiny").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn items_and_prompts_of_the_reference_workload_are_reproduced_token_for_token() {
    let Some(shared) = shared() else { return };
    let tokenizer = TokenizerOptions::Folder(shared.join("workloads/games-tiny"));
    let Some((_output, folder)) = prepare_games(tokenizer) else { return };
    let catalog: Catalog = workload("items.json");
    assert_eq!(catalog.items.len(), 3858);
    for (index, (tokens, title)) in catalog.items.iter().zip(&catalog.titles).enumerate() {
        assert_eq!(&folder.dataset().items()[index].title, title);
        assert_eq!(&folder.speller().item_tokens(title).unwrap(), tokens, "{title}");
        assert_eq!(&folder.item_tokens(ItemIndex(index as u32)), tokens, "{title}");
    }
    let prompts: Vec<Prompt> = workload("prompts.json");
    assert_eq!(prompts.len(), 512);
    for Prompt { prompt, target, history } in prompts {
        let titles: Vec<&str> =
            history.iter().map(|&item| folder.dataset().item(ItemIndex(item)).title.as_str()).collect();
        assert_eq!(folder.speller().prompt_tokens(&titles, 10_000).unwrap(), prompt);
        assert!((target as usize) < catalog.items.len());
    }
}

#[test]
fn a_tokenizer_trained_on_amazon_games_spells_like_the_one_of_the_reference_workload() {
    let Some((_output, folder)) = prepare_games(TokenizerOptions::default()) else { return };
    let catalog: Catalog = workload("items.json");
    let same =
        (0..catalog.items.len()).filter(|&index| folder.item_tokens(ItemIndex(index as u32)) == catalog.items[index]);
    assert_eq!(same.count(), catalog.items.len());
}
