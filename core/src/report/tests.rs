use super::*;
use crate::{
    dataset::Item,
    ids::{ItemIndex, RowId},
};

fn row(history: &[u32], target: u32) -> Row {
    let history = history.iter().copied().map(ItemIndex).collect();
    Row { id: RowId(0), user: None, history, target: ItemIndex(target), time: None }
}

/// Items as token paths, 0 the end token:
/// ```text
/// 1 2 0    1 3 0    1 3 4 0    5 6 7 0    5 6 7 0
/// ```
fn tree() -> PrefixTree {
    PrefixTree::build(&[vec![1, 2, 0], vec![1, 3, 0], vec![1, 3, 4, 0], vec![5, 6, 7, 0], vec![5, 6, 7, 0]]).unwrap()
}

#[test]
fn the_figures_of_a_small_tree_are_those_counted_by_hand() {
    let report = SpellingReport::measure(&tree(), &[row(&[0], 0), row(&[0], 3), row(&[0], 3)]);
    assert_eq!((report.tokens.mean, report.tokens.median, report.tokens.max), (3.6, 4, 4));
    // Decisions: token 1 or 5 at the root for all five items; 2 or 3 for the first three; 0 or 4 for the next two.
    assert_eq!(report.decisions, (5.0 + 3.0 + 2.0) / 5.0);
    assert_eq!(report.forced_share, 8.0 / 18.0);
    // Target 0 has one forced token of three, target 3 has three of four.
    assert_eq!(report.forced_share_of_test_targets, Some(7.0 / 11.0));
    assert_eq!(report.last_decision, (2.0 + 3.0 + 3.0 + 1.0 + 1.0) / 5.0);
    assert_eq!(report.forced_by_position, [0.0, 2.0 / 5.0, 3.0 / 5.0, 1.0]);
    // Nodes: root; 1, 12, 120, 13, 130, 134, 1340; 5, 56, 567, 5670.
    assert_eq!((report.nodes, report.leaves, report.internal), (12, 4, 8));
    // Branching: the root, 1 and 13; nothing else lies above a branching node.
    assert_eq!((report.branching, report.core, report.root_children, report.max_children), (3, 3, 2, 2));
    assert_eq!(report.items_sharing_leaf, 2);
}

#[test]
fn rows_are_counted_by_what_they_share() {
    let items = (0..5).map(|i| Item { id: i.to_string(), title: "x".repeat(i / 2 + 1) }).collect();
    let train = vec![row(&[0], 1), row(&[0], 2), row(&[0], 2), row(&[1], 2), row(&[2, 1], 2)];
    let test = vec![row(&[2, 1], 1), row(&[1], 3), row(&[3], 0)];
    let dataset = Dataset::new(items, train, vec![], test).unwrap();
    let prompts = PromptReport { source: Split::Valid, rl_train: 0, rl_valid: 0 };
    let report = Report::measure(&dataset, &tree(), 2, prompts, Dropped::default(), None);
    assert_eq!((report.repeated_titles, report.items_with_repeated_title), (2, 4));
    let [train, valid, test] = report.splits.as_slice() else { panic!("three splits") };
    assert_eq!((train.rows, train.distinct_targets, train.sharing_history, train.at_cap), (5, 2, 3, 1));
    assert_eq!((train.target_in_history, train.target_is_last, train.users), (1, 0, None));
    assert_eq!((valid.rows, valid.history_length), (0, Summary::default()));
    assert_eq!((test.target_in_history, test.target_is_last, test.cold_targets), (1, 1, 1));
    let page = report.to_markdown();
    assert!(page.contains("| rows | 5 | 0 | 3 |"), "{page}");
    assert!(page.contains("| train | POP |"), "{page}");
}

#[test]
fn a_summary_has_the_upper_median_and_the_lower_percentile() {
    let summary = Summary::of(1..=20);
    assert_eq!((summary.mean, summary.median, summary.p95, summary.max), (10.5, 11, 19, 20));
}
