//! From ranked lists to figures: HR and NDCG with intervals, for all rows and for rows whose target is new to the user; and
//! what the whole distribution says, where it was computed.

use crate::outlook::Outlook;
use riser_core::ids::ItemIndex;
use riser_core::metrics::{Bootstrap, Clusters, Exposure, Interval, Metric, MetricsError, Rank};
use riser_core::random::Seed;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Cutoffs of every report, as far as its lists are long.
const CUTOFFS: [u32; 8] = [1, 5, 10, 20, 50, 100, 500, 1000];

const RESAMPLES: u32 = 2000;
const CONFIDENCE: f64 = 0.95;

/// What a policy ranked for the rows of a split.
#[derive(Debug, Default)]
pub struct Ranking {
    /// Position of the target in the list of each row.
    pub ranks: Vec<Option<Rank>>,
    /// Whether the target is in the row's history.
    pub is_repeat: Vec<bool>,
    /// User of each row; rows without a user stand for themselves.
    pub users: Vec<String>,
    /// The recommended lists.
    pub lists: Vec<Vec<ItemIndex>>,
    /// What the whole distribution of each row says; empty unless it was computed.
    pub outlooks: Vec<Outlook>,
    /// Recommended token paths that spell no item of the catalog.
    pub invalid_items: u64,
}

/// Figures of one policy.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Summary {
    /// Number of rows.
    pub rows: usize,
    /// Figures over all rows.
    pub metrics: Vec<Figure>,
    /// Number of rows whose target is not in the history.
    pub rows_with_new_target: usize,
    /// Figures over those rows.
    pub metrics_with_new_target: Vec<Figure>,
    /// Share of the catalog that is in any of the lists of 10.
    pub coverage_at_10: f64,
    /// Recommended token paths that spell no item of the catalog.
    pub invalid_items: u64,
}

/// A metric with its 95 % interval.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Figure {
    /// For example `HR@10`.
    pub metric: String,
    /// The mean and its interval.
    #[serde(flatten)]
    pub interval: Interval,
}

/// Two checkpoints measured on the same rows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Comparison {
    /// What was measured, in a sentence.
    pub caption: String,
    /// Name of the checkpoint to start from.
    pub before_name: String,
    /// Name of the checkpoint to judge.
    pub after_name: String,
    /// One row for each metric.
    pub rows: Vec<ComparedMetric>,
}

/// One metric of two checkpoints with the interval of its paired difference.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ComparedMetric {
    /// For example `HR@10`.
    pub metric: String,
    /// Value of the first checkpoint.
    pub before: f64,
    /// Value of the second checkpoint.
    pub after: f64,
    /// Lower end of the 95 % interval of `after - before`.
    pub low: f64,
    /// Upper end of the 95 % interval of `after - before`.
    pub high: f64,
    /// Two-sided p value of no difference.
    pub p_value: f64,
}

impl Comparison {
    /// Name of the file beside a report.
    pub const FILE: &'static str = "comparison.json";

    /// Column names and cells, for terminals.
    pub fn cells(&self) -> (Vec<&str>, Vec<Vec<String>>) {
        let header = vec!["metric", &self.before_name, &self.after_name, "difference", "95% interval"];
        let rows = self.rows.iter().map(|row| {
            let interval = format!("{:+.4} .. {:+.4}", row.low, row.high);
            let difference = format!("{:+.4}", row.after - row.before);
            vec![row.metric.clone(), format!("{:.4}", row.before), format!("{:.4}", row.after), difference, interval]
        });
        (header, rows.collect())
    }
}

/// The cutoffs that a list of `depth` items can answer.
pub(crate) fn cutoffs(depth: usize) -> impl Iterator<Item = u32> {
    CUTOFFS.into_iter().filter(move |cutoff| *cutoff as usize <= depth)
}

impl Ranking {
    /// Adds the list of one row, best first. An `outlook` knows the target's rank behind the end of the list too; there is one
    /// for every row or for none.
    pub fn record(
        &mut self,
        list: Vec<ItemIndex>,
        outlook: Option<Outlook>,
        target: ItemIndex,
        history: &[ItemIndex],
        user: Option<&str>,
    ) {
        let row = self.ranks.len();
        self.ranks.push(outlook.as_ref().map_or_else(|| Rank::of(target, &list), |outlook| Some(outlook.rank)));
        self.outlooks.extend(outlook);
        self.is_repeat.push(history.contains(&target));
        self.users.push(user.map_or_else(|| format!("row {row}"), |user| format!("user {user}")));
        self.lists.push(list);
    }

    /// All figures, with intervals by bootstrap over users.
    ///
    /// # Errors
    /// [`MetricsError::NoRows`] if nothing was recorded.
    pub fn summary(&self, top_k: usize, num_items: usize, seed: Seed) -> Result<Summary, MetricsError> {
        let new: Vec<usize> = (0..self.ranks.len()).filter(|row| !self.is_repeat[*row]).collect();
        let all: Vec<usize> = (0..self.ranks.len()).collect();
        let mut exposure = Exposure::new(num_items);
        for list in &self.lists {
            exposure.record(&list[..list.len().min(10)])?;
        }
        Ok(Summary {
            rows: all.len(),
            metrics: self.figures(&all, top_k, seed)?,
            rows_with_new_target: new.len(),
            metrics_with_new_target: if new.is_empty() { Vec::new() } else { self.figures(&new, top_k, seed)? },
            coverage_at_10: exposure.coverage(),
            invalid_items: self.invalid_items,
        })
    }

    fn figures(&self, rows: &[usize], top_k: usize, seed: Seed) -> Result<Vec<Figure>, MetricsError> {
        let bootstrap = Bootstrap::new(seed, RESAMPLES, CONFIDENCE)?;
        let clusters = Clusters::by_key(rows.iter().map(|row| self.users[*row].as_str()));
        let figure = |(metric, values): (String, Vec<f64>)| {
            let values: Vec<f64> = rows.iter().map(|row| values[*row]).collect();
            Ok(Figure { metric, interval: bootstrap.mean(&values, &clusters)? })
        };
        self.columns(top_k).into_iter().map(figure).collect()
    }

    /// Every metric that lists of `top_k` items or whole distributions can answer: its name and one value per row.
    fn columns(&self, top_k: usize) -> Vec<(String, Vec<f64>)> {
        let depth = self.outlooks.first().map_or(top_k, Outlook::num_items);
        let pairs = Metric::ALL.into_iter().flat_map(|metric| cutoffs(depth).map(move |cutoff| (metric, cutoff)));
        let column =
            |(metric, cutoff): (Metric, u32)| (format!("{metric}@{cutoff}"), metric.values(&self.ranks, cutoff));
        pairs.map(column).chain(Outlook::columns(&self.outlooks)).collect()
    }

    /// The means over all rows by name, without intervals.
    pub fn means(&self, top_k: usize) -> BTreeMap<String, f64> {
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let columns = self.columns(top_k).into_iter().filter(|(_, values)| !values.is_empty());
        columns.map(|(name, values)| (name, mean(&values))).collect()
    }
}

/// Compares two policies on the same rows, by bootstrap over users.
///
/// # Errors
/// [`MetricsError`] if the rows are not the same or there are none.
pub fn compare(
    before: (&str, &Ranking),
    after: (&str, &Ranking),
    caption: String,
    top_k: usize,
    seed: Seed,
) -> Result<Comparison, MetricsError> {
    let bootstrap = Bootstrap::new(seed, RESAMPLES, CONFIDENCE)?;
    let clusters = Clusters::by_key(before.1.users.iter().map(String::as_str));
    let row = |((name, first), (_, second)): ((String, Vec<f64>), (String, Vec<f64>))| {
        let paired = bootstrap.paired(&first, &second, &clusters)?;
        Ok(ComparedMetric {
            metric: name,
            before: paired.first,
            after: paired.second,
            low: paired.difference.low,
            high: paired.difference.high,
            p_value: paired.p_value,
        })
    };
    let columns = before.1.columns(top_k).into_iter().zip(after.1.columns(top_k));
    let rows = columns.map(row).collect::<Result<_, _>>()?;
    Ok(Comparison { caption, before_name: before.0.to_owned(), after_name: after.0.to_owned(), rows })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten users with two rows each; the target of every `hit_every`-th row is ranked second.
    fn ranking(hit_every: u32) -> Ranking {
        let mut ranking = Ranking::default();
        for row in 0..20 {
            let target = ItemIndex(if row % hit_every == 0 { 1 } else { 9 });
            let history = if row < 5 { vec![target] } else { vec![ItemIndex(7)] };
            ranking.record(vec![ItemIndex(0), ItemIndex(1)], None, target, &history, Some(&(row / 2).to_string()));
        }
        ranking
    }

    #[test]
    fn figures_of_new_targets_leave_out_the_repeats() {
        let summary = ranking(2).summary(10, 4, Seed(1)).unwrap();
        let value =
            |figures: &[Figure], name: &str| figures.iter().find(|f| f.metric == name).unwrap().interval.estimate;
        assert_eq!((summary.rows, summary.rows_with_new_target), (20, 15));
        assert_eq!((value(&summary.metrics, "HR@1"), value(&summary.metrics, "HR@5")), (0.0, 0.5));
        assert_eq!(value(&summary.metrics_with_new_target, "HR@10"), 7.0 / 15.0);
        assert_eq!((summary.coverage_at_10, summary.metrics.len()), (0.5, 6));
    }

    #[test]
    fn a_comparison_names_both_and_brackets_the_difference() {
        let compared = compare(("SFT", &ranking(4)), ("RISER", &ranking(2)), String::new(), 5, Seed(1)).unwrap();
        let row = compared.rows.iter().find(|row| row.metric == "HR@5").unwrap();
        assert_eq!((row.before, row.after), (0.25, 0.5));
        assert!(row.low > 0.0 && row.low < 0.25 && row.high > 0.25, "{row:?}");
    }
}
