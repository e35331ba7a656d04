//! What is taken out of texts: logs and messages.
//!
//! A text has no structure that could be relied on. So the rules take too much rather than too little: behind the name of a secret they take
//! out the rest of the line, whatever quotes and brackets it has, and the lines below that belong to it.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::rules::Rules;

/// What stands in the place of what was taken out.
pub(super) const TAKEN_OUT: &str = "[taken out]";

/// How often a text is looked through at most: what was taken out may have stood between a name and its value.
const PASSES: usize = 4;

/// The fewest letters and digits of a line of a key in base64. Lines of 64 and 76 are usual.
const KEY: usize = 40;

/// `None` if a rule cannot be read. Then nothing is told.
static RULES: LazyLock<Option<Rules>> = LazyLock::new(|| Rules::new().ok());

/// The text without what must not be seen.
pub(crate) fn redacted(text: &str) -> String {
    let Some(rules) = &*RULES else { return TAKEN_OUT.to_owned() };
    let mut text = text.to_owned();
    for _ in 0..PASSES {
        let next = looked_through(&text, rules);
        if next == text {
            break;
        }
        text = next;
    }
    text
}

/// Whether the value of a field of this name must not be seen.
pub(super) fn is_secret(name: &str) -> bool {
    RULES.as_ref().is_none_or(|rules| rules.name.is_match(name))
}

fn looked_through(text: &str, rules: &Rules) -> String {
    let text = rules.colours.replace_all(text, "").into_owned();
    let text = rules.forms.iter().fold(text, |text, rule| without(&text, rule));
    rules.urls.iter().fold(without_values(&text, rules), |text, rule| without(&text, rule))
}

/// Takes out what the rule finds, but for the groups that stay.
fn without(text: &str, rule: &Regex) -> String {
    let instead = |found: &Captures<'_>| {
        let part = |name| found.name(name).map(|part| part.as_str());
        let base64 = part("base64").or(part("base64_line"));
        if part("kept").is_some() || base64.is_some_and(|text| !is_key(text)) {
            return found[0].to_owned();
        }
        [part("before").unwrap_or_default(), TAKEN_OUT, part("after").unwrap_or_default()].concat()
    };
    rule.replace_all(text, instead).into_owned()
}

/// Whether a text in base64, or one of its lines, is a key, and no path or long name: small letters, capital letters and digits alternate.
fn is_key(text: &str) -> bool {
    let is_mixed = |text: &str| {
        let kinds: Vec<_> =
            text.chars().filter(char::is_ascii_alphanumeric).map(|c| (c.is_ascii_digit(), c.is_ascii_uppercase())).collect();
        let changes = kinds.iter().zip(kinds.iter().skip(1)).filter(|(kind, next)| kind != next).count();
        let has = |kind| kinds.contains(&kind);
        kinds.len() >= KEY && 4 * changes >= kinds.len() && has((true, false)) && has((false, true)) && has((false, false))
    };
    is_mixed(text) || text.split_whitespace().any(is_mixed)
}

/// Takes out the values behind names.
fn without_values(text: &str, rules: &Rules) -> String {
    let (mut result, mut copied, mut at) = (String::new(), 0, 0);
    while let Some(found) = rules.values.captures_at(text, at) {
        at = found.get(0).map_or(text.len(), |whole| whole.end());
        let Some(before) = found.name("before").or_else(|| found.name("sentence")) else { continue };
        at = before.end();
        let Some(end) = end_of_value(text, before.start(), at, &rules.begins_below) else { continue };
        result.push_str(&text[copied..at]);
        result.push_str(TAKEN_OUT);
        (copied, at) = (end, end);
    }
    result + &text[copied..]
}

/// Where the value ends; `None` if there is none. It has the rest of its line; the lines up to the quote that ends it; and the lines below
/// that are indented further than the name, or are items of a list.
fn end_of_value(text: &str, name: usize, value: usize, begins_below: &Regex) -> Option<usize> {
    let indentation = |line: &str| line.len() - line.trim_start().len();
    let end_of_line = |at: usize| text[at..].find('\n').map_or(text.len(), |end| at + end);
    let line_of_name = &text[text[..name].rfind('\n').map_or(0, |end| end + 1)..end_of_line(name)];
    let mut end = end_of_line(value);
    let first = text[value..end].trim();
    let is_below = begins_below.is_match(first);
    let quote = first.trim_start_matches('\\').chars().next().filter(|character| matches!(character, '"' | '\''));
    if let Some(quote) = quote.filter(|quote| first.matches(*quote).count() % 2 == 1) {
        end = text[end..].find(quote).map_or(end, |at| end_of_line(end + at));
    }
    let (first_end, mut at) = (end, end);
    for line in text[end..].split('\n').skip(1) {
        at += 1 + line.len();
        let further = indentation(line).cmp(&indentation(line_of_name));
        let belongs = further.is_gt() || is_below && further.is_eq() && line.trim_start().starts_with("- ");
        match (line.trim().is_empty(), belongs) {
            (true, _) => {}
            (false, true) => end = at,
            (false, false) => break,
        }
    }
    (!first.is_empty() || end > first_end).then_some(end)
}

#[cfg(test)]
mod tests;
