//! Which conditions are news.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::api::{ISSUING, READY, Reason, Severity, condition};

/// The warnings that the conditions have come to hold; each once, though it may stand in two conditions. One that stands already is new if
/// somebody has changed the spec and is answered otherwise: each attempt at what is not allowed can be seen. A deletion that leaves the Secret
/// (`kubectl delete --cascade=orphan`) takes its owner reference off; that is what was asked for, and no warning.
#[must_use]
pub fn new_warnings(old: &[Condition], new: &[Condition]) -> Vec<(Reason, String)> {
    let mut warnings: Vec<(Reason, String)> = Vec::new();
    let is_being_deleted = condition(new, ISSUING).is_some_and(|issuing| issuing.reason == Reason::ObjectBeingDeleted.as_str());
    for type_ in [ISSUING, READY] {
        let Some(now) = condition(new, type_) else { continue };
        let Some(reason) = Reason::from_name(&now.reason).filter(|reason| reason.severity() == Severity::Warning) else {
            continue;
        };
        if is_being_deleted && reason == Reason::SecretNotOwned {
            continue;
        }
        let is_new = |before: &Condition| {
            before.reason != now.reason
                || before.message != now.message && before.observed_generation != now.observed_generation
        };
        if condition(old, type_).is_none_or(is_new) && warnings.iter().all(|(known, _)| *known != reason) {
            warnings.push((reason, now.message.clone()));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conditions(reason: Reason, message: &str, generation: i64) -> Vec<Condition> {
        let mut conditions = Vec::new();
        for type_ in [READY, ISSUING] {
            let now = jiff::Timestamp::UNIX_EPOCH;
            crate::api::set_condition(&mut conditions, type_, false, reason, message, Some(generation), now);
        }
        conditions
    }

    #[test]
    fn a_warning_is_told_once_and_again_for_each_attempt_that_is_answered_otherwise() {
        let refused = conditions(Reason::IssuerNotAllowed, "not CN=a", 1);
        let told = vec![(Reason::IssuerNotAllowed, "not CN=a".to_owned())];
        assert_eq!(new_warnings(&[], &refused), told);
        assert_eq!(new_warnings(&conditions(Reason::Issued, "fine", 1), &refused), told);
        assert_eq!(new_warnings(&refused, &refused), []);
        let again = conditions(Reason::IssuerNotAllowed, "not CN=b", 2);
        assert_eq!(new_warnings(&refused, &again), vec![(Reason::IssuerNotAllowed, "not CN=b".to_owned())]);
        let same_spec = conditions(Reason::IssuerNotAllowed, "not CN=b", 1);
        assert_eq!(new_warnings(&refused, &same_spec), [], "a message that changes by itself is no attempt");
        assert_eq!(new_warnings(&refused, &conditions(Reason::Issued, "fine", 2)), []);
    }

    #[test]
    fn of_an_object_that_is_being_deleted_a_lost_secret_is_a_warning_and_a_secret_left_behind_is_none() {
        let being_deleted = |reason| {
            let mut conditions = conditions(reason, "no certificate", 1);
            let now = jiff::Timestamp::UNIX_EPOCH;
            let issuing = Reason::ObjectBeingDeleted;
            crate::api::set_condition(&mut conditions, ISSUING, false, issuing, "held by orphan", Some(1), now);
            conditions
        };
        let issued = conditions(Reason::Issued, "fine", 1);
        assert_eq!(new_warnings(&issued, &being_deleted(Reason::SecretNotOwned)), []);
        let lost = vec![(Reason::PairUnusable, "no certificate".to_owned())];
        assert_eq!(new_warnings(&issued, &being_deleted(Reason::PairUnusable)), lost);
        let not_owned = vec![(Reason::SecretNotOwned, "no certificate".to_owned())];
        assert_eq!(new_warnings(&issued, &conditions(Reason::SecretNotOwned, "no certificate", 1)), not_owned);
    }
}
