//! The form in which OpenSSL compares names (a part of RFC 5280 section 7.1). ASCII letters are lower-case. White space between
//! words is one space, and there is none at the edges. The string type of the encoding does not matter.

use der::{Tag, Tagged, asn1::Any, oid::ObjectIdentifier};
use x509_cert::{attr::AttributeTypeAndValue, name::Name};

/// A name: a sequence of parts. Each part is a set of attributes, kept sorted.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct CanonicalName(Vec<Vec<Attribute>>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Attribute {
    type_: ObjectIdentifier,
    /// The tag of a value that is not text. Such values are compared byte by byte. `None` for text.
    tag: Option<Tag>,
    value: Vec<u8>,
}

impl CanonicalName {
    /// Whether `base` is the beginning of this name, part by part.
    pub(super) fn is_below(&self, base: &Self) -> bool {
        self.0.starts_with(&base.0)
    }
}

impl From<&Name> for CanonicalName {
    fn from(name: &Name) -> Self {
        let part = |part: &x509_cert::name::RelativeDistinguishedName| {
            let mut attributes: Vec<Attribute> = part.iter().map(Attribute::from).collect();
            attributes.sort();
            attributes
        };
        Self(name.iter_rdn().filter(|part| !part.is_empty()).map(part).collect())
    }
}

impl From<&AttributeTypeAndValue> for Attribute {
    fn from(attribute: &AttributeTypeAndValue) -> Self {
        let (type_, value) = (attribute.oid, &attribute.value);
        match text_of(value) {
            Some(text) => Self { type_, tag: None, value: canonical(&text).into_bytes() },
            None => Self { type_, tag: Some(value.tag()), value: value.value().to_vec() },
        }
    }
}

/// Whether OpenSSL can read the name. It refuses a certificate with values of other types than these in its names.
pub(super) fn is_readable(name: &Name) -> bool {
    let is_readable = |value: &Any| matches!(value.tag(), Tag::NumericString | Tag::BitString | Tag::Sequence);
    name.iter().all(|attribute| is_readable(&attribute.value) || text_of(&attribute.value).is_some())
}

/// The text of a value of a string type. `None` for any other type; `NumericString` counts as one of those.
pub(super) fn text_of(value: &Any) -> Option<String> {
    let bytes = value.value();
    match value.tag() {
        Tag::Utf8String => String::from_utf8(bytes.to_vec()).ok(),
        // OpenSSL takes each byte of these types for one character, ASCII or not.
        Tag::PrintableString | Tag::Ia5String | Tag::TeletexString => Some(bytes.iter().copied().map(char::from).collect()),
        Tag::BmpString => {
            let (units, []) = bytes.as_chunks::<2>() else { return None };
            let units: Vec<u16> = units.iter().copied().map(u16::from_be_bytes).collect();
            String::from_utf16(&units).ok()
        }
        _ => None,
    }
}

fn canonical(text: &str) -> String {
    let words: Vec<&str> = text.split(is_white_space).filter(|word| !word.is_empty()).collect();
    words.join(" ").to_ascii_lowercase()
}

/// White space as C has it (`isspace`): ASCII only, with the vertical tab.
const fn is_white_space(character: char) -> bool {
    matches!(character, ' ' | '\t'..='\r')
}
