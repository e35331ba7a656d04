//! Who may use an issuer, and for which user names and subjects.
//!
//! Databases go by the subject. So what is checked is the subject that would be signed, not the user name in the spec.
//!
//! | Issuer allows | Subject `CN=<user name>` | Any other subject |
//! | --- | --- | --- |
//! | nothing given | allowed | allowed |
//! | `usernames` only | if the user name matches | refused |
//! | `subjects` only | refused | if it matches |
//! | both | if the user name matches | if it matches |
//!
//! A subject in `forbiddenSubjects` is refused before all of these.

use std::collections::BTreeMap;

use kube_core::{Selector, SelectorExt};

use super::pattern::{PatternError, SubjectPattern, UsernamePattern, keep_namespaces_apart};
use crate::{
    api::AllowedUse,
    certificate::{Subject, SubjectError},
};

/// What is said where a selector cannot be evaluated.
const LABELS_UNKNOWN: &str = " by its name, and no selector includes it, because its labels are not known: they have not come yet, or take more than 16 KiB; name it in names, or take labels away";

/// The parsed form of `spec.allow`, and of `spec.ca.forbiddenSubjects`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Allow {
    /// `None`: any namespace. An issuer of one namespace is found only there.
    namespaces: Option<Namespaces>,
    /// `None`: any user name.
    usernames: Option<Vec<UsernamePattern>>,
    /// `None`: only the common name of an allowed user. If `usernames` is `None` too: any subject.
    subjects: Option<Vec<SubjectPattern>>,
    forbidden: Vec<ForbiddenSubject>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Namespaces {
    names: Vec<String>,
    selector: Option<Selector>,
}

/// An entry of `forbiddenSubjects`: no subject may have all of these attributes.
#[derive(Clone, Debug, PartialEq)]
struct ForbiddenSubject {
    text: String,
    attributes: Vec<(String, String)>,
}

/// An `allow`, or forbidden subjects, that cannot be evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AllowError {
    /// The selector has an operator that does not exist.
    #[error("spec.allow.namespaces.selector: {0}")]
    Selector(String),
    /// The patterns cannot be used.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// An entry of `forbiddenSubjects` is not a subject.
    #[error("spec.ca.forbiddenSubjects: {0:?} is not the subject of a member certificate: {1}")]
    Forbidden(String, SubjectError),
}

impl Allow {
    /// For an issuer of one namespace: its own namespace, and the user names and subjects that it allows.
    ///
    /// # Errors
    /// The patterns cannot be used.
    pub fn of_namespaced_issuer(allow: Option<&AllowedUse>) -> Result<Self, AllowError> {
        let usernames = allow.and_then(|allow| allow.usernames.as_ref());
        let usernames: Option<Vec<_>> = usernames.map(|list| list.iter().map(|text| UsernamePattern::new(text)).collect());
        let subjects = allow.and_then(|allow| allow.subjects.as_ref());
        let subjects: Option<Vec<_>> =
            subjects.map(|list| list.iter().map(|text| SubjectPattern::new(text)).collect::<Result<_, _>>()).transpose()?;
        keep_namespaces_apart(usernames.as_deref().unwrap_or_default(), subjects.as_deref().unwrap_or_default())?;
        Ok(Self { namespaces: None, usernames, subjects, forbidden: Vec::new() })
    }

    /// For a cluster issuer: nobody, until `namespaces` allows somebody.
    ///
    /// # Errors
    /// The selector has an operator that does not exist, or the patterns cannot be used.
    pub fn of_cluster_issuer(allow: Option<&AllowedUse>) -> Result<Self, AllowError> {
        let choice = allow.and_then(|allow| allow.namespaces.clone()).unwrap_or_default();
        let selector =
            choice.selector.map(Selector::try_from).transpose().map_err(|error| AllowError::Selector(error.to_string()))?;
        let namespaces = Some(Namespaces { names: choice.names, selector });
        Ok(Self { namespaces, ..Self::of_namespaced_issuer(allow)? })
    }

    /// Forbids the subjects of `spec.ca.forbiddenSubjects`, whoever asks.
    ///
    /// # Errors
    /// One of them is not a subject.
    pub fn with_forbidden(self, subjects: &[String]) -> Result<Self, AllowError> {
        let parse = |text: &String| match Subject::parse(text) {
            Ok(subject) => Ok(ForbiddenSubject { text: text.clone(), attributes: comparable(&subject) }),
            Err(error) => Err(AllowError::Forbidden(text.clone(), error)),
        };
        Ok(Self { forbidden: subjects.iter().map(parse).collect::<Result<_, _>>()?, ..self })
    }

    /// Whether an object in this namespace may use the issuer.
    ///
    /// # Errors
    /// The sentence that says what to change.
    pub fn check_namespace(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Result<(), String> {
        let Some(namespaces) = &self.namespaces else { return Ok(()) };
        let by_name = namespaces.names.iter().any(|name| name == namespace);
        // The API server gives each namespace a label. If there is none, the labels are not known yet, and `NotIn` and
        // `DoesNotExist` would match.
        let selected = |selector: &Selector| selector.selects_all() || !labels.is_empty() && selector.matches(labels);
        let by_label = namespaces.selector.as_ref().is_some_and(selected);
        if by_name || by_label {
            return Ok(());
        }
        let unknown = if labels.is_empty() && namespaces.selector.is_some() { LABELS_UNKNOWN } else { "" };
        Err(format!("the issuer's spec.allow.namespaces does not include the namespace {namespace}{unknown}"))
    }

    /// Whether the namespace may have a certificate with this subject. A user name allows the subject `CN=<user name>` and no
    /// other.
    ///
    /// # Errors
    /// The sentence that says what to change.
    pub fn check_subject(&self, namespace: &str, username: &str, subject: &Subject) -> Result<(), String> {
        if let Some(forbidden) = self.forbidden.iter().find(|forbidden| forbidden.forbids(subject)) {
            return Err(format!(
                "the issuer signs nothing for {subject}: its spec.ca.forbiddenSubjects has {:?}, by which a database would take the certificate for one of its own members",
                forbidden.text
            ));
        }
        let by_subject = || self.subjects.iter().flatten().any(|pattern| pattern.matches(subject, namespace));
        let common_name = subject.lone_common_name().filter(|_| Subject::for_user(username).is_ok_and(|own| own == *subject));
        match (&self.usernames, &self.subjects, common_name) {
            (None, None, _) => Ok(()),
            (Some(patterns), _, Some(name)) if patterns.iter().any(|pattern| pattern.matches(&name, namespace)) => Ok(()),
            _ if by_subject() => Ok(()),
            (Some(_), _, Some(_)) => Err(format!(
                "the issuer's spec.allow.usernames has no pattern that allows the user name {username:?} to the namespace {namespace}"
            )),
            _ => Err(format!(
                "the issuer's spec.allow.subjects has no pattern that allows the subject {subject} to the namespace {namespace}; spec.allow.usernames allows CN=<user name> alone"
            )),
        }
    }
}

impl ForbiddenSubject {
    /// Whether the subject has all of the attributes, in any order and beside any others.
    fn forbids(&self, subject: &Subject) -> bool {
        let attributes = comparable(subject);
        self.attributes.iter().all(|attribute| attributes.contains(attribute))
    }
}

/// The attributes in the form in which names are compared (RFC 5280 section 7.1): without case, and with single spaces.
fn comparable(subject: &Subject) -> Vec<(String, String)> {
    let words = |value: String| value.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
    let attributes = subject.parts().into_iter().flatten();
    attributes.map(|(attribute_type, value)| (attribute_type, words(value))).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
    use rstest::rstest;

    use super::*;
    use crate::api::NamespaceChoice;

    fn allow(usernames: Option<&[&str]>, subjects: Option<&[&str]>) -> Allow {
        let owned = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
        let allow = AllowedUse { usernames: usernames.map(owned), subjects: subjects.map(owned), namespaces: None };
        Allow::of_namespaced_issuer(Some(&allow)).unwrap()
    }

    /// What `shop` may have signed.
    fn is_allowed(allow: &Allow, username: &str, subject: Option<&str>) -> bool {
        let subject = subject.map_or_else(|| Subject::for_user(username), Subject::parse).unwrap();
        allow.check_subject("shop", username, &subject).is_ok()
    }

    #[test]
    fn a_cluster_issuer_serves_nobody_until_allowed() {
        let nobody = Allow::of_cluster_issuer(None).unwrap();
        assert!(nobody.check_namespace("shop", &BTreeMap::new()).is_err());
    }

    #[test]
    fn namespaces_are_allowed_by_name_or_by_label() {
        let team = BTreeMap::from([("team".to_owned(), "db".to_owned())]);
        let selector = LabelSelector { match_labels: Some(team.clone()), ..LabelSelector::default() };
        let namespaces = Some(NamespaceChoice { names: vec!["shop".into()], selector: Some(selector) });
        let allow = Allow::of_cluster_issuer(Some(&AllowedUse { namespaces, ..AllowedUse::default() })).unwrap();
        assert_eq!(allow.check_namespace("shop", &BTreeMap::new()), Ok(()));
        assert_eq!(allow.check_namespace("other", &team), Ok(()));
        assert!(allow.check_namespace("other", &BTreeMap::new()).is_err());
    }

    #[test]
    fn a_namespace_whose_labels_are_not_known_yet_is_in_no_selector_but_that_of_all() {
        let all = || NamespaceChoice { names: Vec::new(), selector: Some(LabelSelector::default()) };
        let expression = LabelSelectorRequirement { key: "team".into(), operator: "DoesNotExist".into(), values: None };
        let teamless = LabelSelector { match_expressions: Some(vec![expression]), ..LabelSelector::default() };
        let named = BTreeMap::from([("kubernetes.io/metadata.name".to_owned(), "shop".to_owned())]);
        for (choice, while_unknown) in [(all(), true), (NamespaceChoice { selector: Some(teamless), ..all() }, false)] {
            let allow = AllowedUse { namespaces: Some(choice), ..AllowedUse::default() };
            let allow = Allow::of_cluster_issuer(Some(&allow)).unwrap();
            let unknown = allow.check_namespace("shop", &BTreeMap::new());
            assert_eq!(unknown.is_ok(), while_unknown);
            assert!(unknown.err().is_none_or(|message| message.contains("its labels are not known")));
            assert_eq!(allow.check_namespace("shop", &named), Ok(()));
        }
    }

    #[rstest]
    #[case("shop.orders", None, true)]
    #[case("CN=shop.orders", None, true)]
    #[case("shop.orders", Some("CN=shop.orders"), true)]
    #[case("shop-eu.orders", None, false)]
    #[case("orders", None, false)]
    #[case("shop.a,OU=members", None, false)]
    #[case("CN=shop.a,OU=members", None, false)]
    #[case("CN=shop.a\\2COU\\3Dmembers", None, false)]
    #[case("shop.orders", Some("CN=shop.other"), false)]
    #[case("shop.orders", Some("CN=mongo-0,OU=members,O=Acme"), false)]
    #[case("shop.orders", Some("UID=root+CN=shop.orders,DC=acme"), false)]
    #[case("shop.orders", Some("CN=shop.orders,CN=postgres"), false)]
    #[case("shop.orders", Some("UID=shop.orders"), false)]
    fn a_user_name_allows_its_common_name_and_no_other_subject(
        #[case] username: &str,
        #[case] subject: Option<&str>,
        #[case] allowed: bool,
    ) {
        assert_eq!(is_allowed(&allow(Some(&["{{namespace}}.*"]), None), username, subject), allowed);
        let with_subjects = allow(Some(&["{{namespace}}.*"]), Some(&["CN={{namespace}}.*,O=Other"]));
        assert_eq!(is_allowed(&with_subjects, username, subject), allowed);
    }

    #[rstest]
    #[case("CN=shop.orders,OU=apps,O=Acme", true)]
    #[case("CN=shop-eu.orders,OU=apps,O=Acme", false)]
    #[case("OU=apps,CN=shop.orders,O=Acme", false)]
    #[case("CN=shop.orders,OU=apps,OU=members,O=Acme", false)]
    #[case("CN=shop.a\\,OU=members,OU=apps,O=Acme", false)]
    #[case("CN=shop.orders+OU=apps,O=Acme", false)]
    #[case("CN=shop.orders,O=apps,OU=Acme", false)]
    #[case("CN=shop.orders", false)]
    fn a_subject_is_matched_attribute_by_attribute(#[case] subject: &str, #[case] allowed: bool) {
        let allow = allow(None, Some(&["CN={{namespace}}.*,OU=apps,O=Acme"]));
        assert_eq!(is_allowed(&allow, "anything", Some(subject)), allowed);
        assert!(!is_allowed(&allow, "shop.orders", None), "no user name is allowed");
    }

    #[test]
    fn a_part_of_several_attributes_has_no_order() {
        let allow = allow(None, Some(&["UID={{namespace}}+CN=*,O=Acme"]));
        assert!(is_allowed(&allow, "x", Some("CN=a+UID=shop,O=Acme")) && is_allowed(&allow, "x", Some("UID=shop+CN=b,O=Acme")));
        assert!(!is_allowed(&allow, "x", Some("UID=shop-eu+CN=b,O=Acme")));
    }

    #[rstest]
    #[case("CN=mongo-0,OU=members,O=Acme", true)]
    #[case("CN=mongo-0,O=Acme,OU=members", true)]
    #[case("CN=mongo-0,OU=members+O=Acme", true)]
    #[case("CN=mongo-0,L=Bonn,OU=apps,OU=MEMBERS,O=  acme", true)]
    #[case("CN=mongo-0,OU=apps,O=Acme", false)]
    #[case("CN=OU\\=members,O=Acme", false)]
    fn forbidden_subjects_are_signed_for_nobody(#[case] subject: &str, #[case] forbidden: bool) {
        // A leading space is a part of a value only if it is escaped.
        let subject = subject.replace("O=  acme", "O=\\ \\ acme");
        let any = Allow::default().with_forbidden(&["OU=members,O=Acme".to_owned()]).unwrap();
        assert_eq!(is_allowed(&any, "x", Some(&subject)), !forbidden);
        assert!(Allow::default().with_forbidden(&["members".to_owned()]).is_err());
    }
}
