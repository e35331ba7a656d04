//! When a change is repeated that did not come about.

use jiff::SignedDuration;

use crate::decide::{doubled, share};

/// After this time is repeated what needs another right, or a change by a person.
pub const AFTER_REFUSAL: SignedDuration = SignedDuration::from_mins(10);

/// The first wait after an answer that speaks of another change. The workload or the object is looked at again before the change is repeated.
const AFTER_OUTDATED: SignedDuration = SignedDuration::from_secs(1);

/// The first wait after a failure that may pass by itself.
const AFTER_FAILURE: SignedDuration = SignedDuration::from_secs(30);

/// So many changes in a row are hardly overtaken by others. With the waits between them, this takes about 15 seconds.
const MOST_OUTDATED: u32 = 5;

/// So many failures in a row are told. With the waits between them, this takes about 90 seconds.
const MOST_FAILED: u32 = 3;

/// What the API server answered to a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unchanged {
    /// It refused, or a webhook did that it asked.
    Refused,
    /// 409 or 404: another change came first. A webhook may say so too, and then the next answer is the same.
    Outdated,
    /// It failed, or a webhook did, or there was no answer.
    Failed,
}

/// What follows from the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repetition {
    /// The change is repeated after this time, and nothing is said yet.
    After(SignedDuration),
    /// It is said, others go on without it, and it is repeated after [`AFTER_REFUSAL`].
    Told,
}

impl Unchanged {
    /// What follows after so many in a row. Up to a tenth of a wait is added by the UID, so that many do not come back together.
    #[must_use]
    pub fn repetition(self, in_a_row: u32, uid: &str) -> Repetition {
        let (first, most) = match self {
            Self::Refused => return Repetition::Told,
            Self::Outdated => (AFTER_OUTDATED, MOST_OUTDATED),
            Self::Failed => (AFTER_FAILURE, MOST_FAILED),
        };
        if in_a_row >= most {
            return Repetition::Told;
        }
        let wait = doubled(first, AFTER_REFUSAL, i64::from(in_a_row));
        let spread = if in_a_row > 1 { wait.as_secs_f64() / 10.0 * share(uid) } else { 0.0 };
        Repetition::After(wait + SignedDuration::from_secs_f64(spread))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(answer: Unchanged) -> Vec<f64> {
        let repetitions = (1..).map(|in_a_row| answer.repetition(in_a_row, "uid"));
        let waits = repetitions.map_while(|repetition| match repetition {
            Repetition::After(wait) => Some(wait.as_secs_f64()),
            Repetition::Told => None,
        });
        waits.collect()
    }

    #[test]
    fn a_refusal_is_told_at_once_and_other_answers_after_waits_that_grow() {
        assert_eq!(waits(Unchanged::Refused), Vec::<f64>::new());
        for (answer, first, count) in [(Unchanged::Outdated, 1.0, 4), (Unchanged::Failed, 30.0, 2)] {
            let waits = waits(answer);
            assert_eq!((waits.len(), waits[0]), (count, first), "{answer:?}");
            for (earlier, later) in waits.iter().zip(&waits[1..]) {
                let growth = later / earlier;
                assert!((1.8..2.2).contains(&growth), "{answer:?}: {growth}");
            }
            let others = answer.repetition(2, "another uid");
            assert_ne!(others, answer.repetition(2, "uid"), "{answer:?}: two do not come back together");
        }
    }
}
