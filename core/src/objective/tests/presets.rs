//! Presets and their spelling.

use crate::logprob_space::LogprobSpace::{Catalog, Vocabulary};
use crate::objective::{KlKind, ObjectiveConfig, Preset};

#[test]
fn every_preset_is_valid_and_survives_json_and_toml() {
    for preset in Preset::ALL {
        assert_eq!(preset.name().parse(), Ok(preset));
        assert_eq!(serde_json::to_value(preset).unwrap(), preset.name());
        for config in [preset.config(Vocabulary), preset.config(Catalog)] {
            assert_eq!(config.validate(), Ok(()));
            let json = serde_json::to_string(&config).unwrap();
            assert_eq!(serde_json::from_str::<ObjectiveConfig>(&json).unwrap(), config);
            let toml = toml::to_string(&config).unwrap();
            assert_eq!(toml::from_str::<ObjectiveConfig>(&toml).unwrap(), config, "{toml}");
        }
    }
}

#[test]
fn an_unknown_preset_is_answered_with_the_known_ones() {
    let message = "rizer".parse::<Preset>().unwrap_err().to_string();
    assert!(message.starts_with("`rizer` is not a preset: expected one of `riser`, `grpo`, "), "{message}");
}

#[test]
fn an_unknown_switch_is_refused() {
    let mut json = serde_json::to_value(Preset::Riser.config(Vocabulary)).unwrap();
    json["kl"]["beta"] = 1.into();
    let message = serde_json::from_value::<ObjectiveConfig>(json).unwrap_err().to_string();
    assert!(message.contains("unknown field `beta`"), "{message}");
}

#[test]
fn in_catalog_space_forced_tokens_neither_count_nor_rank() {
    for preset in Preset::ALL {
        let config = preset.config(Catalog);
        assert!(config.kl.exclude_forced && config.mask.decay == 0.0, "{preset}");
    }
}

/// The columns say whether completions, behaviour, reference, targets of failed groups and all targets are needed.
#[test]
fn presets_ask_for_what_they_use_and_nothing_else() {
    let expected = [
        (Preset::Riser, [true, true, true, true, false]),
        (Preset::Grpo, [true, true, true, false, false]),
        (Preset::Dapo, [true, true, false, false, false]),
        (Preset::DrGrpo, [true, true, false, false, false]),
        (Preset::Cispo, [true, true, false, false, false]),
        (Preset::SimpoOnly, [true, false, false, true, false]),
        (Preset::ContinueSft, [false, false, false, true, true]),
        (Preset::ExactGradient, [false, false, false, true, true]),
    ];
    for (preset, needs) in expected {
        let config = preset.config(Vocabulary);
        let got = [
            config.needs_completions(),
            config.needs_behaviour(),
            config.needs_reference(),
            config.needs_target_of_failed_groups(),
            config.needs_target_for_all_groups(),
        ];
        assert_eq!(got, needs, "{preset}");
    }
}

#[test]
fn only_riser_and_plain_grpo_are_penalised() {
    let kind = |preset: Preset| preset.config(Vocabulary).kl.kind;
    assert_eq!(kind(Preset::Riser), KlKind::Cov);
    assert_eq!(kind(Preset::Grpo), KlKind::Global);
    assert!(Preset::ALL[2..].iter().all(|&preset| kind(preset) == KlKind::None));
}
