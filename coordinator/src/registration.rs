//! Which learner is believed: of two, the one that was started later.

use crate::schedule::ScheduleError;
use riser_proto::join::LearnerPlace;

/// What a registration means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    /// A learner that was not known, in place of its predecessor if there was one.
    New,
    /// A sign of life of the learner that is known, perhaps from another address.
    Known,
}

/// Why a learner is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RegistrationError {
    /// A later one has taken its place.
    #[error("incarnation {got} of the learner has been replaced by incarnation {current}")]
    Superseded {
        /// The incarnation of whoever registers.
        got: u64,
        /// The incarnation that is believed.
        current: u64,
    },
    /// It is at a version that cannot be.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
}

impl Registration {
    /// Compares whoever registers with whoever is known.
    ///
    /// # Errors
    /// [`RegistrationError::Superseded`].
    pub fn judge(known: Option<&LearnerPlace>, place: &LearnerPlace) -> Result<Self, RegistrationError> {
        let got = place.incarnation;
        match known.map(|known| known.incarnation) {
            Some(current) if got < current => Err(RegistrationError::Superseded { got, current }),
            Some(current) if got == current => Ok(Self::Known),
            _ => Ok(Self::New),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(incarnation: u64) -> LearnerPlace {
        LearnerPlace { address: format!("host:{incarnation}"), incarnation }
    }

    #[test]
    fn a_later_learner_replaces_an_earlier_one_for_good() {
        assert_eq!(Registration::judge(None, &place(1)), Ok(Registration::New));
        assert_eq!(Registration::judge(Some(&place(1)), &place(3)), Ok(Registration::New));
        assert_eq!(Registration::judge(Some(&place(3)), &place(3)), Ok(Registration::Known));
        let superseded = RegistrationError::Superseded { got: 2, current: 3 };
        assert_eq!(Registration::judge(Some(&place(3)), &place(2)), Err(superseded));
    }
}
