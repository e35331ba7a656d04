//! Conditions by the rules of `meta.SetStatusCondition`: one of a type, `lastTransitionTime` moves only with `status`.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::Reason;

/// Condition type: True while the Secret holds a certificate that works for this user and issuer.
pub const READY: &str = "Ready";

/// Condition type: True while a certificate is being issued; False with the reason when that cannot be done, or is not needed.
pub const ISSUING: &str = "Issuing";

/// The longest message of a condition.
pub const MESSAGE_CHARACTERS: usize = 4096;

/// Text for people that others wrote: nothing in it that a terminal or an editor would act on, and no more than so many characters.
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

/// Sets one condition; `lastTransitionTime` becomes `now` only if `status` differs from what was there. The message may quote names
/// from certificates and objects, whoever chose them, so it is made [`printable`].
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

/// Kubernetes stores times with a precision of one second; comparing a finer one would never be equal.
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
    fn a_message_is_made_fit_for_people() {
        let mut conditions = Vec::new();
        let message = format!("for CN=or\nders\u{1b}[31m\u{202e}{}", "x".repeat(2 * MESSAGE_CHARACTERS));
        set_condition(&mut conditions, READY, false, Reason::SubjectChanged, &message, None, at(100));
        assert!(conditions[0].message.starts_with("for CN=orders[31mxxx"));
        assert_eq!(conditions[0].message.chars().count(), MESSAGE_CHARACTERS);
    }
}
