//! Conditions by the rules of `meta.SetStatusCondition` (k8s.io/apimachinery): each type is there once, and
//! `lastTransitionTime` changes only with `status`.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::{Reason, Remedy};

/// Condition type: True while the Secret holds a certificate that works for this user and issuer.
pub const READY: &str = "Ready";

/// Condition type: True while a certificate is being issued. False, with the reason, when none is needed or none can be
/// issued.
pub const ISSUING: &str = "Issuing";

/// Condition type, present only while it is True: Ready is False, and only a change by a person helps. kstatus, and so
/// Flux, takes `Stalled` for a failure. It takes any other object that is not Ready for one in progress.
pub const STALLED: &str = "Stalled";

/// Condition type, present only while it is True: the certificate works, but no new one can be issued. The name follows
/// Flux, which calls what fails while an object stays in service `FetchFailed`. It has the past tense that the Kubernetes
/// API conventions ask of condition types.
pub const RENEWAL_FAILED: &str = "RenewalFailed";

/// Condition type, present only with `spec.rollout`: True while all workloads have the certificate in the Secret. It says nothing
/// about [`READY`], which is about the certificate alone.
pub const ROLLED_OUT: &str = "RolledOut";

/// The longest message of a condition, in characters.
pub const MESSAGE_CHARACTERS: usize = 4096;

/// Makes text that others wrote safe to show to people: drops everything that a terminal or an editor would act on, and
/// keeps at most this many characters.
#[must_use]
pub fn printable(text: &str, characters: usize) -> String {
    let is_plain = |character: &char| {
        !character.is_control()
            && !matches!(character, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}')
    };
    text.chars().filter(is_plain).take(characters).collect()
}

/// The condition of this type.
#[must_use]
pub fn condition<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Sets one condition. `lastTransitionTime` becomes `now` only if `status` changes. The message is made [`printable`],
/// because it may quote names in certificates and objects, which anybody may have chosen.
pub fn set_condition(
    conditions: &mut Vec<Condition>,
    type_: &str,
    status: bool,
    reason: Reason,
    message: &str,
    observed_generation: Option<i64>,
    now: Timestamp,
) {
    let status = if status { "True" } else { "False" };
    let last_transition_time = condition(conditions, type_)
        .filter(|old| old.status == status)
        .map_or_else(|| Time(truncated_to_second(now)), |old| old.last_transition_time.clone());
    let new = Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.as_str().to_owned(),
        message: printable(message, MESSAGE_CHARACTERS),
        observed_generation,
        last_transition_time,
    };
    match conditions.iter_mut().find(|condition| condition.type_ == type_) {
        Some(old) => *old = new,
        None => conditions.push(new),
    }
}

/// Removes the condition of this type. It is for types that are absent when they do not hold.
pub fn remove_condition(conditions: &mut Vec<Condition>, type_: &str) {
    conditions.retain(|condition| condition.type_ != type_);
}

/// Sets [`STALLED`] if [`READY`] is False and only a person helps: for a reason of [`READY`], or because [`ISSUING`] says that the
/// object is suspended. Reason and message are those of the condition that says so. Removes it otherwise.
pub fn set_stalled(conditions: &mut Vec<Condition>, now: Timestamp) {
    let of =
        |type_: &str| condition(conditions, type_).and_then(|found| Some((found.clone(), Reason::from_name(&found.reason)?)));
    let ready = of(READY).filter(|(ready, _)| ready.status == "False");
    let suspended = ready.as_ref().and_then(|_| of(ISSUING)).filter(|(_, reason)| *reason == Reason::Suspended);
    match ready.filter(|(_, reason)| reason.remedy() == Remedy::Person).or(suspended) {
        Some((found, reason)) => {
            set_condition(conditions, STALLED, true, reason, &found.message, found.observed_generation, now);
        }
        None => remove_condition(conditions, STALLED),
    }
}

/// The time without fractions of a second. Kubernetes stores whole seconds, so a finer time would never equal a stored one.
#[must_use]
pub fn truncated_to_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap_or_default()
    }

    #[test]
    fn transition_time_moves_only_with_status() {
        let mut conditions = Vec::new();
        set_condition(&mut conditions, READY, true, Reason::Issued, "a", Some(1), at(100));
        set_condition(&mut conditions, READY, true, Reason::SecretRepaired, "b", Some(2), at(200));
        assert_eq!(conditions.len(), 1);
        assert_eq!(conditions[0].last_transition_time, Time(at(100)));
        assert_eq!(conditions[0].reason, "SecretRepaired");
        set_condition(&mut conditions, READY, false, Reason::Expired, "c", Some(2), at(300));
        assert_eq!(conditions[0].last_transition_time, Time(at(300)));
    }

    #[test]
    fn who_is_not_ready_is_stalled_only_while_a_person_is_needed() {
        let mut conditions = Vec::new();
        let mut stalled_after = |ready: bool, reason: Reason| {
            set_condition(&mut conditions, READY, ready, reason, "because", Some(3), at(100));
            set_stalled(&mut conditions, at(100));
            condition(&conditions, STALLED)
                .map(|stalled| (stalled.status.clone(), stalled.reason.clone(), stalled.message.clone()))
        };
        let stalled = |reason: &str| Some(("True".to_owned(), reason.to_owned(), "because".to_owned()));
        assert_eq!(stalled_after(false, Reason::NoCertificate), None);
        assert_eq!(stalled_after(false, Reason::InvalidSpec), stalled("InvalidSpec"));
        assert_eq!(stalled_after(false, Reason::AtlasUnauthorized), stalled("AtlasUnauthorized"));
        assert_eq!(stalled_after(false, Reason::AtlasUnavailable), None, "it may come back");
        assert_eq!(stalled_after(false, Reason::IssuerNotFound), None, "it may come in the same breath");
        assert_eq!(stalled_after(false, Reason::SecretNotOwned), stalled("SecretNotOwned"));
        assert_eq!(stalled_after(true, Reason::Issued), None);
    }

    #[test]
    fn a_message_is_made_fit_for_people() {
        let mut conditions = Vec::new();
        let message = format!("for CN=or\nders\u{1b}[31m\u{202e}{}", "x".repeat(2 * MESSAGE_CHARACTERS));
        set_condition(&mut conditions, READY, false, Reason::SubjectChanged, &message, None, at(100));
        assert!(conditions[0].message.starts_with("for CN=orders[31mxxx"));
        assert_eq!(conditions[0].message.chars().count(), MESSAGE_CHARACTERS);
    }
}
