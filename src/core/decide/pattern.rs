//! Patterns of `spec.allow`: which user names and subjects an issuer certifies for which namespace.
//!
//! `{{namespace}}` stands for the name of the namespace. `*` stands for any characters except `,`, `+` and `=`, which separate
//! the attributes of a subject (RFC 4514 section 2).

use std::fmt;

use crate::certificate::{Subject, SubjectError};

const NAMESPACE: &str = "{{namespace}}";

/// The characters that `*` does not stand for.
const SEPARATORS: [char; 3] = [',', '+', '='];

/// The types of attributes that may hold `{{namespace}}`. `C` cannot, because a country has two letters.
const NAMESPACE_TYPES: [&str; 5] = ["CN", "OU", "O", "UID", "DC"];

/// Patterns that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A pattern is not a subject.
    #[error("spec.allow.subjects: {0:?} is not a pattern of a subject: {1}")]
    Subject(String, SubjectError),
    /// A hexadecimal pair stands for an ASCII character. It could hide a `*` or a part of `{{namespace}}` from whoever reads the
    /// pattern.
    #[error(
        "spec.allow.subjects: {0:?} has a character of ASCII as a hexadecimal pair: write it as it is, or with a backslash before it"
    )]
    Hidden(String),
    /// A pattern has one common name and nothing else. Patterns of user names are for that.
    #[error("spec.allow.subjects: {0:?} is a common name alone: give it in spec.allow.usernames, without CN=")]
    CommonName(String),
    /// A part has several attributes of one type, and the pattern could mean either.
    #[error("spec.allow.subjects: {0:?} has two attributes of one type in one part")]
    Repeated(String),
    /// Some patterns of a list name the namespace and others do not.
    #[error(
        "spec.allow.{0}: {1:?} lacks {NAMESPACE}, which other patterns have, so that it allows every namespace the same names: give it in an issuer of its own"
    )]
    Shared(&'static str, String),
    /// One list names the namespace and the other does not.
    #[error("spec.allow: either both usernames and subjects have {NAMESPACE} in their patterns, or neither has")]
    OneList,
    /// A name may match the list for two namespaces.
    #[error("spec.allow.{0} may allow one name to two namespaces: {1}")]
    Ambiguous(&'static str, &'static str),
}

const ADVICE_FOR_USERNAMES: &str = "begin each pattern with the same text and {{namespace}}, followed by nothing or by a character that namespaces cannot contain, as in {{namespace}}.*; or end each pattern so, as in *.{{namespace}}";
const ADVICE_FOR_SUBJECTS: &str = "have {{namespace}} begin (or end) the same attribute of CN, OU, O, UID or DC in each pattern, followed (or preceded) by nothing or by a character that namespaces cannot contain, as in CN={{namespace}}.*,OU=apps; no other attribute may have that type";

/// One attribute's value, or a user name.
#[derive(Clone, PartialEq)]
struct Value(Vec<Token>);

#[derive(Clone, Copy, PartialEq)]
enum Token {
    Character(char),
    /// Any number of characters other than the separators, also none.
    Any,
    Namespace,
}

impl Value {
    fn new(text: &str) -> Self {
        let mut tokens = Vec::new();
        for (index, piece) in text.split(NAMESPACE).enumerate() {
            if index > 0 {
                tokens.push(Token::Namespace);
            }
            tokens
                .extend(piece.chars().map(|character| if character == '*' { Token::Any } else { Token::Character(character) }));
        }
        Self(tokens)
    }

    fn matches(&self, text: &str, namespace: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        // For each place in the text: whether the tokens so far match everything before it.
        let mut reached = vec![false; text.len() + 1];
        reached[0] = true;
        for token in &self.0 {
            match token {
                Token::Character(character) => step(&mut reached, &text, *character),
                Token::Namespace => namespace.chars().for_each(|character| step(&mut reached, &text, character)),
                Token::Any => {
                    for place in 0..text.len() {
                        reached[place + 1] |= reached[place] && !SEPARATORS.contains(&text[place]);
                    }
                }
            }
        }
        reached.last() == Some(&true)
    }
}

/// Moves each reached place one character further, if this character stands there.
fn step(reached: &mut [bool], text: &[char], character: char) {
    for place in (0..text.len()).rev() {
        reached[place + 1] = reached[place] && text[place] == character;
    }
    reached[0] = false;
}

/// A pattern of user names. A user name is the common name of its subject. The pattern may begin with `CN=`, as user names may.
#[derive(Clone, PartialEq)]
pub(super) struct UsernamePattern {
    text: String,
    value: Value,
}

impl UsernamePattern {
    pub(super) fn new(text: &str) -> Self {
        Self { text: text.to_owned(), value: Value::new(without_type(text)) }
    }

    /// Whether the pattern allows this common name to the namespace.
    pub(super) fn matches(&self, common_name: &str, namespace: &str) -> bool {
        self.value.matches(common_name, namespace)
    }
}

/// The attributes of one part: type and value.
type Part<V> = Vec<(String, V)>;

/// A pattern of subjects. A subject matches if it has as many parts in the same order, with attributes of the same types, and
/// each value matches.
#[derive(Clone, PartialEq)]
pub(super) struct SubjectPattern {
    text: String,
    parts: Vec<Part<Value>>,
}

impl SubjectPattern {
    /// # Errors
    /// The text is not a subject, or a subject that cannot be a pattern.
    pub(super) fn new(text: &str) -> Result<Self, PatternError> {
        let subject = Subject::parse(text).map_err(|error| PatternError::Subject(text.to_owned(), error))?;
        if subject.lone_common_name().is_some() {
            return Err(PatternError::CommonName(text.to_owned()));
        }
        if has_ascii_as_pair(text) {
            return Err(PatternError::Hidden(text.to_owned()));
        }
        let parts = subject.parts();
        if parts.iter().any(|part| part.windows(2).any(|pair| pair[0].0 == pair[1].0)) {
            return Err(PatternError::Repeated(text.to_owned()));
        }
        let with_values =
            |part: Part<String>| part.into_iter().map(|(attribute_type, value)| (attribute_type, Value::new(&value))).collect();
        Ok(Self { text: text.to_owned(), parts: parts.into_iter().map(with_values).collect() })
    }

    /// Whether the pattern allows this subject to the namespace.
    pub(super) fn matches(&self, subject: &Subject, namespace: &str) -> bool {
        let parts = subject.parts();
        let part_matches = |(pattern, part): (&Part<Value>, &Part<String>)| {
            pattern.len() == part.len()
                && pattern.iter().zip(part).all(|((wanted, pattern), (attribute_type, value))| {
                    wanted == attribute_type && pattern.matches(value, namespace)
                })
        };
        self.parts.len() == parts.len() && self.parts.iter().zip(&parts).all(part_matches)
    }
}

/// Checks that no name matches the patterns for two namespaces, if they have `{{namespace}}` at all.
///
/// The rule must make it possible to read the namespace off the name: after a text that is the same in all patterns comes the
/// longest run of characters that names of namespaces may contain (RFC 1123 labels). The same holds from the end of the name.
/// Lists that keep namespaces apart in another way are refused too.
///
/// The definition of the issuers has this rule in CEL (`api::issuer`), which refuses such lists when they are applied.
///
/// # Errors
/// What to change in the lists.
pub(super) fn keep_namespaces_apart(usernames: &[UsernamePattern], subjects: &[SubjectPattern]) -> Result<(), PatternError> {
    let usernames: Vec<&str> = usernames.iter().map(|pattern| pattern.text.as_str()).collect();
    let subjects: Vec<&str> = subjects.iter().map(|pattern| pattern.text.as_str()).collect();
    let names_namespace = |list: &[&str]| list.iter().any(|text| text.contains(NAMESPACE));
    for (field, list) in [("usernames", &usernames), ("subjects", &subjects)] {
        if let Some(shared) = list.iter().find(|text| names_namespace(list) && !text.contains(NAMESPACE)) {
            return Err(PatternError::Shared(field, (*shared).to_owned()));
        }
    }
    let both_are_given = !usernames.is_empty() && !subjects.is_empty();
    if both_are_given && names_namespace(&usernames) != names_namespace(&subjects) {
        return Err(PatternError::OneList);
    }
    if names_namespace(&usernames) {
        let names: Option<Vec<&str>> = usernames.iter().map(|text| plain_name(text)).collect();
        if !names.is_some_and(|names| all_alike(&names, beginning) || all_alike(&names, end)) {
            return Err(PatternError::Ambiguous("usernames", ADVICE_FOR_USERNAMES));
        }
    }
    let is_told_by = |attribute_type: &&str| {
        let values: Option<Vec<&str>> = subjects.iter().map(|text| only_value(text, attribute_type)).collect();
        values.is_some_and(|values| all_alike(&values, beginning) || all_alike(&values, end))
    };
    if names_namespace(&subjects) && !NAMESPACE_TYPES.iter().any(is_told_by) {
        return Err(PatternError::Ambiguous("subjects", ADVICE_FOR_SUBJECTS));
    }
    Ok(())
}

/// Whether `place` finds the same text in all of these: the text before `{{namespace}}`, or the text after it.
fn all_alike<'a>(texts: &[&'a str], place: impl Fn(&'a str) -> Option<&'a str>) -> bool {
    let mut places = texts.iter().map(|text| place(text));
    let first = places.next().flatten();
    first.is_some() && places.all(|place| place == first)
}

/// The pattern of a user name without `CN=`. `None` if it has a character that separates attributes, or an escape.
fn plain_name(text: &str) -> Option<&str> {
    let name = without_type(text);
    (!name.contains(SEPARATORS) && !name.contains('\\')).then_some(name)
}

/// The text before `{{namespace}}`. `None` unless the end of the namespace can be told: either nothing follows, or a character
/// that namespaces cannot contain.
fn beginning(value: &str) -> Option<&str> {
    let (before, after) = value.split_once(NAMESPACE)?;
    (is_fixed(before) && after.chars().next().is_none_or(is_boundary)).then_some(before)
}

/// The text after `{{namespace}}`. `None` unless the beginning of the namespace can be told.
fn end(value: &str) -> Option<&str> {
    let (before, after) = value.rsplit_once(NAMESPACE)?;
    let is_read_alike = !before.contains(SEPARATORS) && !before.contains('\\');
    (is_fixed(after) && is_read_alike && before.chars().next_back().is_none_or(is_boundary)).then_some(after)
}

/// Whether the text has nothing that stands for something else.
fn is_fixed(text: &str) -> bool {
    !text.contains(['{', '}', '*', ',', '+', '=', '\\'])
}

/// Whether the character ends a namespace: no namespace contains it, and it has no other meaning in a pattern.
fn is_boundary(character: char) -> bool {
    !character.is_ascii_lowercase() && !character.is_ascii_digit() && !"-{}*,+=\\".contains(character)
}

/// A user name, or a pattern of one, without `CN=`.
fn without_type(text: &str) -> &str {
    match text.split_at_checked(3) {
        Some((prefix, name)) if prefix.eq_ignore_ascii_case("CN=") => name,
        _ => text,
    }
}

/// The value of the attribute of this type, as it is written. `None` if there is none, or more than one.
fn only_value<'a>(pattern: &'a str, attribute_type: &str) -> Option<&'a str> {
    let mut escaped = false;
    let attributes = pattern.split(|character| {
        let separates = !escaped && matches!(character, ',' | '+');
        escaped = !escaped && character == '\\';
        separates
    });
    let mut values = attributes
        .filter_map(|attribute| attribute.split_once('='))
        .filter(|(found, _)| found.eq_ignore_ascii_case(attribute_type));
    values.next().filter(|_| values.next().is_none()).map(|(_, value)| value)
}

/// Whether the text, which is a subject, has an ASCII character as a hexadecimal pair.
fn has_ascii_as_pair(text: &str) -> bool {
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character == '\\' && rest.next().is_some_and(|first| matches!(first, '0'..='7')) {
            return true;
        }
    }
    false
}

impl fmt::Debug for UsernamePattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", self.text)
    }
}

impl fmt::Debug for SubjectPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", self.text)
    }
}
