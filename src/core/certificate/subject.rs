//! Distinguished names and their string form (RFC 4514).

use std::{fmt, fmt::Write as _, str::FromStr};

use der::Encode;
use x509_cert::{
    attr::AttributeTypeAndValue,
    name::{Name, RelativeDistinguishedName},
};

/// The subject of a certificate.
///
/// Two subjects are equal if their attributes have the same types and text, whatever string types encode them. Databases compare
/// the text, and issuers encode it differently: Atlas encodes a common name as `PrintableString`, the in-cluster CA as
/// `UTF8String`.
#[derive(Clone)]
pub struct Subject(Name);

/// A string that is not a subject.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// A part has no attribute type, or one that is not in the table of RFC 4514 section 3.
    #[error("{0:?} must begin with an attribute type of RFC 4514 (CN, L, ST, O, OU, C, STREET, DC, UID) and '='")]
    Attribute(String),
    /// An attribute has no value.
    #[error("{0} has no value")]
    Empty(String),
    /// A backslash is followed by neither a special character nor two hexadecimal digits.
    #[error("a backslash must be followed by one of , + \" \\ < > ; # = space, or by two hexadecimal digits")]
    Escape,
    /// A character that must be escaped, or a space at the edge of a value.
    #[error("{0:?} has to be escaped with a backslash")]
    Unescaped(char),
    /// A control character.
    #[error("control characters are not allowed")]
    Control,
    /// The string type of the attribute cannot hold the value, such as a letter outside ASCII in C or DC.
    #[error("the value of an attribute cannot be encoded: C takes two letters, DC takes ASCII")]
    Encoding,
}

/// The attribute types of RFC 4514 section 3. Every tool prints these alike.
const ATTRIBUTE_TYPES: [&str; 9] = ["CN", "L", "ST", "O", "OU", "C", "STREET", "DC", "UID"];

/// Other attribute types that tools print in distinguished names.
const OTHER_ATTRIBUTE_TYPES: [&str; 10] =
    ["emailAddress", "E", "serialNumber", "SN", "surname", "GN", "givenName", "title", "S", "dnQualifier"];

/// The longest common name in characters (`ub-common-name`, RFC 5280 appendix A.1).
const LONGEST_COMMON_NAME: usize = 64;

impl Subject {
    /// Exactly `CN=<name>`, whatever characters the name has.
    ///
    /// # Errors
    /// The name is empty or has control characters.
    pub fn common_name(name: &str) -> Result<Self, SubjectError> {
        if name.is_empty() {
            return Err(SubjectError::Empty("CN".to_owned()));
        }
        let mut text = "CN=".to_owned();
        for character in name.chars() {
            push_value(&mut text, character)?;
        }
        Self::from_normalised(&text)
    }

    /// The subject with this RFC 4514 string, such as `CN=orders,OU=apps,O=Acme`. The first part of the string is the last part
    /// of the encoded name (RFC 4514 section 2.1).
    ///
    /// # Errors
    /// [`SubjectError`] says what to change.
    pub fn parse(text: &str) -> Result<Self, SubjectError> {
        Self::from_normalised(&normalised(text)?)
    }

    /// The subject that belongs to a database user. A name that begins with `CN=` is the whole subject, because self-hosted
    /// databases name their `$external` users so. Any other name is the common name.
    ///
    /// # Errors
    /// [`SubjectError`] says what to change.
    pub fn for_user(username: &str) -> Result<Self, SubjectError> {
        match username.get(..3) {
            Some(prefix) if prefix.eq_ignore_ascii_case("CN=") => Self::parse(username),
            _ => Self::common_name(username),
        }
    }

    /// Whether a name reads as a distinguished name of several attributes, in any form that tools print: with commas, with spaces
    /// around the signs, or with slashes. Whoever gives such a user name means a subject, not a common name.
    #[must_use]
    pub fn is_like_name_of_several_attributes(name: &str) -> bool {
        let is_attribute = |part: &&str| {
            let Some((type_, value)) = part.split_once('=') else { return false };
            let type_ = type_.trim();
            let is_identifier = type_.contains('.') && type_.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            let is_known = ATTRIBUTE_TYPES.iter().chain(&OTHER_ATTRIBUTE_TYPES).any(|known| known.eq_ignore_ascii_case(type_));
            !value.trim().is_empty() && (is_identifier || is_known)
        };
        let mut parts = name.trim_start_matches('/').split([',', '+', ';', '/']);
        parts.next().is_some_and(|first| is_attribute(&first)) && parts.any(|part| is_attribute(&part))
    }

    /// The length in characters of the longest common name, if it is over the limit of RFC 5280 appendix A.1 (`ub-common-name`),
    /// so that other programs may refuse it.
    #[must_use]
    pub fn overlong_common_name(&self) -> Option<usize> {
        let parts = self.parts();
        let common_names = parts.iter().flatten().filter(|(type_, _)| type_ == "CN");
        common_names.map(|(_, value)| value.chars().count()).max().filter(|length| *length > LONGEST_COMMON_NAME)
    }

    /// The name that the `$external` user of this subject must have in MongoDB: the RFC 4514 string with every byte outside ASCII
    /// as `\XX`, as `openssl x509 -nameopt RFC2253` prints it.
    #[must_use]
    pub fn mongodb_user_name(&self) -> String {
        let mut name = String::new();
        for character in self.to_string().chars() {
            if character.is_ascii() {
                name.push(character);
            } else {
                for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                    // Formatting into a string cannot fail.
                    let _ = write!(name, "\\{byte:02X}");
                }
            }
        }
        name
    }

    /// The encoded name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.0
    }

    /// The attributes of each part as text, sorted. Their order has no meaning within a part, and the order of the encoding
    /// depends on the string types.
    fn attributes(&self) -> Vec<Vec<String>> {
        let attributes = |part: &RelativeDistinguishedName| {
            let mut attributes: Vec<String> = part.iter().map(ToString::to_string).collect();
            attributes.sort();
            attributes
        };
        self.0.iter_rdn().map(attributes).collect()
    }

    /// The parts in the order of the RFC 4514 string. A part is a list of attributes, as type and value without escapes, sorted
    /// by type.
    #[must_use]
    pub fn parts(&self) -> Vec<Vec<(String, String)>> {
        let attribute = |attribute: &AttributeTypeAndValue| {
            let text = attribute.to_string();
            let attribute_type = text.split_once('=').map_or(text.as_str(), |(attribute_type, _)| attribute_type);
            (attribute_type.to_owned(), String::from_utf8_lossy(attribute.value.value()).into_owned())
        };
        let attributes = |part: &RelativeDistinguishedName| {
            let mut attributes: Vec<_> = part.iter().map(attribute).collect();
            attributes.sort();
            attributes
        };
        let mut parts: Vec<_> = self.0.iter_rdn().map(attributes).collect();
        parts.reverse();
        parts
    }

    /// The common name, if there is no other attribute.
    #[must_use]
    pub fn lone_common_name(&self) -> Option<String> {
        match self.parts().as_slice() {
            [part] => match part.as_slice() {
                [(attribute_type, value)] if attribute_type == "CN" => Some(value.clone()),
                _ => None,
            },
            _ => None,
        }
    }

    fn from_normalised(text: &str) -> Result<Self, SubjectError> {
        let name = Name::from_str(text).map_err(|_| SubjectError::Encoding)?;
        name.to_der().map_err(|_| SubjectError::Encoding)?;
        // A value that is not text, such as bytes outside UTF-8 that came as hexadecimal pairs, prints with an object identifier
        // as its type.
        if name.iter().any(|attribute| attribute.to_string().starts_with(|first: char| first.is_ascii_digit())) {
            return Err(SubjectError::Encoding);
        }
        let subject = Self(name);
        if subject.to_string().chars().any(char::is_control) { Err(SubjectError::Control) } else { Ok(subject) }
    }
}

impl PartialEq for Subject {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0 || self.attributes() == other.attributes()
    }
}

impl Eq for Subject {}

impl From<Name> for Subject {
    fn from(name: Name) -> Self {
        Self(name)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The parts in reverse (RFC 4514 section 2.1), and the attributes within a part in reverse, as OpenSSL prints them.
        let parts: Vec<_> = self.0.iter_rdn().collect();
        for (index, part) in parts.iter().rev().enumerate() {
            let attributes: Vec<String> = part.iter().map(ToString::to_string).collect();
            let attributes: Vec<&str> = attributes.iter().rev().map(String::as_str).collect();
            write!(f, "{}{}", if index == 0 { "" } else { "," }, attributes.join("+"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subject({:?})", self.to_string())
    }
}

/// The string with every special character of a value as `\XX`. It can then be split at separators without a look at escapes.
fn normalised(text: &str) -> Result<String, SubjectError> {
    let mut parts = Vec::new();
    let mut value = String::new();
    let mut separators = String::new();
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            '\\' => unescape(&mut rest, &mut value)?,
            ',' | '+' => {
                parts.push(std::mem::take(&mut value));
                separators.push(character);
            }
            '"' | ';' | '<' | '>' => return Err(SubjectError::Unescaped(character)),
            _ => value.push(character),
        }
    }
    parts.push(value);
    let mut joined = String::new();
    let mut separators = separators.chars();
    for part in &parts {
        joined.push_str(&attribute(part)?);
        joined.extend(separators.next());
    }
    Ok(joined)
}

/// Replaces an escape by a hexadecimal pair, in which no later step can find a separator.
fn unescape(rest: &mut std::iter::Peekable<std::str::Chars<'_>>, value: &mut String) -> Result<(), SubjectError> {
    let first = rest.next().ok_or(SubjectError::Escape)?;
    if first.is_ascii_hexdigit() {
        let second = rest.next().filter(char::is_ascii_hexdigit).ok_or(SubjectError::Escape)?;
        value.extend(['\\', first.to_ascii_uppercase(), second.to_ascii_uppercase()]);
        return Ok(());
    }
    if !r#",+"\<>;#= "#.contains(first) {
        return Err(SubjectError::Escape);
    }
    // Formatting into a string cannot fail.
    let _ = write!(value, "\\{:02X}", u32::from(first));
    Ok(())
}

fn attribute(part: &str) -> Result<String, SubjectError> {
    let unknown = || SubjectError::Attribute(part.to_owned());
    let (type_, value) = part.split_once('=').ok_or_else(unknown)?;
    let type_ = ATTRIBUTE_TYPES.into_iter().find(|known| known.eq_ignore_ascii_case(type_)).ok_or_else(unknown)?;
    if value.is_empty() {
        return Err(SubjectError::Empty(type_.to_owned()));
    }
    if value.starts_with([' ', '#']) || value.ends_with(' ') {
        return Err(SubjectError::Unescaped(if value.starts_with('#') { '#' } else { ' ' }));
    }
    if value.chars().any(char::is_control) || value.contains("\\0") || value.contains("\\1") || value.contains("\\7F") {
        return Err(SubjectError::Control);
    }
    // A country is two letters of PrintableString, a domain component is an IA5String (RFC 5280 appendix A.1).
    let fits = match type_ {
        "C" => value.len() == 2 && value.chars().all(|letter| letter.is_ascii_alphabetic()),
        "DC" => value.is_ascii(),
        _ => true,
    };
    if fits { Ok(format!("{type_}={value}")) } else { Err(SubjectError::Encoding) }
}

fn push_value(text: &mut String, character: char) -> Result<(), SubjectError> {
    if character.is_control() {
        return Err(SubjectError::Control);
    }
    if r#",+"\<>;#= "#.contains(character) {
        // Formatting into a string cannot fail.
        let _ = write!(text, "\\{:02X}", u32::from(character));
    } else {
        text.push(character);
    }
    Ok(())
}
