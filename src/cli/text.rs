//! Words for times, counts and paragraphs.

use std::fmt::{self, Write};

use jiff::{SignedDuration, Timestamp};
use unicode_width::UnicodeWidthStr;
pub use usercert_operator_core::text::count;

use crate::terminal::Terminal;

/// A length of time in one unit, as kubectl writes ages: `34d`, `5h`, `12m`, `40s`.
#[must_use]
pub fn length(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().abs();
    match seconds {
        172_800.. => format!("{}d", seconds / 86_400),
        7_200.. => format!("{}h", seconds / 3_600),
        120.. => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

/// What clocks may differ by: less does no harm, and it takes a moment to ask for the time.
pub const SKEW: SignedDuration = SignedDuration::from_secs(60);

/// By how much a clock differs from the API server's.
#[must_use]
pub fn difference(ahead: SignedDuration) -> String {
    format!("{} {} the API server's", length(ahead), if ahead.is_negative() { "behind" } else { "ahead of" })
}

/// A time as seen from now: `in 34d`, `3h ago`.
#[must_use]
pub fn relative(time: Timestamp, now: Timestamp) -> String {
    let distance = time.duration_since(now);
    if distance.is_negative() { format!("{} ago", length(distance)) } else { format!("in {}", length(distance)) }
}

/// The words on lines that fit the terminal, each after so many spaces. Without a terminal the text is one line.
#[must_use]
pub fn paragraph(text: &str, indent: usize, terminal: &Terminal) -> String {
    let room = terminal.width.map_or(usize::MAX, |width| width.saturating_sub(indent).max(20));
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().filter(|line| line.is_empty() || line.width() + 1 + word.width() <= room);
        match line {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) => line.extend([" ", word]),
            None => lines.push(word.to_owned()),
        }
    }
    let space = " ".repeat(indent);
    lines.iter().fold(String::new(), |text, line| text + &space + line + "\n")
}

/// Adds to a text.
pub fn append(text: &mut String, more: fmt::Arguments<'_>) {
    // Formatting into a string cannot fail.
    _ = text.write_fmt(more);
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::seconds(119, "119s")]
    #[case::minutes(120, "2m")]
    #[case::hours(7_200, "2h")]
    #[case::nearly_two_days(172_799, "47h")]
    #[case::days(172_800, "2d")]
    fn a_length_has_one_unit(#[case] seconds: i64, #[case] expected: &str) {
        assert_eq!(length(SignedDuration::from_secs(seconds)), expected);
        assert_eq!(length(SignedDuration::from_secs(-seconds)), expected);
    }

    #[test]
    fn a_time_is_told_as_seen_from_now() {
        let at = |second| Timestamp::from_second(second).unwrap_or_default();
        assert_eq!(relative(at(864_000), at(0)), "in 10d");
        assert_eq!(relative(at(0), at(864_000)), "10d ago");
    }

    #[test]
    fn paragraphs_fit_the_terminal_and_without_one_are_one_line() {
        let text = "correct the user name or create the user in Atlas";
        let narrow = Terminal { width: Some(24), ..Terminal::none() };
        let expected = "  correct the user name\n  or create the user in\n  Atlas\n";
        assert_eq!(paragraph(text, 2, &narrow), expected);
        assert_eq!(paragraph(text, 0, &Terminal::none()), format!("{text}\n"));
    }
}
