//! The report as a Markdown page.

use super::{Report, SplitReport};
use crate::baselines::RankScore;
use std::fmt::Write;

/// Writes the page. Formatting into a string cannot fail, so results of `write!` are dropped here and nowhere else.
pub(super) fn write(report: &Report) -> String {
    let mut page = String::from("# Data report\n\n");
    catalog(&mut page, report);
    splits(&mut page, report);
    spelling(&mut page, report);
    baselines(&mut page, report);
    page
}

fn percent(part: u64, of: u64) -> String {
    if of == 0 { "-".to_owned() } else { format!("{part} ({:.1} %)", 100.0 * part as f64 / of as f64) }
}

fn catalog(page: &mut String, report: &Report) {
    let words = &report.title_words;
    let _ = writeln!(
        page,
        "{} items. Titles have {:.2} words on average (median {}, 95 % at most {}, longest {}).\n",
        report.items, words.mean, words.median, words.p95, words.max
    );
    let _ = writeln!(
        page,
        "{} titles repeat an earlier one; {} items share their title with another item. {}\n",
        report.repeated_titles, report.items_with_repeated_title, report.same_spelling_rule
    );
    let dropped = &report.dropped;
    if dropped.items + dropped.records > 0 {
        let _ = writeln!(page, "Left out as unusable: {} items, {} records.\n", dropped.items, dropped.records);
    }
}

fn splits(page: &mut String, report: &Report) {
    page.push_str("## Rows\n\n| |");
    report.splits.iter().for_each(|split| {
        let _ = write!(page, " {} |", split.split.name());
    });
    page.push_str("\n|---|");
    report.splits.iter().for_each(|_| page.push_str("---|"));
    page.push('\n');
    let mut line = |name: &str, cell: &dyn Fn(&SplitReport) -> String| {
        let cells: Vec<String> = report.splits.iter().map(cell).collect();
        let _ = writeln!(page, "| {name} | {} |", cells.join(" | "));
    };
    line("rows", &|split| split.rows.to_string());
    line("users", &|split| split.users.map_or_else(|| "not given".to_owned(), |users| users.to_string()));
    line("rows with one history item: users who begin", &|split| split.starting_users.to_string());
    line("distinct targets", &|split| split.distinct_targets.to_string());
    line("history length, mean / median / max", &|split| {
        let length = &split.history_length;
        format!("{:.2} / {} / {}", length.mean, length.median, length.max)
    });
    line("rows at the history cap", &|split| percent(split.at_cap, split.rows));
    line("rows sharing their history with another target", &|split| percent(split.sharing_history, split.rows));
    line("rows whose target is in their history", &|split| percent(split.target_in_history, split.rows));
    line("rows whose target is their last item", &|split| percent(split.target_is_last, split.rows));
    line("rows whose target is not in train", &|split| percent(split.cold_targets, split.rows));
    line("time of the targets", &|split| {
        split.time.map_or_else(|| "not given".to_owned(), |(first, last)| format!("{first} .. {last}"))
    });
    let prompts = &report.prompts;
    let _ = writeln!(
        page,
        "\nReinforcement prompts come from the {} rows: {} to learn from, {} to watch.\n",
        prompts.source.name(),
        prompts.rl_train,
        prompts.rl_valid
    );
}

fn spelling(page: &mut String, report: &Report) {
    let spelling = &report.spelling;
    page.push_str("## Spelling\n\n| | |\n|---|---|\n");
    let mut line = |name: &str, value: String| {
        let _ = writeln!(page, "| {name} | {value} |");
    };
    let tokens = &spelling.tokens;
    line("tokens per item, mean / median / p95", format!("{:.1} / {} / {}", tokens.mean, tokens.median, tokens.p95));
    line("forced tokens", format!("{:.1} %", 100.0 * spelling.forced_share));
    if let Some(share) = spelling.forced_share_of_test_targets {
        line("forced tokens, weighted by test targets", format!("{:.1} %", 100.0 * share));
    }
    line("decisions per item", format!("{:.2}", spelling.decisions));
    line("position of the last decision", format!("{:.1}", spelling.last_decision));
    line("distinct spellings", spelling.leaves.to_string());
    line("items sharing a spelling", spelling.items_sharing_leaf.to_string());
    line("nodes", spelling.nodes.to_string());
    line("internal nodes (branching)", format!("{} ({})", spelling.internal, spelling.branching));
    line("core nodes", spelling.core.to_string());
    line("children: root / most / mean of branching nodes", {
        format!("{} / {} / {:.2}", spelling.root_children, spelling.max_children, spelling.mean_children)
    });
    let shares: Vec<String> = spelling.forced_by_position.iter().map(|share| format!("{:.0}", 100.0 * share)).collect();
    line("forced at position 1, 2, ... in %", shares.join(", "));
    page.push('\n');
}

fn baselines(page: &mut String, report: &Report) {
    page.push_str(
        "## Floor: counting rules on the test rows\n\n\
         Whole catalog, one target per row, by item id; in brackets without the rows whose target is in their own history.\n\n\
         | counted | rule | HR@5 | NDCG@5 | HR@10 | NDCG@10 | HR@20 | NDCG@20 |\n|---|---|---|---|---|---|---|---|\n",
    );
    let cells = |all: &RankScore, unseen: Option<&RankScore>| {
        let cell = |k: usize, pick: fn(&RankScore) -> &[f64; 3]| match unseen {
            Some(unseen) => format!("{:.4} ({:.4})", pick(all)[k], pick(unseen)[k]),
            None => format!("{:.4}", pick(all)[k]),
        };
        let pairs = (0..3).flat_map(|k| [cell(k, |score| &score.hit_ratio), cell(k, |score| &score.ndcg)]);
        pairs.collect::<Vec<_>>().join(" | ")
    };
    for baseline in &report.baselines {
        let counted = if baseline.with_valid { "train + valid" } else { "train" };
        let _ = writeln!(
            page,
            "| {counted} | {} | {} |",
            baseline.rule.name(),
            cells(&baseline.all, Some(&baseline.unseen))
        );
    }
    if let Some(ideal) = &report.ideal {
        let _ = writeln!(page, "| generator | ideal | {} |", cells(&ideal.score, None));
        let _ = writeln!(
            page,
            "\nThe ideal predictor ranks by the generator's own probabilities, hidden preferences included: no model can do \
             better on average. Its HR@1 is {:.4}.",
            ideal.hit_ratio_at_1
        );
    }
}
