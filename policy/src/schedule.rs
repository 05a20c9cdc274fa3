//! Learning-rate schedules: linear warm-up, then constant, linear or cosine decay to 0.

use serde::{Deserialize, Serialize};

/// What happens after warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// Stays at the peak.
    Constant,
    /// Falls in a straight line to 0 at the last step.
    Linear,
    /// Falls along half a cosine to 0 at the last step.
    Cosine,
}

/// A schedule over a known number of steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Largest learning rate.
    pub peak: f64,
    /// Steps of linear warm-up.
    pub warmup_steps: u64,
    /// Steps in all.
    pub total_steps: u64,
    /// What happens after warm-up.
    pub decay: Decay,
}

impl Schedule {
    /// Learning rate of the update that makes step `step` (0-based).
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.peak * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let span = self.total_steps.saturating_sub(self.warmup_steps).max(1) as f64;
        let done = ((step - self.warmup_steps) as f64 / span).min(1.0);
        match self.decay {
            Decay::Constant => self.peak,
            Decay::Linear => self.peak * (1.0 - done),
            Decay::Cosine => self.peak * 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_to_its_peak_and_falls_to_zero() {
        let schedule = |decay| Schedule { peak: 2.0, warmup_steps: 4, total_steps: 12, decay };
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        for decay in [Decay::Constant, Decay::Linear, Decay::Cosine] {
            close(schedule(decay).at(0), 0.5);
            close(schedule(decay).at(3), 2.0);
            close(schedule(decay).at(4), 2.0);
        }
        close(schedule(Decay::Constant).at(11), 2.0);
        close(schedule(Decay::Linear).at(8), 1.0);
        close(schedule(Decay::Cosine).at(8), 1.0);
        close(schedule(Decay::Cosine).at(12), 0.0);
    }
}
