//! One line of a health endpoint.

use std::fmt::Write;

/// Something that the process needs, and how it is. It is shown as Kubernetes' own components show theirs with `?verbose`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What is looked at, such as `watch/secrets`.
    pub name: String,
    /// In a few words how it is. `Err`: what is waited for.
    pub state: Result<String, String>,
}

impl Check {
    /// A check that has passed.
    #[must_use]
    pub fn passed(name: impl Into<String>, state: impl Into<String>) -> Self {
        Self { name: name.into(), state: Ok(state.into()) }
    }

    /// A check that has failed.
    #[must_use]
    pub fn failed(name: impl Into<String>, why: impl Into<String>) -> Self {
        Self { name: name.into(), state: Err(why.into()) }
    }

    /// Whether it has passed.
    #[must_use]
    pub const fn is_passed(&self) -> bool {
        self.state.is_ok()
    }

    /// A line for each check: `[+]NAME ok: STATE` or `[-]NAME failed: WHY`.
    #[must_use]
    pub fn lines(checks: &[Self]) -> String {
        checks.iter().fold(String::new(), |mut text, Self { name, state }| {
            // Writing to a string cannot fail.
            let _ = match state {
                Ok(state) if state.is_empty() => writeln!(text, "[+]{name} ok"),
                Ok(state) => writeln!(text, "[+]{name} ok: {state}"),
                Err(why) => writeln!(text, "[-]{name} failed: {why}"),
            };
            text
        })
    }
}
