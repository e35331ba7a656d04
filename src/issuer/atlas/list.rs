//! The list of a database user's certificates, page by page. Pages that do not make up one list are an error, never an empty list.
//!
//! A list ends with a page that is not full. The number of certificates that a page tells (`totalCount`) is an estimate by Atlas's own
//! documentation, so a list that it does not fit is no error, unless an empty first page tells of certificates that did not come.
//!
//! # Guarantees
//!
//! - Of each entry only the serial number and the dates are kept, and no text of the answer.
//! - A list has at most [`MOST_CERTIFICATES`] entries, and a page at most [`PAGE_SIZE`]. A longer one is an error. Reading stops there.

use std::{collections::HashSet, fmt};

use jiff::{SignedDuration, Timestamp};
use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};

use super::resources::unreadable;
use crate::{IssueError, certificate::SerialNumber, decide::ListedCertificate};

/// Certificates per page: the largest number that Atlas allows.
pub(super) const PAGE_SIZE: usize = 500;

/// The longest list. Atlas limits the certificates of a user to fewer; the number is not public.
pub(super) const MOST_CERTIFICATES: usize = 2_000;

/// Atlas dates a certificate one hour before the request that made it.
const BACKDATING: SignedDuration = SignedDuration::from_hours(1);

/// One page.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Page {
    #[serde(deserialize_with = "entries")]
    results: Vec<ListedCertificate>,
    /// About how many certificates all pages have. Optional in the schema.
    #[serde(default)]
    total_count: Option<u64>,
}

impl Page {
    /// Reads a page.
    pub(super) fn read(body: &[u8]) -> Result<Self, IssueError> {
        serde_json::from_slice(body).map_err(|_| implausible())
    }

    /// The only page of an empty list.
    pub(super) const fn empty() -> Self {
        Self { results: Vec::new(), total_count: Some(0) }
    }
}

/// The pages that have come.
#[derive(Debug, Default)]
pub(super) struct Pages(Vec<ListedCertificate>);

impl Pages {
    /// Adds the next page. Returns whether it was the last one.
    ///
    /// # Errors
    /// The first page is empty and tells of certificates that did not come, or the list is longer than [`MOST_CERTIFICATES`].
    pub(super) fn add(&mut self, page: Page) -> Result<bool, IssueError> {
        let is_full = page.results.len() == PAGE_SIZE;
        self.0.extend(page.results);
        let count = self.0.len();
        let told = page.total_count.map(|told| usize::try_from(told).unwrap_or(usize::MAX));
        // A further page of the longest list would have nothing that is kept.
        let is_last = !is_full || count == MOST_CERTIFICATES && told == Some(count);
        let is_too_long = told.is_some_and(|told| told > MOST_CERTIFICATES) || !is_last && count >= MOST_CERTIFICATES;
        if is_too_long || count == 0 && told.is_some_and(|told| told > 0) {
            return Err(implausible());
        }
        Ok(is_last)
    }

    /// The list.
    ///
    /// # Errors
    /// An entry is there twice.
    pub(super) fn complete(self) -> Result<Vec<ListedCertificate>, IssueError> {
        let mut serial_numbers = HashSet::with_capacity(self.0.len());
        let all_differ = self.0.iter().all(|listed| serial_numbers.insert(&listed.serial_number));
        if all_differ { Ok(self.0) } else { Err(implausible()) }
    }
}

fn implausible() -> IssueError {
    unreadable("list of certificates")
}

/// Reads entries one by one and keeps what is used of them. An entry beyond [`PAGE_SIZE`], for which nobody asked, is an error.
fn entries<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ListedCertificate>, D::Error> {
    struct Entries;

    impl<'de> Visitor<'de> for Entries {
        type Value = Vec<ListedCertificate>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(formatter, "at most {PAGE_SIZE} certificates")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut listed = Vec::new();
            while let Some(entry) = entries.next_element::<Entry>()? {
                if listed.len() == PAGE_SIZE {
                    return Err(A::Error::invalid_length(PAGE_SIZE + 1, &self));
                }
                listed.push(entry.listed().ok_or_else(|| A::Error::custom("an id is no serial number"))?);
            }
            Ok(listed)
        }
    }

    deserializer.deserialize_seq(Entries)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(rename = "_id")]
    id: Id,
    created_at: Timestamp,
    not_after: Timestamp,
}

impl Entry {
    fn listed(&self) -> Option<ListedCertificate> {
        Some(ListedCertificate {
            serial_number: self.id.serial_number()?,
            made_at: self.created_at.saturating_add(BACKDATING).unwrap_or(self.created_at),
            not_after: self.not_after,
        })
    }
}

/// The id of a listed certificate, which is its serial number. The schema says that it is text; real answers have a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Number(i64),
    Unsigned(u64),
    Text(String),
}

impl Id {
    fn serial_number(&self) -> Option<SerialNumber> {
        let number = match self {
            Self::Number(number) => number.cast_unsigned(),
            Self::Unsigned(number) => *number,
            Self::Text(text) => text.parse().ok()?,
        };
        let text = format!("{number:X}");
        Some(if text.len() % 2 == 0 { text } else { format!("0{text}") }.into())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
mod tests {
    use std::ops::Range;

    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::{Minted, api::Reason};

    #[test]
    fn a_recorded_list_is_read_and_its_ids_are_serial_numbers() {
        let body = br#"{"links":[],"results":[{"_id":1976722359483124370,"createdAt":"2026-08-10T02:06:35Z","groupId":"5efda6aea3f2ed2e7dd6ce05","notAfter":"2026-11-10T03:06:35Z","subject":"CN=user389"}],"totalCount":1}"#;
        let expected = ListedCertificate {
            serial_number: "1B6EBA8348904A92".into(),
            made_at: "2026-08-10T03:06:35Z".parse().unwrap(),
            not_after: "2026-11-10T03:06:35Z".parse().unwrap(),
        };
        let mut pages = Pages::default();
        assert!(pages.add(Page::read(body).unwrap()).unwrap());
        assert_eq!(pages.complete().unwrap(), [expected]);
    }

    #[rstest]
    #[case("")]
    #[case("<html>")]
    #[case("{}")]
    #[case(r#"{"totalCount":0}"#)]
    #[case(r#"{"results":null,"totalCount":0}"#)]
    #[case(r#"{"results":[{}]}"#)]
    #[case(r#"{"results":[],"totalCount":-1}"#)]
    #[case(r#"{"results":[{"_id":"5efda6aea3f2ed2e7dd6ce05","createdAt":"2026-08-10T02:06:35Z","notAfter":"2026-11-10T03:06:35Z"}]}"#)]
    #[case(r#"{"results":[{"_id":1,"createdAt":"yesterday","notAfter":"2026-11-10T03:06:35Z"}]}"#)]
    fn a_page_that_cannot_be_trusted_is_no_empty_page(#[case] body: &str) {
        let error = Page::read(body.as_bytes()).unwrap_err();
        assert_eq!((error.reason, error.minted), (Reason::AtlasUnavailable, Minted::No));
    }

    fn page(serial_numbers: Range<usize>, total: Option<usize>) -> Result<Page, IssueError> {
        let entry = |number| json!({ "_id": number, "createdAt": "2026-08-10T02:06:35Z", "notAfter": "2026-11-10T03:06:35Z" });
        let mut page = json!({ "results": serial_numbers.map(entry).collect::<Vec<Value>>() });
        if let Some(total) = total {
            page["totalCount"] = json!(total);
        }
        Page::read(page.to_string().as_bytes())
    }

    /// The number of entries of the list that these pages make up.
    fn length(pages: impl IntoIterator<Item = (Range<usize>, Option<usize>)>) -> Result<usize, IssueError> {
        let mut list = Pages::default();
        for (serial_numbers, total) in pages {
            if list.add(page(serial_numbers, total)?)? {
                return list.complete().map(|list| list.len());
            }
        }
        panic!("more pages are expected")
    }

    #[test]
    fn pages_make_up_a_list_with_or_without_a_number_that_fits() {
        assert_eq!(length([(0..0, Some(0))]), Ok(0));
        assert_eq!(length([(0..0, None)]), Ok(0));
        assert_eq!(length([(0..500, Some(500)), (500..500, Some(500))]), Ok(500));
        assert_eq!(length([(0..500, Some(500)), (500..503, Some(500))]), Ok(503));
        assert_eq!(length([(0..500, Some(505)), (500..500, Some(505))]), Ok(500));
        assert_eq!(length([(0..500, None), (500..500, None)]), Ok(500));
        assert_eq!(length([(0..500, Some(501)), (500..501, Some(501))]), Ok(501));
        assert_eq!(length([(0..7, Some(8))]), Ok(7), "the number is an estimate");
        assert_eq!(length([(0..2, Some(1))]), Ok(2));
        assert_eq!(length([(0..500, Some(498)), (500..503, Some(505))]), Ok(503));
        assert_eq!(length([(0..500, Some(505)), (500..503, Some(505))]), Ok(503));
        let four = (0..4).map(|page| (page * 500..(page + 1) * 500, Some(2_000)));
        assert_eq!(length(four), Ok(2_000), "the longest list");
    }

    #[rstest]
    #[case::none_though_some_are_told(&[(0..0, Some(7))])]
    #[case::more_than_asked_for(&[(0..501, Some(501))])]
    #[case::the_same_entry_twice(&[(0..500, Some(502)), (499..501, Some(502))])]
    #[case::the_same_page_again(&[(0..500, Some(1_000)), (0..500, Some(1_000)), (0..0, Some(1_000))])]
    #[case::a_longer_list_than_any_user_has(&[(0..500, Some(2_001))])]
    #[case::one_that_never_ends(&[(0..500, None), (500..1_000, None), (1_000..1_500, None), (1_500..2_000, None)])]
    #[case::a_number_of_no_list(&[(0..500, Some(usize::MAX))])]
    fn pages_that_make_up_no_list_are_an_error(#[case] pages: &[(Range<usize>, Option<usize>)]) {
        let error = length(pages.iter().cloned()).unwrap_err();
        assert_eq!((error.reason, error.minted), (Reason::AtlasUnavailable, Minted::No));
    }
}
