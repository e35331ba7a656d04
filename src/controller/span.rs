//! The tracing span around a pass: each line that is logged inside carries its fields, and so does what is exported.

use tracing::{Span, error_span, field::Empty};

use crate::api::{NamespacedName, Reason};

/// A span for one pass over an object, as `namespace/name`, or `name` if it has no namespace. It has the level of errors, so that a
/// filter which lets errors through keeps it: without it their lines would not say which object they are about.
pub(crate) fn of_pass(kind: &str, object: &NamespacedName) -> Span {
    let object = match object.namespace.as_str() {
        "" => object.name.clone(),
        _ => object.to_string(),
    };
    error_span!("pass", kind, object, decision = Empty, reason = Empty)
}

/// Notes in the span of this pass what was decided, and why.
pub(crate) fn decided(decision: &str, reason: Option<Reason>) {
    let span = Span::current();
    span.record("decision", decision);
    if let Some(reason) = reason {
        span.record("reason", reason.as_str());
    }
}
