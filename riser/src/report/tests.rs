use super::*;
use crate::metrics_log::{Kind, MetricsLog};
use riser::measurement::ComparedMetric;
use riser_core::config::RunConfig;
use riser_core::digest::Digest;
use serde_json::json;

/// A folder as a quickstart leaves it, with made-up curves.
fn finished_runs(folder: &Path) {
    let config = RunConfig::default();
    let wave = |step: u64, pace: f64| (step as f64 * pace).sin();
    let sft = RunFolder::open(&folder.join("sft"), "sft", &config, Digest::of(b"data"), None).unwrap();
    let mut log = MetricsLog::continue_after(&sft.metrics(), 0).unwrap();
    for step in 1..=400 {
        let loss = 1.2 + 3.0 * (-(step as f64) / 90.0).exp() + 0.1 * wave(step, 1.7);
        log.append(Kind::Step, step, &json!({ "loss": loss, "learning_rate": 1e-3 * (1.0 - step as f64 / 400.0) }))
            .unwrap();
        if step % 50 == 0 {
            let values = json!({ "loss": loss + 0.1, "HR@1": 0.0001 * step as f64, "HR@10": 0.0006 * step as f64 });
            log.append(Kind::Evaluation, step, &values).unwrap();
        }
    }
    let rl = RunFolder::open(&folder.join("rl"), "train", &config, Digest::of(b"data"), None).unwrap();
    let mut log = MetricsLog::continue_after(&rl.metrics(), 0).unwrap();
    for step in 1..=120 {
        let x = step as f64 / 120.0;
        let values = json!({
            "loss": 0.9 - 0.2 * x + 0.05 * wave(step, 2.1), "policy_loss": 0.02 * wave(step, 0.9), "simpo_loss": 1.0 - 0.3 * x,
            "mean_reward": -0.97 + 0.1 * x + 0.02 * wave(step, 1.3), "token_entropy": 0.4, "branch_entropy": 1.3 - 0.1 * x,
            "item_entropy": 4.9 - 0.3 * x, "pass_share": 0.2 + 0.2 * x, "all_miss_share": 0.8 - 0.2 * x, "all_hit_share": 0.0,
            "unique_rate": 0.8 - 0.1 * x, "clip_fraction": 0.0, "kl_cov_fraction": 0.002,
            "mismatch_max": 2e-6 * (1.5 + wave(step, 3.0)), "mismatch_mean": 4e-7,
        });
        log.append(Kind::Step, step, &values).unwrap();
        if step % 20 == 0 {
            log.append(Kind::Evaluation, step, &json!({ "HR@1": 0.03 + 0.02 * x, "HR@10": 0.2 + 0.1 * x })).unwrap();
        }
    }
    let row = |metric: &str, before: f64, after: f64, half: f64| ComparedMetric {
        metric: metric.to_owned(),
        before,
        after,
        low: after - before - half,
        high: after - before + half,
        p_value: 0.5,
    };
    let comparison = Comparison {
        caption: "500 test rows, exact search".to_owned(),
        before_name: "SFT".to_owned(),
        after_name: "RISER".to_owned(),
        rows: vec![row("HR@10", 0.21, 0.30, 0.03), row("HR@1", 0.03, 0.04, 0.02), row("NDCG@10", 0.2, 0.1, 0.05)],
    };
    fs::write(folder.join(Comparison::FILE), serde_json::to_string(&comparison).unwrap()).unwrap();
}

#[test]
fn the_page_holds_every_curve_and_nothing_from_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    finished_runs(folder.path());
    let html = fs::read_to_string(write(folder.path()).unwrap()).unwrap();
    for title in
        ["Training loss", "Validation hit rate", "Reward", "Entropy", "Groups by outcome", "Distinct items drawn"]
    {
        assert!(html.contains(&format!("<h3>{title}</h3>")), "{title} is missing");
    }
    assert_eq!(html.matches("<svg").count(), html.matches("</svg>").count());
    for foreign in ["<script", "http://", "https://", "@import", "url(", "NaN"] {
        assert!(!html.contains(foreign), "the page contains {foreign}");
    }
    let class_of =
        |metric: &str| html.split("<tr class=\"").find(|row| row.contains(&format!("<td>{metric}</td>"))).unwrap();
    assert!(class_of("HR@10").starts_with("better"));
    assert!(class_of("HR@1").starts_with("open"));
    assert!(class_of("NDCG@10").starts_with("worse"));
}

#[test]
fn a_run_that_logged_nothing_still_has_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    RunFolder::open(&path, "sft", &RunConfig::default(), Digest::of(b"data"), None).unwrap();
    let html = fs::read_to_string(write(&path).unwrap()).unwrap();
    assert!(html.contains("Nothing was logged yet"));
}
