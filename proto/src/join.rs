//! What a worker is told when it joins a run.

use crate::{WireError, error::digest, v1};
use riser_core::{
    config::HostPort,
    digest::Digest,
    ids::{Incarnation, WorkerId},
    logprob_space::LogprobSpace,
    random::Seed,
    selection::{Fill, Pick, Selection},
};

/// Longest `config.json` that is believed.
const MAX_MODEL_CONFIG_BYTES: u64 = 1 << 20;

/// Most samples per prompt that are believed.
const MAX_SAMPLES: u32 = 1 << 16;

/// What a worker has to know about a run, besides the catalog and the policies.
#[derive(Debug, Clone, PartialEq)]
pub struct RunDescription {
    /// Digest of configuration, data and start policy.
    pub run: Digest,
    /// The model's `config.json` as Hugging Face writes it.
    pub model_config: String,
    /// How groups are drawn and rewarded.
    pub sampling: SamplingRules,
}

/// How groups are drawn and rewarded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplingRules {
    /// Key of all draws.
    pub seed: Seed,
    /// Space of the recorded log-probabilities.
    pub space: LogprobSpace,
    /// Divides the logits.
    pub temperature: f32,
    /// Samples drawn per prompt.
    pub samples: usize,
    /// How they are thinned out.
    pub selection: Selection,
    /// Reward of the target.
    pub reward_hit: f32,
    /// Reward of any other item.
    pub reward_miss: f32,
}

/// Where the learner can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LearnerPlace {
    /// Host and port.
    pub address: String,
    /// Which start of the learner this is, from 1.
    pub incarnation: Incarnation,
}

/// A worker's place in a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Welcome {
    /// Its number.
    pub worker: WorkerId,
    /// The run.
    pub run: RunDescription,
    /// Where the learner was a moment ago.
    pub learner: LearnerPlace,
    /// Where the worker is that policies are taken from; `None` for the learner.
    pub parent: Option<HostPort>,
}

/// The answer to a worker that wants to join.
#[derive(Debug, Clone, PartialEq)]
pub enum JoinReply {
    /// It belongs to the run now.
    Welcome(Box<Welcome>),
    /// There is no learner yet.
    Wait,
    /// The run is over.
    Done,
}

/// Reads the place of a worker that hands policies on; an empty text is none.
///
/// # Errors
/// [`WireError::Range`] if it is neither empty nor HOST:PORT.
pub fn place_of(field: &'static str, text: String) -> Result<Option<HostPort>, WireError> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = |_| WireError::Range { field, value: format!("{text:?}"), rule: "HOST:PORT" };
    text.parse().map(Some).map_err(wrong)
}

impl From<LearnerPlace> for v1::LearnerPlace {
    fn from(LearnerPlace { address, incarnation }: LearnerPlace) -> Self {
        Self { address, incarnation: incarnation.0 }
    }
}

impl TryFrom<v1::LearnerPlace> for LearnerPlace {
    type Error = WireError;

    fn try_from(v1::LearnerPlace { address, incarnation }: v1::LearnerPlace) -> Result<Self, WireError> {
        let port = address.rsplit_once(':').and_then(|(host, port)| (!host.is_empty()).then_some(port));
        if port.and_then(|port| port.parse::<u16>().ok()).is_none_or(|port| port == 0) {
            return Err(WireError::Range { field: "address", value: format!("{address:?}"), rule: "HOST:PORT" });
        }
        if incarnation == 0 {
            return Err(WireError::Missing { field: "incarnation" });
        }
        Ok(Self { address, incarnation: Incarnation(incarnation) })
    }
}

impl From<RunDescription> for v1::RunDescription {
    fn from(RunDescription { run, model_config, sampling }: RunDescription) -> Self {
        Self { run: run.as_bytes().to_vec().into(), model_config, sampling: Some(sampling.into()) }
    }
}

impl TryFrom<v1::RunDescription> for RunDescription {
    type Error = WireError;

    fn try_from(message: v1::RunDescription) -> Result<Self, WireError> {
        let got = message.model_config.len() as u64;
        if got > MAX_MODEL_CONFIG_BYTES {
            return Err(WireError::TooLarge { field: "model_config", got, limit: MAX_MODEL_CONFIG_BYTES });
        }
        Ok(Self {
            run: digest("run", &message.run)?,
            model_config: message.model_config,
            sampling: message.sampling.ok_or(WireError::Missing { field: "sampling" })?.try_into()?,
        })
    }
}

impl From<SamplingRules> for v1::SamplingRules {
    fn from(rules: SamplingRules) -> Self {
        let SamplingRules { seed, space, temperature, samples, selection, reward_hit, reward_miss } = rules;
        let Selection { group, pick, fill, keep_hit } = selection;
        let space = match space {
            LogprobSpace::Vocabulary => v1::LogprobSpace::Vocabulary,
            LogprobSpace::Catalog => v1::LogprobSpace::Catalog,
        };
        let pick = match pick {
            Pick::FirstSeen => v1::Pick::FirstSeen,
            Pick::Uniform => v1::Pick::Uniform,
            Pick::ByCount => v1::Pick::ByCount,
        };
        let fill = match fill {
            Fill::Appearance => v1::Fill::Appearance,
            Fill::RoundRobinByCount => v1::Fill::RoundRobinByCount,
            Fill::None => v1::Fill::None,
        };
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Self {
            seed: seed.0,
            space: space.into(),
            temperature,
            samples: count(samples),
            group: count(group),
            pick: pick.into(),
            fill: fill.into(),
            keep_hit,
            reward_hit,
            reward_miss,
        }
    }
}

impl TryFrom<v1::SamplingRules> for SamplingRules {
    type Error = WireError;

    fn try_from(message: v1::SamplingRules) -> Result<Self, WireError> {
        let v1::SamplingRules { seed, temperature, samples, group, keep_hit, reward_hit, reward_miss, .. } = message;
        let space = match v1::LogprobSpace::try_from(message.space) {
            Ok(v1::LogprobSpace::Vocabulary) => LogprobSpace::Vocabulary,
            Ok(v1::LogprobSpace::Catalog) => LogprobSpace::Catalog,
            _ => return Err(WireError::Unknown { field: "space", value: message.space }),
        };
        let pick = match v1::Pick::try_from(message.pick) {
            Ok(v1::Pick::FirstSeen) => Pick::FirstSeen,
            Ok(v1::Pick::Uniform) => Pick::Uniform,
            Ok(v1::Pick::ByCount) => Pick::ByCount,
            _ => return Err(WireError::Unknown { field: "pick", value: message.pick }),
        };
        let fill = match v1::Fill::try_from(message.fill) {
            Ok(v1::Fill::Appearance) => Fill::Appearance,
            Ok(v1::Fill::RoundRobinByCount) => Fill::RoundRobinByCount,
            Ok(v1::Fill::None) => Fill::None,
            _ => return Err(WireError::Unknown { field: "fill", value: message.fill }),
        };
        let rule = |field, value: &dyn std::fmt::Display, rule, kept| match kept {
            true => Ok(()),
            false => Err(WireError::Range { field, value: value.to_string(), rule }),
        };
        rule("temperature", &temperature, "a number above 0", temperature > 0.0 && temperature.is_finite())?;
        rule("samples", &samples, "2 to 65536", (2..=MAX_SAMPLES).contains(&samples))?;
        rule("group", &group, "2 to `samples`", (2..=samples).contains(&group))?;
        rule("reward_hit", &reward_hit, "a finite number above `reward_miss`", {
            reward_hit.is_finite() && reward_miss.is_finite() && reward_hit > reward_miss
        })?;
        let selection = Selection { group: group as usize, pick, fill, keep_hit };
        let (seed, samples) = (Seed(seed), samples as usize);
        Ok(Self { seed, space, temperature, samples, selection, reward_hit, reward_miss })
    }
}

impl From<JoinReply> for v1::JoinReply {
    fn from(reply: JoinReply) -> Self {
        use v1::join_reply::Outcome;
        let outcome = match reply {
            JoinReply::Welcome(welcome) => {
                let Welcome { worker, run, learner, parent } = *welcome;
                let parent = parent.map(String::from).unwrap_or_default();
                let (run, learner) = (Some(run.into()), Some(learner.into()));
                Outcome::Welcome(v1::Welcome { worker: worker.0, run, learner, parent })
            }
            JoinReply::Wait => Outcome::Wait(v1::Wait {}),
            JoinReply::Done => Outcome::Done(v1::Done {}),
        };
        Self { outcome: Some(outcome) }
    }
}

impl TryFrom<v1::JoinReply> for JoinReply {
    type Error = WireError;

    fn try_from(reply: v1::JoinReply) -> Result<Self, WireError> {
        use v1::join_reply::Outcome;
        match reply.outcome.ok_or(WireError::Missing { field: "outcome" })? {
            Outcome::Welcome(welcome) => Ok(Self::Welcome(Box::new(Welcome {
                worker: WorkerId(welcome.worker),
                run: welcome.run.ok_or(WireError::Missing { field: "run" })?.try_into()?,
                learner: welcome.learner.ok_or(WireError::Missing { field: "learner" })?.try_into()?,
                parent: place_of("parent", welcome.parent)?,
            }))),
            Outcome::Wait(v1::Wait {}) => Ok(Self::Wait),
            Outcome::Done(v1::Done {}) => Ok(Self::Done),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rules() -> SamplingRules {
        SamplingRules {
            seed: Seed(7),
            space: LogprobSpace::Catalog,
            temperature: 0.75,
            samples: 20,
            selection: Selection { group: 16, pick: Pick::ByCount, fill: Fill::RoundRobinByCount, keep_hit: true },
            reward_hit: 1.0,
            reward_miss: -1.0,
        }
    }

    fn welcome(sampling: SamplingRules) -> JoinReply {
        let learner = LearnerPlace { address: "learner.example:7471".to_owned(), incarnation: Incarnation(2) };
        let run = RunDescription { run: Digest::of(b"run"), model_config: "{}".to_owned(), sampling };
        let parent = Some("worker.example:7472".parse().unwrap());
        JoinReply::Welcome(Box::new(Welcome { worker: WorkerId(3), run, learner, parent }))
    }

    proptest! {
        #[test]
        fn a_welcome_survives_the_wire(
            seed: u64, keep_hit: bool, group in 2usize..40, more in 0usize..9, miss in -2f32..0.0, hit in 0.1f32..2.0,
            pick in prop::sample::select(vec![Pick::FirstSeen, Pick::Uniform, Pick::ByCount]),
            fill in prop::sample::select(vec![Fill::Appearance, Fill::RoundRobinByCount, Fill::None]),
            space in prop::sample::select(vec![LogprobSpace::Vocabulary, LogprobSpace::Catalog]),
        ) {
            let selection = Selection { group, pick, fill, keep_hit };
            let (samples, reward_hit, reward_miss) = (group + more, hit, miss);
            let sent = welcome(SamplingRules {
                seed: Seed(seed), space, samples, selection, reward_hit, reward_miss, ..rules()
            });
            prop_assert_eq!(JoinReply::try_from(v1::JoinReply::from(sent.clone())).unwrap(), sent);
        }
    }

    #[test]
    fn rules_that_make_no_sense_are_refused_by_name() {
        type Lie = fn(&mut v1::SamplingRules);
        let lies: [(Lie, &str); 6] = [
            (|rules| rules.temperature = 0.0, "`temperature` is 0, expected a number above 0"),
            (|rules| rules.temperature = f32::NAN, "`temperature` is NaN, expected a number above 0"),
            (|rules| rules.group = 21, "`group` is 21, expected 2 to `samples`"),
            (|rules| rules.samples = 1 << 20, "`samples` is 1048576, expected 2 to 65536"),
            (|rules| rules.reward_hit = -1.0, "`reward_hit` is -1, expected a finite number above `reward_miss`"),
            (|rules| rules.pick = 9, "`pick` has the unknown value 9"),
        ];
        for (lie, message) in lies {
            let mut sent = v1::SamplingRules::from(rules());
            lie(&mut sent);
            assert_eq!(SamplingRules::try_from(sent).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn a_parent_that_is_nowhere_is_refused_and_none_is_the_learner() {
        let parent = |text: &str| {
            let JoinReply::Welcome(welcome) = welcome(rules()) else { unreachable!() };
            let mut sent = v1::JoinReply::from(JoinReply::Welcome(welcome));
            let Some(v1::join_reply::Outcome::Welcome(inner)) = &mut sent.outcome else { unreachable!() };
            text.clone_into(&mut inner.parent);
            JoinReply::try_from(sent).map(|reply| match reply {
                JoinReply::Welcome(welcome) => welcome.parent.map(String::from),
                _ => unreachable!(),
            })
        };
        assert_eq!(parent("").unwrap(), None);
        assert_eq!(parent("worker:1").unwrap(), Some("worker:1".to_owned()));
        assert_eq!(parent("worker").unwrap_err().to_string(), "`parent` is \"worker\", expected HOST:PORT");
    }

    #[test]
    fn an_address_without_host_or_port_is_refused() {
        for address in ["", "host", ":80", "host:", "host:0", "host:99999"] {
            let place = v1::LearnerPlace { address: address.to_owned(), incarnation: 1 };
            assert!(LearnerPlace::try_from(place).is_err(), "{address:?}");
        }
        let place = v1::LearnerPlace { address: "[::1]:80".to_owned(), incarnation: 1 };
        assert!(LearnerPlace::try_from(place).is_ok());
    }
}
