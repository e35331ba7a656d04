//! The wording of what is told.

use std::fmt::Display;

/// A count with the right form of the noun, for nouns whose plural ends in `s`.
#[must_use]
pub fn count<N: Copy + Display + PartialEq + From<u8>>(number: N, noun: &str) -> String {
    if number == N::from(1) { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(0, "0 certificates")]
    #[case(1, "1 certificate")]
    #[case(2, "2 certificates")]
    fn one_is_no_plural(#[case] number: i64, #[case] expected: &str) {
        assert_eq!(count(number, "certificate"), expected);
    }
}
