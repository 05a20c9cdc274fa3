use super::*;
use crate::{data_folder::DataFolderError, spelling::BpeSettings, synthetic::WorldOptions};
use std::collections::HashSet;

fn world() -> PrepareOptions {
    let mut options =
        PrepareOptions::new(Source::Synthetic(WorldOptions { items: 100, users: 150, ..WorldOptions::default() }));
    options.tokenizer = TokenizerOptions::Train(BpeSettings { vocab_size: 400, min_frequency: 2 });
    options
}

fn run(options: &PrepareOptions, output: &Path) -> Result<DataFolder, PrepareError> {
    prepare(options, output, &mut |_| {})
}

#[test]
fn preparing_twice_gives_the_same_digest_and_another_seed_another() {
    let folder = tempfile::tempdir().unwrap();
    let first = run(&world(), &folder.path().join("a")).unwrap();
    let second = run(&world(), &folder.path().join("b")).unwrap();
    let third = run(&PrepareOptions { seed: Seed(7), ..world() }, &folder.path().join("c")).unwrap();
    assert_eq!(first.digest(), second.digest());
    assert_eq!(first.manifest().files, second.manifest().files);
    assert_ne!(first.digest(), third.digest());
}

#[test]
fn an_opened_folder_holds_what_was_prepared() {
    let folder = tempfile::tempdir().unwrap();
    let prepared = run(&world(), folder.path()).unwrap();
    let Source::Synthetic(options) = world().source else { unreachable!() };
    let log = synthetic::generate(&options, world().seed).unwrap().log;
    let expected = split::split(log, &options.split, 10).unwrap();
    assert_eq!(prepared.dataset(), &expected);
    for (index, item) in expected.items().iter().enumerate() {
        let tokens = prepared.item_tokens(ItemIndex(index as u32));
        assert_eq!(tokens, prepared.speller().item_tokens(&item.title).unwrap());
        assert_eq!(prepared.speller().decode(&tokens).unwrap(), format!("{}<|eos|>", item.title));
    }
    assert_eq!(prepared.report().unwrap().items, expected.items().len() as u64);
}

#[test]
fn prompts_to_learn_from_and_to_watch_are_disjoint_and_make_up_the_valid_split() {
    let folder = tempfile::tempdir().unwrap();
    let prepared = run(&world(), folder.path()).unwrap();
    let (train, valid) = (prepared.rl_train(), prepared.rl_valid());
    let all: HashSet<_> = train.iter().chain(valid).collect();
    let rows = prepared.dataset().rows(Split::Valid).len();
    assert_eq!((all.len(), train.len() + valid.len()), (rows, rows));
    assert_eq!(valid.len(), (rows as f64 / 4.0).round() as usize);
    assert!(train.iter().chain(valid).all(|(split, _)| *split == Split::Valid));
}

#[test]
fn prompts_from_train_are_watched_on_valid() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = world();
    options.prompts.source = PromptSource::Train;
    let prepared = run(&options, folder.path()).unwrap();
    assert_eq!(prepared.rl_train().len(), prepared.dataset().rows(Split::Train).len());
    assert_eq!(prepared.rl_valid().len(), prepared.dataset().rows(Split::Valid).len());
    assert_eq!(prepared.row(prepared.rl_valid()[3]), &prepared.dataset().rows(Split::Valid)[3]);
}

#[test]
fn a_changed_or_missing_file_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    run(&world(), folder.path()).unwrap();
    let path = folder.path().join("template.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("<|bos|>", "<|pad|>")).unwrap();
    let error = DataFolder::open(folder.path()).err().unwrap();
    assert!(matches!(&error, DataFolderError::Changed { path, .. } if path.ends_with("template.toml")), "{error}");
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(DataFolder::open(folder.path()).err().unwrap(), DataFolderError::Io { .. }));
    std::fs::remove_file(folder.path().join("manifest.json")).unwrap();
    assert!(matches!(DataFolder::open(folder.path()).err().unwrap(), DataFolderError::NoManifest { .. }));
}

#[test]
fn preparing_over_an_older_folder_replaces_it() {
    let folder = tempfile::tempdir().unwrap();
    run(&PrepareOptions { seed: Seed(7), ..world() }, folder.path()).unwrap();
    let fresh = tempfile::tempdir().unwrap();
    let expected = run(&world(), fresh.path()).unwrap().digest();
    assert_eq!(run(&world(), folder.path()).unwrap().digest(), expected);
    let partial = std::fs::read_dir(folder.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".partial"));
    assert_eq!(partial.count(), 0);
}

#[test]
fn settings_that_cannot_work_are_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let mut options = world();
    options.prompts.watch_share = 1.0;
    assert!(matches!(run(&options, &output), Err(PrepareError::WatchShare { .. })));
    let options = PrepareOptions { history_length: 0, ..world() };
    assert_eq!(run(&options, &output).err().unwrap().to_string(), "`history_length` must be at least 1, got 0");
    let options = PrepareOptions { template: TemplateOptions::D3, ..world() };
    assert!(run(&options, &output).err().unwrap().to_string().contains("<|endoftext|>"));
    assert!(!output.exists());
}

#[test]
fn options_are_plain_toml_and_unknown_keys_are_refused() {
    let text = "template = 'd3'\n[source.interactions]\ninteractions = 'a.csv'\nitems = 'b.csv'\n[source.interactions.split]\n\
                rule = 'leave_one_out'\n[tokenizer.train]\nvocab_size = 512\n";
    let options: PrepareOptions = toml::from_str(text).unwrap();
    assert_eq!(options.tokenizer, TokenizerOptions::Train(BpeSettings { vocab_size: 512, min_frequency: 2 }));
    assert_eq!(toml::from_str::<PrepareOptions>(&toml::to_string(&options).unwrap()).unwrap(), options);
    assert!(toml::from_str::<PrepareOptions>(&format!("{text}vocab = 3")).is_err());
    assert!(toml::from_str::<PrepareOptions>("seeds = 1\n[source.d3]\npath = 'x'").is_err());
}

#[test]
fn the_default_world_can_be_learned_but_not_foreseen() {
    let folder = tempfile::tempdir().unwrap();
    let options = PrepareOptions::new(Source::Synthetic(WorldOptions::default()));
    let report = run(&options, folder.path()).unwrap().report().unwrap();
    let ideal = report.ideal.unwrap().score;
    assert!((0.5..0.75).contains(&ideal.hit_ratio[1]), "{ideal:?}");
    for baseline in &report.baselines {
        assert!(baseline.all.hit_ratio[1] < 0.75 * ideal.hit_ratio[1], "{baseline:?}");
    }
    assert!(report.prompts.rl_train >= 2000 && report.splits[2].rows >= 1500, "{:?}", report.prompts);
    assert!(report.spelling.forced_share > 0.6 && report.spelling.decisions > 2.5, "{:?}", report.spelling);
}
