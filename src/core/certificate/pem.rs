//! PEM (RFC 7468), read without losing anything.
//!
//! # Guarantees
//!
//! - Every byte belongs to a block, or is known to be harmless, or the text is refused. OpenSSL and most readers silently skip
//!   what they do not take for a block, and a certificate that is lost in this way is missing in the chain that databases see.
//! - An error names the line and what to do about it. It never holds a part of a block.
//! - The content of blocks is zeroized on drop.
//!
//! What is accepted:
//!
//! - Text around blocks: bag attributes, what `openssl x509 -text` prints, comments that begin with `#`. It must not look like a
//!   part of a block.
//! - Blocks without a line break between them.
//! - White space anywhere, because it has no other meaning (RFC 7468 section 2).

mod lines;

use der::pem::{LineEnding, decode_vec, encode_string};
use zeroize::Zeroizing;

use self::lines::{
    character_at, contains, end_of_line, is_blank, is_blank_or_mark, is_comment, is_invisible, line_ends, line_of,
    start_of_line,
};

const HYPHENS: &[u8] = b"-----";

/// The longest label. Longer text is not a label.
const LONGEST_LABEL: usize = 64;

/// A line of this many base64 characters outside of a block is taken for the rest of one. Lines in blocks have 64.
const STRAY_BASE64: usize = 48;

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A certificate.
    Certificate,
    /// A private key in PKCS#8 (RFC 5208).
    Pkcs8Key,
    /// An RSA private key in PKCS#1 (RFC 8017).
    Pkcs1Key,
    /// An elliptic curve private key in SEC 1 (RFC 5915).
    Sec1Key,
    /// A private key under a password.
    EncryptedKey,
    /// A private key of another form.
    OtherKey,
    /// Neither a certificate nor a private key, but often stored beside one.
    Harmless,
}

/// The labels that are known. Those that do not belong into the Secrets that are read here have the advice for the error.
const LABELS: [(&str, Result<Kind, &str>); 19] = [
    ("CERTIFICATE", Ok(Kind::Certificate)),
    // RFC 7468 section 5.1, and OpenSSL's older name.
    ("X509 CERTIFICATE", Ok(Kind::Certificate)),
    ("X.509 CERTIFICATE", Ok(Kind::Certificate)),
    ("PRIVATE KEY", Ok(Kind::Pkcs8Key)),
    ("RSA PRIVATE KEY", Ok(Kind::Pkcs1Key)),
    ("EC PRIVATE KEY", Ok(Kind::Sec1Key)),
    ("ENCRYPTED PRIVATE KEY", Ok(Kind::EncryptedKey)),
    ("DSA PRIVATE KEY", Ok(Kind::OtherKey)),
    ("OPENSSH PRIVATE KEY", Ok(Kind::OtherKey)),
    ("EC PARAMETERS", Ok(Kind::Harmless)),
    ("DH PARAMETERS", Ok(Kind::Harmless)),
    ("PUBLIC KEY", Ok(Kind::Harmless)),
    ("X509 CRL", Ok(Kind::Harmless)),
    ("TRUSTED CERTIFICATE", Err("turn it into a CERTIFICATE with openssl x509")),
    ("CERTIFICATE REQUEST", Err("put the certificate that was issued for it there")),
    ("NEW CERTIFICATE REQUEST", Err("put the certificate that was issued for it there")),
    ("PKCS7", Err("turn it into certificates with openssl pkcs7 -print_certs")),
    ("PKCS #7 SIGNED DATA", Err("turn it into certificates with openssl pkcs7 -print_certs")),
    ("CMS", Err("turn it into certificates with openssl cms -verify -certsout")),
];

/// What a PEM text holds that is neither read nor harmless. Lines are counted from 1. No part of a block is ever quoted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// A boundary that is not well formed.
    #[error(
        "line {0} looks like a boundary and is damaged: write five hyphens, BEGIN or END, the label, and five hyphens, or remove the line"
    )]
    Boundary(usize),
    /// Something beside a boundary.
    #[error("line {line} has the character {character:?} beside a boundary: remove what stands there")]
    Beside {
        /// Where.
        line: usize,
        /// The first character.
        character: char,
    },
    /// A block without its end.
    #[error("the {label} that begins in line {line} has no end: copy the whole of it, or remove what is left")]
    WithoutEnd {
        /// Where it begins.
        line: usize,
        /// Its label.
        label: &'static str,
    },
    /// An end without its beginning.
    #[error("the {label} that ends in line {line} has no beginning: copy the whole of it, or remove what is left")]
    WithoutBeginning {
        /// Where it ends.
        line: usize,
        /// Its label.
        label: &'static str,
    },
    /// A block ends under another label.
    #[error("line {line} ends a {ended}, and what it ends is a {begun}: copy both of them again")]
    OtherEnd {
        /// Where it ends.
        line: usize,
        /// The label of the beginning.
        begun: &'static str,
        /// The label of the end.
        ended: &'static str,
    },
    /// A block that does not belong there.
    #[error("line {line} begins a {label}, which does not belong there: {remedy}")]
    Label {
        /// Where it begins.
        line: usize,
        /// Its label.
        label: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// A label that is not known.
    #[error("line {0} has a boundary whose label is none that is known here: correct it, or remove that block")]
    UnknownLabel(usize),
    /// A character that base64 does not have.
    #[error("line {line} has the character {character:?} inside a block, which is base64: copy that block again")]
    Character {
        /// Where.
        line: usize,
        /// The character.
        character: char,
    },
    /// Line breaks that some tool wrote as two characters.
    #[error("line {0} has the two characters \\n or \\r where a line should end: put real line breaks there")]
    EscapedLineBreak(usize),
    /// A header (RFC 1421) in a block that must not have one.
    #[error("line {0} is a header inside a block, and only private keys have such: copy that block again")]
    Header(usize),
    /// What is left of a block.
    #[error(
        "line {0} looks like a part of a block and stands outside of one: add the boundaries, or remove what is left of the block"
    )]
    Stray(usize),
    /// The base64 is not complete.
    #[error("the {label} that begins in line {line} is incomplete or has too much in it: copy it again")]
    Base64 {
        /// Where it begins.
        line: usize,
        /// Its label.
        label: &'static str,
    },
    /// What is encoded is not what the label says.
    #[error("the {label} that begins in line {line} cannot be read as one: copy it again, or have a new one made")]
    Content {
        /// Where it begins.
        line: usize,
        /// Its label.
        label: &'static str,
    },
    /// A file in another form.
    #[error("line {0} has a NUL byte, as binary files and UTF-16 text do: store PEM in ASCII or UTF-8")]
    Binary(usize),
}

/// One block.
pub struct Block {
    pub kind: Kind,
    label: &'static str,
    line: usize,
    /// The decoded content. Empty for an encrypted key.
    pub content: Zeroizing<Vec<u8>>,
}

impl Block {
    /// The error for content that cannot be read as what the label says.
    pub const fn unreadable(&self) -> PemError {
        PemError::Content { line: self.line, label: self.label }
    }
}

/// A well-formed boundary.
struct Boundary<'a> {
    begins: bool,
    label: &'a [u8],
    start: usize,
    end: usize,
}

/// PEM (RFC 7468) with a newline at the end.
#[must_use]
pub fn pem_text(label: &'static str, der: &[u8]) -> String {
    // It fails only for labels that are not allowed, and for lengths that do not fit into memory.
    encode_string(label, LineEnding::LF, der).unwrap_or_default()
}

/// All blocks of a text, in order.
///
/// # Errors
/// [`PemError`] names the line and what stands there.
pub fn read_blocks(text: &[u8]) -> Result<Vec<Block>, PemError> {
    if let Some(at) = text.iter().position(|byte| *byte == 0) {
        return Err(PemError::Binary(line_of(text, at)));
    }
    let (mut blocks, mut at) = (Vec::new(), 0);
    let (mut counted, mut line) = (0, 1);
    while let Some(begin) = boundary_outside(text, at) {
        check_outside(text, at, begin.start)?;
        let (label, kind) = known_label(text, &begin)?;
        line += line_ends(text, counted, begin.start);
        counted = begin.start;
        if !begin.begins {
            return Err(PemError::WithoutBeginning { line, label });
        }
        let end = boundary(text, begin.end);
        let body_end = end.as_ref().map_or(text.len(), |end| end.start);
        let (body, encrypted) = body(text, begin.end, body_end, is_key(kind))?;
        let Some(end) = end.filter(|end| !end.begins) else { return Err(PemError::WithoutEnd { line, label }) };
        if end.label != begin.label {
            let (ended, _) = known_label(text, &end)?;
            return Err(PemError::OtherEnd { line: line_of(text, end.start), begun: label, ended });
        }
        blocks.push(if encrypted {
            Block { kind: Kind::EncryptedKey, label, line, content: Zeroizing::default() }
        } else {
            let content = decode(&body).ok_or(PemError::Base64 { line, label })?;
            Block { kind, label, line, content }
        });
        at = end.end;
    }
    check_outside(text, at, text.len())?;
    Ok(blocks)
}

const fn is_key(kind: Kind) -> bool {
    !matches!(kind, Kind::Certificate | Kind::Harmless)
}

/// The kind of a known label. Lines are counted only for errors, here and below: counting them for each block or line would take
/// time that is quadratic in the length of the text.
fn known_label(text: &[u8], boundary: &Boundary<'_>) -> Result<(&'static str, Kind), PemError> {
    let line = || line_of(text, boundary.start);
    let (label, use_) = LABELS
        .into_iter()
        .find(|(label, _)| label.as_bytes() == boundary.label)
        .ok_or_else(|| PemError::UnknownLabel(line()))?;
    use_.map(|kind| (label, kind)).map_err(|remedy| PemError::Label { line: line(), label, remedy })
}

/// The next boundary from here on.
fn boundary(text: &[u8], from: usize) -> Option<Boundary<'_>> {
    (from..text.len()).filter(|at| text[*at] == b'-').find_map(|start| boundary_at(text, start))
}

/// The next boundary from here on that is not in a comment.
fn boundary_outside(text: &[u8], from: usize) -> Option<Boundary<'_>> {
    let mut next = boundary(text, from);
    while let Some(found) = next {
        let line_start = start_of_line(text, from, found.start);
        if !is_comment(&text[line_start..found.start]) {
            return Some(found);
        }
        next = boundary(text, end_of_line(text, found.end, text.len()));
    }
    None
}

fn boundary_at(text: &[u8], start: usize) -> Option<Boundary<'_>> {
    let rest = text.get(start..)?.strip_prefix(HYPHENS)?;
    let (begins, rest) = match rest.strip_prefix(b"BEGIN ") {
        Some(rest) => (true, rest),
        None => (false, rest.strip_prefix(b"END ")?),
    };
    let length = rest.iter().take(LONGEST_LABEL).position(|byte| !matches!(byte, b' '..=b'~') || *byte == b'-')?;
    let (label, rest) = rest.split_at(length);
    let after = rest.strip_prefix(HYPHENS)?.len();
    Some(Boundary { begins, label, start, end: text.len() - after })
}

/// The base64 of a block without white space, and whether the block is an encrypted key, as its header (RFC 1421) says.
fn body(text: &[u8], from: usize, to: usize, is_key: bool) -> Result<(Zeroizing<Vec<u8>>, bool), PemError> {
    let mut base64 = Zeroizing::new(Vec::with_capacity(to - from));
    for at in from..to {
        let byte = text[at];
        if byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=') {
            base64.push(byte);
        } else if !is_blank(byte) {
            let start = start_of_line(text, from, at);
            let end = end_of_line(text, at, to);
            let line = &text[start..end];
            if is_key && contains(line, b"Proc-Type:") && contains(line, b"ENCRYPTED") {
                return Ok((Zeroizing::default(), true));
            }
            return Err(not_base64(text, at, line));
        }
    }
    Ok((base64, false))
}

/// Why this character inside a block is refused.
fn not_base64(text: &[u8], at: usize, line: &[u8]) -> PemError {
    let number = line_of(text, at);
    match text[at] {
        b'\\' if matches!(text.get(at + 1), Some(b'n' | b'r')) => PemError::EscapedLineBreak(number),
        b':' => PemError::Header(number),
        _ if is_like_boundary(line) => PemError::Boundary(number),
        _ => PemError::Character { line: number, character: character_at(text, at) },
    }
}

/// Checks the text between blocks. Its first and last line are the lines of boundaries, unless the whole text begins or ends
/// there.
fn check_outside(text: &[u8], from: usize, to: usize) -> Result<(), PemError> {
    let mut start = from;
    while start < to {
        let end = end_of_line(text, start, to);
        let line = &text[start..end];
        let is_beside = start == from && from > 0 || end == to && to < text.len();
        if let Some(first) = line.iter().position(|byte| !is_blank(*byte)).filter(|_| !is_blank_or_mark(line)) {
            let at = start + first;
            if contains(line, b"\\n") && (is_beside || is_like_boundary(line)) {
                return Err(PemError::EscapedLineBreak(line_of(text, at)));
            }
            if is_beside {
                return Err(PemError::Beside { line: line_of(text, at), character: character_at(text, at) });
            }
            if !is_comment(line) {
                check_text(line).map_err(|fault| fault(line_of(text, at)))?;
            }
        }
        start = end + 1;
    }
    Ok(())
}

fn check_text(line: &[u8]) -> Result<(), fn(usize) -> PemError> {
    if is_like_boundary(line) {
        return Err(PemError::Boundary);
    }
    if is_like_content(line) { Err(PemError::Stray) } else { Ok(()) }
}

/// Whether the line may be a damaged boundary: hyphens or other dashes with BEGIN or END, or with the label of a certificate or
/// key.
fn is_like_boundary(line: &[u8]) -> bool {
    let mut text = String::new();
    for character in String::from_utf8_lossy(line).chars() {
        match character {
            '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{AD}' => text.push('-'),
            character if character.is_whitespace() || is_invisible(character) => {}
            character => text.push(character.to_ascii_uppercase()),
        }
    }
    let is_label = |text: &str| LABELS.iter().any(|(label, _)| text == label.replace(' ', ""));
    let begins_with_label = |text: &str| LABELS.iter().any(|(label, _)| text.starts_with(&label.replace(' ', "")));
    let word = text.trim_matches('-');
    let dashes = text.len() - text.trim_start_matches('-').len();
    if let Some(rest) = word.strip_prefix("BEGIN").or_else(|| word.strip_prefix("END")) {
        let rest = rest.trim_start_matches('-');
        return is_label(rest) || dashes >= 2 && (begins_with_label(rest) || rest.is_empty());
    }
    let within = |mark: &str| text.split(mark).skip(1).any(|rest| begins_with_label(rest.trim_start_matches('-')));
    let is_misspelt = dashes >= 2 && text.ends_with("--") && (contains(line, b"CERTIFICATE") || contains(line, b"PRIVATE KEY"));
    within("--BEGIN") || within("--END") || is_misspelt
}

/// Whether this is a long line of nothing but base64. A digest in hexadecimal is made of the same letters and is not counted.
fn is_like_content(line: &[u8]) -> bool {
    let trimmed = line.trim_ascii();
    let padding = trimmed.iter().rev().take_while(|byte| **byte == b'=').count();
    let digits = &trimmed[..trimmed.len() - padding];
    let is_base64 = digits.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'));
    let is_hexadecimal = padding == 0 && digits.iter().all(u8::is_ascii_hexdigit);
    trimmed.len() >= STRAY_BASE64 && padding <= 2 && is_base64 && !is_hexadecimal
}

/// The bytes that the base64 encodes. The text is first laid out as RFC 7468 wants it, because the decoder reads no other layout.
fn decode(base64: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut text = Zeroizing::new(Vec::with_capacity(base64.len() / 64 * 65 + 64));
    text.extend_from_slice(b"-----BEGIN BLOCK-----\n");
    for line in base64.chunks(64) {
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    text.extend_from_slice(b"-----END BLOCK-----\n");
    decode_vec(&text).ok().map(|(_, content)| Zeroizing::new(content))
}
