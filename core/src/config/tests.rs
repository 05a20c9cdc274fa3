use super::*;
use crate::logprob_space::LogprobSpace;
use crate::objective::{Level, Mask, MaskLaw, Preset, Source};
use crate::random::Seed;

fn file(text: &str) -> (tempfile::TempDir, Sources) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.toml");
    std::fs::write(&path, text).unwrap();
    (folder, Sources { files: vec![path], ..Sources::default() })
}

fn resolve(text: &str) -> Result<RunConfig, ConfigError> {
    let (_folder, sources) = file(text);
    RunConfig::resolve(&sources, 2)
}

/// The error's text, with the temporary folder cut off.
fn message(text: &str) -> String {
    let message = resolve(text).unwrap_err().to_string();
    message.split_once("run.toml").map_or(message.clone(), |(_, rest)| format!("run.toml{rest}"))
}

#[test]
fn the_defaults_are_accepted_and_the_resolved_file_resolves_to_itself() {
    let config = resolve("").unwrap();
    assert_eq!((config.sft.steps, config.train.workers), (Some(DEFAULT_SFT_STEPS), Some(2)));
    assert_eq!(resolve(&config.to_toml()).unwrap(), config);
}

#[test]
fn every_preset_survives_being_written_and_read() {
    for preset in Preset::ALL {
        for space in [LogprobSpace::Vocabulary, LogprobSpace::Catalog] {
            let section = ObjectiveSection::of(preset, space);
            let config = RunConfig { objective: section, ..resolve("").unwrap() };
            assert_eq!(resolve(&config.to_toml()).unwrap(), config, "{preset} {space:?}");
        }
    }
}

#[test]
fn flags_win_over_environment_over_files_over_defaults() {
    let (_folder, mut sources) = file("seed = 1\n[sft]\nsteps = 10\nrows_per_batch = 3\nclip = 0.5");
    sources.environment =
        vec![("RISER__SFT__STEPS".to_owned(), "20".to_owned()), ("RISER__SFT__CLIP".to_owned(), "0.25".to_owned())];
    sources.flags = vec!["sft.steps=30".to_owned(), "data.path = runs/data".to_owned()];
    let config = RunConfig::resolve(&sources, 2).unwrap();
    assert_eq!((config.seed, config.sft.steps, config.sft.rows_per_batch), (Seed(1), Some(30), 3));
    assert_eq!((config.sft.clip, config.sft.weight_decay), (0.25, SftConfig::default().weight_decay));
    assert_eq!(config.data.path.as_deref(), Some(Path::new("runs/data")));
}

#[test]
fn switches_override_their_preset_wherever_they_are_written() {
    let (_folder, mut sources) = file("[objective.clip]\nhigh = 0.4\n[objective.mask]\ndecay = 0.5");
    sources.flags = vec!["objective.preset=grpo".to_owned()];
    let objective = RunConfig::resolve(&sources, 2).unwrap().objective;
    let grpo = Preset::Grpo.config(LogprobSpace::Vocabulary);
    assert_eq!((objective.switches.clip.unwrap().low, objective.switches.clip.unwrap().high), (0.2, 0.4));
    assert_eq!((objective.switches.mask.decay, objective.switches.kl), (0.5, grpo.kl));
}

#[test]
fn the_example_of_token_weights_lies_over_the_example_of_a_run() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let files = ["games-tiny.toml", "token-weights.toml"].map(|name| examples.join(name)).to_vec();
    let switches = RunConfig::resolve(&Sources { files, ..Sources::default() }, 2).unwrap().objective.switches;
    let Mask { law, decay, source, .. } = switches.mask;
    assert_eq!((law, decay, source), (MaskLaw::InformationGain, 0.0, Source::Policy));
    assert_eq!(switches.advantage.level, Level::Node);
}

#[test]
fn a_table_is_switched_off_by_name_and_stays_off_when_written_and_read() {
    let config = resolve("[objective]\nclip = \"none\"").unwrap();
    assert_eq!(config.objective.switches.clip, None);
    assert_eq!(resolve(&config.to_toml()).unwrap(), config);
}

#[test]
fn an_unknown_key_is_reported_with_its_line_and_its_neighbours() {
    let error = resolve("seed = 1\n\n[sft]\nlearning_rat = 0.1\n").unwrap_err();
    let ConfigError::UnknownKey { key, place: Place::File { line, .. }, known } = error else { panic!("{error}") };
    assert_eq!((key.as_str(), line), ("sft.learning_rat", 4));
    assert!(known.contains(&"sft.learning_rate".to_owned()), "{known:?}");
    assert_eq!(
        message("[objective]\nspace = \"catalog\"\n[objective.kl]\nfractoin = 0.1"),
        "run.toml, line 4: unknown key `objective.kl.fractoin`"
    );
    assert_eq!(message("[objective]\nklcov = 0.1"), "run.toml, line 2: unknown key `objective.klcov`");
    assert_eq!(message("[stf]\nsteps = 1"), "run.toml, line 1: unknown key `stf`");
}

#[test]
fn a_wrong_value_is_reported_with_its_key_and_place() {
    assert_eq!(
        message("[sft]\nsteps = \"many\""),
        "run.toml, line 2: `sft.steps`: invalid type: string \"many\", expected u64"
    );
    assert_eq!(
        message("[rollout]\npick = \"last\""),
        "run.toml, line 2: `rollout.pick`: unknown variant `last`, expected one of `first_seen`, `uniform`, `by_count`"
    );
    assert!(message("[sft]\nsteps = ").starts_with("run.toml, line 2: not valid TOML: "));
    let sources =
        Sources { environment: vec![("RISER__SFT__STEPS".to_owned(), "-3".to_owned())], ..Sources::default() };
    let message = RunConfig::resolve(&sources, 2).unwrap_err().to_string();
    assert!(message.starts_with("environment variable `RISER__SFT__STEPS`: `sft.steps`: invalid value"), "{message}");
    let sources = Sources { flags: vec!["sft.steps".to_owned()], ..Sources::default() };
    assert!(matches!(RunConfig::resolve(&sources, 2), Err(ConfigError::Assignment { .. })));
}

#[test]
fn a_value_out_of_range_is_reported_where_it_was_written() {
    assert_eq!(message("[sft]\nlearning_rate = -1.0"), "run.toml, line 2: `sft.learning_rate = -1` is out of range");
    assert_eq!(
        message("[objective]\nmask.decay = 1.5"),
        "run.toml, line 2: `objective.mask.decay = 1.5` is out of range"
    );
    assert_eq!(
        message("[objective]\nmask.smoothing = 0.0"),
        "run.toml, line 2: `objective.mask.smoothing = 0` is out of range"
    );
    let mut config = resolve("").unwrap();
    config.optimizer.betas[1] = 1.0;
    assert_eq!(config.check().unwrap_err().to_string(), "`optimizer.betas = [0.9, 1.0]` is out of range");
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let conflict = |text: &str| match resolve(text).unwrap_err() {
        ConfigError::Conflict { conflict, .. } => conflict,
        other => panic!("{other}"),
    };
    assert_eq!(conflict("[sft]\nsteps = 5\nepochs = 1.0"), Conflict::SftLength);
    assert_eq!(conflict("[model]\nhidden_size = 130"), Conflict::HeadSize { hidden_size: 130, heads: 4 });
    assert_eq!(conflict("[model]\nnum_key_value_heads = 3"), Conflict::HeadGroups { heads: 4, key_value_heads: 3 });
    assert_eq!(conflict("[rollout]\nsamples = 8"), Conflict::GroupExceedsSamples { group: 16, samples: 8 });
    assert_eq!(conflict("[rollout]\nreward_hit = -1.0"), Conflict::RewardOrder { hit: -1.0, miss: -1.0 });
    assert_eq!(conflict("[objective]\nkl.anchor = \"behaviour\""), Conflict::BehaviourAnchorWithoutDistance);
    assert_eq!(conflict("[objective]\nmask.source = \"policy\""), Conflict::SourceOfCertainty);
    let gain = "[objective]\nmask.law = \"information_gain\"\npreset = ";
    assert_eq!(conflict(&format!("{gain}\"grpo\"")), Conflict::GainWithoutDecay);
    assert!(resolve(&format!("{gain}\"continue-sft\"")).is_ok(), "a baseline beside the others");
    assert_eq!(conflict("[objective]\nmask.smoothing = 2.0"), Conflict::SmoothingWithoutPopularity);
    let smoothed = format!("{gain}\"riser\"\nmask.smoothing = 2.0\nmask.source = ");
    assert_eq!(conflict(&format!("{smoothed}\"policy\"")), Conflict::SmoothingWithoutPopularity);
    assert!(resolve(&format!("{smoothed}\"popularity\"")).is_ok());
    assert!(resolve(&format!("{gain}\"riser\"\nmask.source = \"policy\"\nadvantage.level = \"node\"")).is_ok());
    assert!(resolve("[objective]\nkl.anchor = \"behaviour\"\n[optimizer]\nminibatches = 2").is_ok());
    assert_eq!(conflict("[optimizer]\nminibatches = 3"), Conflict::Minibatches { minibatches: 3, groups: 32 });
    let bounded = "[train]\nschedule = \"bounded\"\n";
    assert_eq!(conflict(&format!("{bounded}lag = 2")), Conflict::LagInBounded { lag: 2 });
    assert!(resolve(&format!("{bounded}[objective]\nkl.anchor = \"behaviour\"")).is_ok());
    let on_policy = format!("{bounded}max_staleness = 0\n[objective]\nkl.anchor = \"behaviour\"");
    assert_eq!(conflict(&on_policy), Conflict::BehaviourAnchorWithoutDistance);
    assert_eq!(conflict("[train]\ngroups_per_batch = 2"), Conflict::LeaseExceedsBatch { lease: 4, groups: 2 });
    assert_eq!(conflict("[evaluate]\nmethod = \"beam\"\nbeam_width = 5"), Conflict::NarrowBeam { width: 5, top_k: 50 });
}

#[test]
fn the_number_of_workers_and_the_store_do_not_change_the_digest_and_the_seed_does() {
    let digest = |text: &str| resolve(text).unwrap().digest();
    assert_eq!(digest("[train]\nworkers = 3"), digest("[train]\nworkers = 1"));
    assert_ne!(digest("seed = 1"), digest("seed = 2"));
    let popularity = "mask = { law = \"information_gain\", source = \"popularity\", smoothing = 2.0 }";
    for switch in ["mask.law = \"information_gain\"", popularity, "advantage.level = \"node\""] {
        assert_ne!(digest(&format!("[objective]\n{switch}")), digest(""), "{switch}");
    }
    assert_eq!(digest("[store]\nurl = \"s3://bucket/runs\""), digest("[store]\nkeep = 7"));
}
