//! Lines, blanks and characters of a text that need not be one.

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

pub(super) const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

pub(super) fn is_blank_or_mark(line: &[u8]) -> bool {
    let mut rest = line;
    while let Some(after) = rest
        .strip_prefix(BYTE_ORDER_MARK)
        .or_else(|| rest.split_first().filter(|(byte, _)| is_blank(**byte)).map(|(_, rest)| rest))
    {
        rest = after;
    }
    rest.is_empty()
}

pub(super) const fn is_invisible(character: char) -> bool {
    matches!(character, '\u{200B}'..='\u{200F}' | '\u{2060}' | '\u{FEFF}')
}

pub(super) fn is_comment(line: &[u8]) -> bool {
    line.trim_ascii_start().starts_with(b"#")
}

pub(super) fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

pub(super) fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

pub(super) fn start_of_line(text: &[u8], from: usize, at: usize) -> usize {
    text[from..at].iter().rposition(|byte| is_line_end(*byte)).map_or(from, |end| from + end + 1)
}

pub(super) fn end_of_line(text: &[u8], at: usize, to: usize) -> usize {
    text[at..to].iter().position(|byte| is_line_end(*byte)).map_or(to, |length| at + length)
}

/// Counted from 1.
pub(super) fn line_of(text: &[u8], at: usize) -> usize {
    line_ends(text, 0, at) + 1
}

/// The number of lines that end in this range, with LF, CR or both.
pub(super) fn line_ends(text: &[u8], from: usize, to: usize) -> usize {
    let ends = |at: &usize| text[*at] == b'\n' || text[*at] == b'\r' && text.get(at + 1) != Some(&b'\n');
    (from..to).filter(ends).count()
}

pub(super) fn character_at(text: &[u8], at: usize) -> char {
    let end = text.len().min(at + 4);
    String::from_utf8_lossy(&text[at..end]).chars().next().unwrap_or(char::REPLACEMENT_CHARACTER)
}
