//! The answer for people.

use super::told::{Outcome, ToldCheck, Why};
use crate::{
    table::Cell,
    terminal::{Mood, Terminal},
    text::{append, paragraph},
    verbs::leader::Leader,
};

/// The decision, its checks, and what the operator says.
pub(super) fn render(why: &Why, terminal: &Terminal) -> String {
    let title = |text: &str| terminal.paint(Mood::Title, Cell::whole(text).text());
    let words = |text: &str, indent| paragraph(Cell::whole(text).text(), indent, terminal);
    let mut text = format!("{}\n", title(&format!("{}/{}", why.namespace, why.name)));
    match (&why.decision, &why.reason) {
        (Some(decision), Some(reason)) => {
            text.push_str(&words(&format!("Decision: {decision}"), 2));
            text.push_str(&words(&format!("Reason: {reason}: {}", why.message.as_deref().unwrap_or_default()), 2));
        }
        _ => text.push_str(&words("Decision: it cannot be told from what you may read", 2)),
    }
    if let Some(in_service) = &why.in_service {
        text.push_str(&words(&format!("In service: {in_service}"), 2));
    }
    if !why.checks.is_empty() {
        append(&mut text, format_args!("\n{}\n", title("Checks")));
        why.checks.iter().for_each(|check| text.push_str(&line(check, terminal)));
        text.push_str(&words("ok: passed; new: asks for a new certificate; NO: not passed, and settles what is done; -: not come to; ?: not looked at, or only the operator knows", 2));
    }
    append(&mut text, format_args!("\n{}\n", title("The operator says")));
    for line in &why.operator_says {
        text.push_str(&words(line, 2));
    }
    if why.operator_says.is_empty() {
        text.push_str(&words("nothing yet", 2));
    }
    text.push_str(&words(
        &match &why.leader {
            Leader::Leads(holder) => format!("{holder} leads"),
            Leader::Gone(sentence) => sentence.clone(),
            Leader::Unknown(sentence) | Leader::Denied(sentence) => {
                format!("whether an operator leads is not known: {sentence}")
            }
        },
        2,
    ));
    for fault in &why.clocks {
        text.push_str(&words(&format!("{fault}: what is told of times is off"), 2));
    }
    if let Some(differs) = &why.differs {
        text.push_str(&words(differs, 2));
    }
    if !why.notes.is_empty() {
        append(&mut text, format_args!("\n{}\n", title("Not looked at")));
        for note in &why.notes {
            text.push_str(&words(note, 2));
        }
    }
    text
}

/// One check, with a mark for what became of it.
fn line(check: &ToldCheck, terminal: &Terminal) -> String {
    let (mark, mood) = match check.result {
        Outcome::Passed => ("ok ", Mood::Good),
        Outcome::NeedsCertificate => ("new", Mood::Warning),
        Outcome::Settles => ("NO ", Mood::Bad),
        Outcome::NotReached => ("-  ", Mood::Plain),
        Outcome::OnlyTheOperatorKnows | Outcome::NotLookedAt => ("?  ", Mood::Plain),
    };
    let note = check.note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default();
    let statement = format!("{}{note}", check.statement);
    // The first line begins after the mark.
    let statement = paragraph(Cell::whole(&statement).text(), 6, terminal);
    format!("  {} {}", terminal.paint(mood, mark), statement.trim_start())
}
