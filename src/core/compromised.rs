//! Which certificates count as compromised, as an annotation of the object says.

use std::collections::BTreeSet;

use crate::{
    api::{DatabaseUserCertificate, names::COMPROMISED_ANNOTATION},
    certificate::SerialNumber,
};

/// So much of what cannot be read is told.
const TOLD_CHARACTERS: usize = 40;

/// The certificates whose keys are known to others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compromised {
    serial_numbers: BTreeSet<SerialNumber>,
    unreadable: Option<String>,
}

impl Compromised {
    /// What the annotation of this object says. What is no serial number in it is left out, and takes nothing from the others: whoever writes
    /// the annotation is in a hurry.
    #[must_use]
    pub fn of(object: &DatabaseUserCertificate) -> Self {
        let annotations = object.metadata.annotations.as_ref();
        let value = annotations.and_then(|annotations| annotations.get(COMPROMISED_ANNOTATION));
        let mut compromised = Self::default();
        let parts = value.iter().flat_map(|value| value.split(',')).map(str::trim);
        for part in parts.filter(|part| !part.is_empty()) {
            match SerialNumber::parse(part) {
                Some(serial_number) => _ = compromised.serial_numbers.insert(serial_number),
                None => _ = compromised.unreadable.get_or_insert_with(|| part.chars().take(TOLD_CHARACTERS).collect()),
            }
        }
        compromised
    }

    /// Whether the certificate with this serial number is one of them.
    #[must_use]
    pub fn has(&self, serial_number: &str) -> bool {
        self.serial_numbers.contains(serial_number)
    }

    /// Their serial numbers.
    pub fn serial_numbers(&self) -> impl Iterator<Item = &SerialNumber> {
        self.serial_numbers.iter()
    }

    /// The beginning of the first part of the annotation that is no serial number.
    #[must_use]
    pub fn unreadable(&self) -> Option<&str> {
        self.unreadable.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn compromised(value: &str) -> Compromised {
        let mut object = DatabaseUserCertificate::new("orders", crate::api::DatabaseUserCertificateSpec::default());
        object.metadata.annotations = Some([(COMPROMISED_ANNOTATION.to_owned(), value.to_owned())].into());
        Compromised::of(&object)
    }

    #[rstest]
    #[case::nothing("", &[], None)]
    #[case::one("0A", &["0A"], None)]
    #[case::two("0A,1B6EBA8348904A92", &["0A", "1B6EBA8348904A92"], None)]
    #[case::twice("0A,a,0x0a,00:0A", &["0A"], None)]
    #[case::with_spaces_and_empty_parts(" 0A , ,,0B\n,", &["0A", "0B"], None)]
    #[case::as_openssl_prints_it_in_a_text("1b:6e:ba:83:48:90:4a:92", &["1B6EBA8348904A92"], None)]
    #[case::zero("0", &["00"], None)]
    #[case::a_word("all", &[], Some("all"))]
    #[case::a_word_among_serial_numbers("0A,the old one,0B,more", &["0A", "0B"], Some("the old one"))]
    #[case::with_a_sign("-0A", &[], Some("-0A"))]
    #[case::other_digits("٠١", &[], Some("٠١"))]
    #[case::colons_alone(":", &[], Some(":"))]
    #[case::a_colon_within_a_pair("0:A1", &[], Some("0:A1"))]
    fn serial_numbers_are_read_as_people_copy_them(
        #[case] value: &str,
        #[case] expected: &[&str],
        #[case] unreadable: Option<&str>,
    ) {
        let found = compromised(value);
        assert_eq!(found.serial_numbers().map(SerialNumber::as_str).collect::<Vec<_>>(), expected);
        assert_eq!(found.unreadable(), unreadable);
        assert!(expected.iter().all(|serial_number| found.has(serial_number)));
        assert!(!found.has("0C"));
    }

    #[test]
    fn what_is_longer_than_any_serial_number_is_none() {
        let found = compromised(&"F".repeat(65));
        assert_eq!(found.serial_numbers().count(), 0);
        assert_eq!(found.unreadable(), Some("F".repeat(40).as_str()));
        assert!(compromised(&"F".repeat(64)).has(&"F".repeat(64)));
    }
}
