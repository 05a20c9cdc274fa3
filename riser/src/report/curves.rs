//! Which curves a stage has: from logged events to charts.

use super::chart::{Chart, Series};
use serde_json::Value;

/// A chart as data: which keys of which kind of event, and how to read them.
struct Curve {
    title: &'static str,
    caption: &'static str,
    y_label: &'static str,
    kind: &'static str,
    /// Key in the event, name in the legend.
    keys: &'static [(&'static str, &'static str)],
    smooth: usize,
    from_zero: bool,
}

const SFT: &[Curve] = &[
    Curve {
        title: "Training loss",
        caption: "Mean loss of a batch: faint as logged, bold as a running mean of 25 steps.",
        y_label: "loss",
        kind: "step",
        keys: &[("loss", "training")],
        smooth: 25,
        from_zero: false,
    },
    Curve {
        title: "Validation loss",
        caption: "Loss on held-out rows; the best checkpoint is the lowest point.",
        y_label: "loss",
        kind: "evaluation",
        keys: &[("loss", "validation")],
        smooth: 1,
        from_zero: false,
    },
    Curve {
        title: "Validation hit rate",
        caption: "Share of held-out rows whose target is among the first K items, by exact search.",
        y_label: "HR@K",
        kind: "evaluation",
        keys: HIT_RATES,
        smooth: 1,
        from_zero: true,
    },
    Curve {
        title: "Learning rate",
        caption: "Warm-up, then the schedule.",
        y_label: "learning rate",
        kind: "step",
        keys: &[("learning_rate", "learning rate")],
        smooth: 1,
        from_zero: true,
    },
];

const HIT_RATES: &[(&str, &str)] = &[("HR@1", "HR@1"), ("HR@5", "HR@5"), ("HR@10", "HR@10"), ("HR@20", "HR@20")];

const TRAIN: &[Curve] = &[
    Curve {
        title: "Reward",
        caption: "Mean reward of the kept completions: faint as logged, bold as a running mean of 10 steps.",
        y_label: "reward",
        kind: "step",
        keys: &[("mean_reward", "reward")],
        smooth: 10,
        from_zero: false,
    },
    Curve {
        title: "Hit rate on held-out rows",
        caption: "Share of rows whose target is among the first K items, by exact search; step 0 is the supervised model.",
        y_label: "HR@K",
        kind: "evaluation",
        keys: HIT_RATES,
        smooth: 1,
        from_zero: true,
    },
    Curve {
        title: "Entropy",
        caption: "Whole softmax per token, legal children at branching tokens, and whole items; a fall towards 0 is collapse.",
        y_label: "nats",
        kind: "step",
        keys: &[("token_entropy", "token"), ("branch_entropy", "branch"), ("item_entropy", "item")],
        smooth: 10,
        from_zero: true,
    },
    Curve {
        title: "Groups by outcome",
        caption: "Groups with a hit learn by policy gradient, groups without one by preference pairs, all-hit groups not at all.",
        y_label: "share of groups",
        kind: "step",
        keys: &[("pass_share", "with a hit"), ("all_miss_share", "without a hit"), ("all_hit_share", "all hits")],
        smooth: 10,
        from_zero: true,
    },
    Curve {
        title: "Distinct items drawn",
        caption: "Distinct items among the drawn completions of a prompt, as a share of the draws.",
        y_label: "unique rate",
        kind: "step",
        keys: &[("unique_rate", "unique rate")],
        smooth: 10,
        from_zero: true,
    },
    Curve {
        title: "Loss parts",
        caption: "Policy-gradient loss of passing groups and preference loss of failing groups.",
        y_label: "loss",
        kind: "step",
        keys: &[("policy_loss", "policy"), ("simpo_loss", "preference"), ("loss", "total")],
        smooth: 10,
        from_zero: false,
    },
    Curve {
        title: "Clipped and penalised tokens",
        caption: "Share of tokens whose ratio is clipped, and share that carries the KL penalty.",
        y_label: "share of tokens",
        kind: "step",
        keys: &[("clip_fraction", "clipped"), ("kl_cov_fraction", "penalised")],
        smooth: 10,
        from_zero: true,
    },
    Curve {
        title: "Worker and learner disagreement",
        caption: "Absolute difference of one token's log-probability at the worker and at the learner, same weights.",
        y_label: "nats",
        kind: "step",
        keys: &[("mismatch_max", "largest"), ("mismatch_mean", "mean")],
        smooth: 1,
        from_zero: true,
    },
];

/// The charts of a stage; those without a logged value come out empty.
pub(super) fn charts(command: &str, events: &[Value]) -> Vec<Chart> {
    let curves = if command == "sft" { SFT } else { TRAIN };
    curves.iter().map(|curve| chart(curve, events)).collect()
}

fn chart(curve: &Curve, events: &[Value]) -> Chart {
    let points = |key: &str| {
        let of_kind = events.iter().filter(|event| event["kind"] == curve.kind);
        of_kind.filter_map(|event| Some((event["step"].as_f64()?, event[key].as_f64()?))).collect::<Vec<_>>()
    };
    let series = curve.keys.iter().map(|(key, name)| Series {
        name: (*name).to_owned(),
        points: points(key),
        smooth: curve.smooth,
    });
    Chart {
        title: curve.title.to_owned(),
        caption: curve.caption.to_owned(),
        x_label: "optimizer step".to_owned(),
        y_label: curve.y_label.to_owned(),
        series: series.filter(|series| !series.points.is_empty()).collect(),
        from_zero: curve.from_zero,
    }
}
