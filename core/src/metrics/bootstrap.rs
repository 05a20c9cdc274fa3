//! Bootstrap over rows or users: confidence intervals and the comparison of two systems.

use super::MetricsError;
use crate::random::Seed;
use rand::Rng;
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, hash::Hash};

/// Which rows are drawn together.
///
/// Rows of one user are not independent; drawing whole users keeps the interval honest (cluster bootstrap).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clusters {
    /// `[rows]` cluster of each row, numbered in order of first appearance.
    of_row: Vec<u32>,
    num_clusters: u32,
}

impl Clusters {
    /// Every row on its own.
    pub fn rows(num_rows: u32) -> Self {
        Self { of_row: (0..num_rows).collect(), num_clusters: num_rows }
    }

    /// Rows with equal keys together, for example the users of the rows.
    pub fn by_key<K: Eq + Hash>(keys: impl IntoIterator<Item = K>) -> Self {
        let mut numbers = HashMap::new();
        let of_row = keys
            .into_iter()
            .map(|key| {
                let next = numbers.len() as u32;
                *numbers.entry(key).or_insert(next)
            })
            .collect();
        Self { of_row, num_clusters: numbers.len() as u32 }
    }

    /// Number of clusters.
    pub fn len(&self) -> usize {
        self.num_clusters as usize
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.of_row.is_empty()
    }
}

/// A mean with its confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The mean of the sample.
    pub estimate: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Two systems measured on the same rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PairedDifference {
    /// Mean of the first system.
    pub first: f64,
    /// Mean of the second system.
    pub second: f64,
    /// Second minus first.
    pub difference: Interval,
    /// Two-sided p value of "there is no difference".
    pub p_value: f64,
}

/// A percentile bootstrap: the sample is redrawn with replacement, cluster by cluster, and the quantiles of the redrawn
/// means bound the interval.
///
/// Resample `b` uses the stream (seed, "bootstrap", b), so every metric of a report sees the same redrawn users.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bootstrap {
    seed: Seed,
    resamples: u32,
    confidence: f64,
}

impl Bootstrap {
    /// A bootstrap with that many resamples and that confidence level, for example 2000 and 0.95.
    ///
    /// # Errors
    /// [`MetricsError::NoResamples`], or [`MetricsError::Confidence`] for a level outside the open interval from 0 to 1.
    pub fn new(seed: Seed, resamples: u32, confidence: f64) -> Result<Self, MetricsError> {
        if resamples == 0 {
            return Err(MetricsError::NoResamples);
        }
        if !(confidence > 0.0 && confidence < 1.0) {
            return Err(MetricsError::Confidence { value: confidence });
        }
        Ok(Self { seed, resamples, confidence })
    }

    /// The mean of a metric and its interval.
    ///
    /// # Shapes
    /// - `values`: `[rows]`, one per row of `clusters`
    ///
    /// # Errors
    /// [`MetricsError::NoRows`], [`MetricsError::Length`] and [`MetricsError::NotFinite`].
    pub fn mean(&self, values: &[f64], clusters: &Clusters) -> Result<Interval, MetricsError> {
        check("values", values, clusters)?;
        Ok(self.interval(mean(values), &self.resampled_means(values, clusters)))
    }

    /// Compares two systems on the same rows; every resample draws the same clusters for both.
    ///
    /// ```text
    /// p = 2 min(#(d_b <= 0) + 1, #(d_b >= 0) + 1) / (resamples + 1),  at most 1;  d_b the redrawn difference
    /// ```
    ///
    /// # Shapes
    /// - `first`, `second`: `[rows]`, one per row of `clusters`
    ///
    /// # Errors
    /// [`MetricsError::NoRows`], [`MetricsError::Length`] and [`MetricsError::NotFinite`].
    pub fn paired(&self, first: &[f64], second: &[f64], clusters: &Clusters) -> Result<PairedDifference, MetricsError> {
        check("first", first, clusters)?;
        check("second", second, clusters)?;
        let differences: Vec<f64> = first.iter().zip(second).map(|(first, second)| second - first).collect();
        let resampled = self.resampled_means(&differences, clusters);
        let at_most_zero = resampled.iter().filter(|&&difference| difference <= 0.0).count();
        let at_least_zero = resampled.iter().filter(|&&difference| difference >= 0.0).count();
        let tail = (at_most_zero.min(at_least_zero) + 1) as f64 / (resampled.len() + 1) as f64;
        Ok(PairedDifference {
            first: mean(first),
            second: mean(second),
            difference: self.interval(mean(&differences), &resampled),
            p_value: (2.0 * tail).min(1.0),
        })
    }

    /// The means of the redrawn samples, ascending.
    fn resampled_means(&self, values: &[f64], clusters: &Clusters) -> Vec<f64> {
        let mut totals = vec![(0.0, 0u32); clusters.len()];
        for (&value, &cluster) in values.iter().zip(&clusters.of_row) {
            let (sum, count) = &mut totals[cluster as usize];
            *sum += value;
            *count += 1;
        }
        let mut means: Vec<f64> = (0..self.resamples)
            .map(|resample| {
                let mut rng = self.seed.stream("bootstrap", &[u64::from(resample)]);
                let (mut sum, mut count) = (0.0, 0u64);
                for _ in 0..clusters.num_clusters {
                    let (cluster_sum, cluster_count) = totals[rng.random_range(0..clusters.num_clusters) as usize];
                    sum += cluster_sum;
                    count += u64::from(cluster_count);
                }
                sum / count as f64
            })
            .collect();
        means.sort_unstable_by(f64::total_cmp);
        means
    }

    fn interval(&self, estimate: f64, resampled: &[f64]) -> Interval {
        let tail = (1.0 - self.confidence) / 2.0;
        Interval { estimate, low: quantile(resampled, tail), high: quantile(resampled, 1.0 - tail) }
    }
}

fn check(what: &'static str, values: &[f64], clusters: &Clusters) -> Result<(), MetricsError> {
    if clusters.is_empty() {
        return Err(MetricsError::NoRows);
    }
    if values.len() != clusters.of_row.len() {
        return Err(MetricsError::Length { what, expected: clusters.of_row.len(), got: values.len() });
    }
    match values.iter().enumerate().find(|(_, value)| !value.is_finite()) {
        Some((row, &value)) => Err(MetricsError::NotFinite { row, value }),
        None => Ok(()),
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Linear interpolation between the order statistics of an ascending, non-empty list.
fn quantile(sorted: &[f64], probability: f64) -> f64 {
    let position = probability * (sorted.len() - 1) as f64;
    let (below, fraction) = (position.floor() as usize, position.fract());
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + fraction * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bootstrap(seed: u64) -> Bootstrap {
        Bootstrap::new(Seed(seed), 300, 0.95).unwrap()
    }

    /// Values around a known mean: a part shared by the `per_user` rows of a user, and a part of the row.
    fn sample(experiment: u64, num_users: u32, per_user: u32) -> (Vec<f64>, Clusters) {
        let mut rng = Seed(17).stream("sample", &[experiment]);
        let mut values = Vec::new();
        for _ in 0..num_users {
            let user: f64 = rng.random();
            values.extend((0..per_user).map(|_| user + 0.2 * rng.random::<f64>()));
        }
        let users = (0..num_users * per_user).map(|row| row / per_user);
        (values, Clusters::by_key(users))
    }

    /// Share of 400 simulated experiments whose interval holds the true mean 0.6.
    fn cover_rate(interval: impl Fn(u64) -> Interval) -> f64 {
        let covers = |&experiment: &u64| {
            let interval = interval(experiment);
            interval.low <= 0.6 && 0.6 <= interval.high
        };
        (0..400).filter(covers).count() as f64 / 400.0
    }

    #[test]
    fn quantiles_interpolate_between_order_statistics() {
        let sorted = [1.0, 2.0, 4.0];
        assert_eq!([0.0, 0.25, 0.5, 0.75, 1.0].map(|p| quantile(&sorted, p)), [1.0, 1.5, 2.0, 3.0, 4.0]);
        assert_eq!(quantile(&[7.0], 0.3), 7.0);
    }

    #[test]
    fn an_interval_covers_the_true_mean_about_as_often_as_it_says() {
        let rate = cover_rate(|experiment| {
            let (values, clusters) = sample(experiment, 50, 1);
            bootstrap(experiment).mean(&values, &clusters).unwrap()
        });
        assert!((0.915..=0.975).contains(&rate), "{rate}");
    }

    #[test]
    fn drawing_users_stays_honest_where_drawing_rows_does_not() {
        let over_users = cover_rate(|experiment| {
            let (values, clusters) = sample(experiment, 40, 6);
            bootstrap(experiment).mean(&values, &clusters).unwrap()
        });
        let over_rows = cover_rate(|experiment| {
            let (values, _) = sample(experiment, 40, 6);
            bootstrap(experiment).mean(&values, &Clusters::rows(240)).unwrap()
        });
        assert!((0.915..=0.975).contains(&over_users), "{over_users}");
        assert!(over_rows < 0.7, "{over_rows}");
    }

    #[test]
    fn the_width_is_that_of_the_normal_approximation() {
        let (values, clusters) = sample(1, 2000, 1);
        let bootstrap = Bootstrap::new(Seed(3), 2000, 0.95).unwrap();
        let interval = bootstrap.mean(&values, &clusters).unwrap();
        let deviation = ((1.0 + 0.04) / 12.0f64).sqrt();
        let expected = 2.0 * 1.96 * deviation / 2000f64.sqrt();
        assert!(((interval.high - interval.low) / expected - 1.0).abs() < 0.08, "{interval:?} vs {expected}");
        assert!((interval.low + interval.high - 2.0 * interval.estimate).abs() < 0.1 * expected);
    }

    #[test]
    fn the_paired_test_rejects_equal_systems_about_as_often_as_it_says() {
        let rejects = |&experiment: &u64| {
            let (first, clusters) = sample(2 * experiment, 50, 1);
            let (second, _) = sample(2 * experiment + 1, 50, 1);
            bootstrap(experiment).paired(&first, &second, &clusters).unwrap().p_value < 0.05
        };
        let rate = (0..400).filter(rejects).count() as f64 / 400.0;
        assert!((0.02..=0.09).contains(&rate), "{rate}");
    }

    #[test]
    fn a_small_but_steady_gain_is_found_only_by_pairing() {
        let (first, clusters) = sample(5, 200, 2);
        let second: Vec<f64> =
            first.iter().enumerate().map(|(row, value)| value + if row % 2 == 0 { 0.0 } else { 0.01 }).collect();
        let paired = bootstrap(1).paired(&first, &second, &clusters).unwrap();
        assert!((paired.difference.estimate - 0.005).abs() < 1e-12);
        assert!((paired.second - paired.first - 0.005).abs() < 1e-12);
        assert_eq!(paired.p_value, 2.0 / 301.0);
        let alone = bootstrap(1).mean(&second, &clusters).unwrap();
        assert!(alone.low < paired.first && paired.first < alone.high);
    }

    #[test]
    fn a_system_does_not_differ_from_itself_and_swapping_two_flips_the_sign() {
        let (first, clusters) = sample(5, 30, 2);
        let (second, _) = sample(6, 30, 2);
        let same = bootstrap(1).paired(&first, &first, &clusters).unwrap();
        assert_eq!((same.difference.low, same.difference.high, same.p_value), (0.0, 0.0, 1.0));
        let (there, back) = (
            bootstrap(1).paired(&first, &second, &clusters).unwrap(),
            bootstrap(1).paired(&second, &first, &clusters).unwrap(),
        );
        assert_eq!(there.p_value, back.p_value);
        assert!((there.difference.low + back.difference.high).abs() < 1e-12);
    }

    #[test]
    fn one_seed_gives_one_answer() {
        let (values, clusters) = sample(5, 30, 2);
        assert_eq!(bootstrap(1).mean(&values, &clusters), bootstrap(1).mean(&values, &clusters));
        assert_ne!(bootstrap(1).mean(&values, &clusters), bootstrap(2).mean(&values, &clusters));
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        let clusters = Clusters::rows(2);
        assert_eq!(bootstrap(1).mean(&[], &Clusters::rows(0)), Err(MetricsError::NoRows));
        let error = bootstrap(1).mean(&[1.0], &clusters).unwrap_err();
        assert_eq!(error.to_string(), "`values` has 1 entries: expected 2, one per row");
        assert_eq!(
            bootstrap(1).mean(&[1.0, f64::INFINITY], &clusters),
            Err(MetricsError::NotFinite { row: 1, value: f64::INFINITY })
        );
        assert_eq!(Bootstrap::new(Seed(1), 0, 0.95), Err(MetricsError::NoResamples));
        assert!(Bootstrap::new(Seed(1), 10, 1.0).is_err());
    }
}
