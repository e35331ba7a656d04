//! Forms of values that several definitions share.

/// A DNS subdomain (RFC 1123), the form of object names.
pub(super) const NAME_PATTERN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// A CEL expression: the text is a duration in hours, minutes and seconds, each at most once and in this order.
macro_rules! is_duration {
    ($text:literal) => {
        concat!($text, ".matches('^([0-9]+h)?([0-9]+m)?([0-9]+s)?$')")
    };
}

/// The CEL rule of a duration field: at least this long. A `pattern` would not do, because the API server answers a value
/// that does not match it with the regular expression instead of a message.
macro_rules! duration_rule {
    ($field:literal, $least:literal) => {
        kube_core::Rule::new(concat!(
            $crate::api::forms::is_duration!("self"),
            " && duration(self) >= duration('",
            $least,
            "')"
        ))
        .message(concat!(
            $field,
            " must be ",
            $least,
            " or more, in h, m and s as in 2160h or 1h30m; for days use hours: 30 days is 720h"
        ))
    };
}

pub(super) use {duration_rule, is_duration};
