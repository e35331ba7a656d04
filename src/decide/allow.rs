//! Who may use an issuer, and for which user names.

use std::collections::BTreeMap;

use kube::core::{Selector, SelectorExt};

use crate::api::AllowedUse;

/// The parsed form of `spec.allow`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Allow {
    /// `None`: any namespace (an issuer of one namespace is found only there).
    namespaces: Option<Namespaces>,
    /// `None`: any user name.
    usernames: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Namespaces {
    names: Vec<String>,
    selector: Option<Selector>,
}

/// An `allow` that cannot be evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("spec.allow.namespaces.selector: {0}")]
pub struct AllowError(String);

impl Allow {
    /// Of an issuer of one namespace: its namespace, and the user names that it allows.
    #[must_use]
    pub fn of_namespaced_issuer(allow: Option<&AllowedUse>) -> Self {
        Self { namespaces: None, usernames: allow.and_then(|allow| allow.usernames.clone()) }
    }

    /// Of a cluster issuer: nobody until `namespaces` allows it.
    ///
    /// # Errors
    /// A selector with an operator that does not exist.
    pub fn of_cluster_issuer(allow: Option<&AllowedUse>) -> Result<Self, AllowError> {
        let choice = allow.and_then(|allow| allow.namespaces.clone()).unwrap_or_default();
        let selector = choice.selector.map(Selector::try_from).transpose().map_err(|error| AllowError(error.to_string()))?;
        Ok(Self {
            namespaces: Some(Namespaces { names: choice.names, selector }),
            usernames: allow.and_then(|allow| allow.usernames.clone()),
        })
    }

    /// Whether an object in this namespace may ask for this user name.
    ///
    /// # Errors
    /// The sentence that says what to change.
    pub fn check(&self, namespace: &str, labels: &BTreeMap<String, String>, username: &str) -> Result<(), String> {
        if let Some(namespaces) = &self.namespaces {
            let by_name = namespaces.names.iter().any(|name| name == namespace);
            let by_label = namespaces.selector.as_ref().is_some_and(|selector| selector.matches(labels));
            if !by_name && !by_label {
                return Err(format!("the issuer's spec.allow.namespaces does not include the namespace {namespace}"));
            }
        }
        if let Some(patterns) = &self.usernames
            && !patterns.iter().any(|pattern| matches(&pattern.replace("{{namespace}}", namespace), username))
        {
            return Err(format!("the issuer's spec.allow.usernames has no pattern that matches the user name {username:?}"));
        }
        Ok(())
    }
}

/// Whether `text` matches `pattern`, in which `*` stands for any characters, none included.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    let mut rest = rest;
    for part in parts {
        let Some(found) = rest.find(part) else { return false };
        rest = &rest[found + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::NamespaceChoice;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, text, expected) in [
            ("orders", "orders", true),
            ("orders", "orders2", false),
            ("shop-*", "shop-", true),
            ("shop-*", "shop-a-b", true),
            ("shop-*", "shopa", false),
            ("*", "", true),
            ("a*b*c", "a--b--c", true),
            ("a*b*c", "a--c--b", false),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_cluster_issuer_serves_nobody_until_allowed() {
        let nobody = Allow::of_cluster_issuer(None).unwrap_or_default();
        assert!(nobody.check("shop", &BTreeMap::new(), "orders").is_err());
    }

    #[test]
    fn names_and_labels_and_usernames() {
        let allow = AllowedUse {
            namespaces: Some(NamespaceChoice {
                names: vec!["shop".into()],
                selector: Some(LabelSelector {
                    match_labels: Some([("team".to_owned(), "db".to_owned())].into()),
                    ..LabelSelector::default()
                }),
            }),
            usernames: Some(vec!["{{namespace}}-*".into()]),
        };
        let allow = Allow::of_cluster_issuer(Some(&allow)).unwrap_or_default();
        let team = BTreeMap::from([("team".to_owned(), "db".to_owned())]);
        assert_eq!(allow.check("shop", &BTreeMap::new(), "shop-orders"), Ok(()));
        assert_eq!(allow.check("other", &team, "other-orders"), Ok(()));
        assert!(allow.check("other", &BTreeMap::new(), "other-orders").is_err());
        assert!(allow.check("shop", &BTreeMap::new(), "other-orders").is_err());
    }
}
