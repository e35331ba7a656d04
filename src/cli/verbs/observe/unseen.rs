//! What was not looked at: an answer must not look more certain than it is.

use std::collections::BTreeMap;

use usercert_operator_core::decide::Check;

/// What was not looked at.
#[derive(Debug, Default)]
pub(in crate::verbs) struct Unseen {
    /// What is assumed, or could not be read, each as a sentence.
    pub(in crate::verbs) notes: Vec<String>,
    /// The checks whose input is presumed: what they rest on. That one of them is passed says nothing.
    pub(in crate::verbs) presumed: BTreeMap<Check, &'static str>,
}

impl Unseen {
    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    pub(super) fn presume(&mut self, checks: &[Check], why: &'static str) {
        self.presumed.extend(checks.iter().map(|check| (*check, why)));
    }
}
