//! What a reference may lead to outside of its own namespace.
//!
//! # Guarantees
//!
//! - It leads to nothing in another namespace, unless the administrator lends credentials to the namespace with the reference.
//! - Whatever is wrong in another namespace gives the same message, so that nobody learns what is there. The log tells the rest.
//!
//! # Assumptions
//!
//! - Tenants write the objects of the Atlas Kubernetes Operator, and may write their statuses too. So nothing in these objects
//!   proves that their writer may use what they name in another namespace. Only the list of the administrator does.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::{
    api::{Reason, SecretLocation},
    issuers::IssuerFault,
};

/// The label by which the Atlas Kubernetes Operator itself recognises a Secret with credentials.
pub(crate) const CREDENTIALS_LABEL: (&str, &str) = ("atlas.mongodb.com/type", "credentials");

/// The one message for whatever is wrong in another namespace.
const UNUSABLE: &str = "the project or the credentials in the other namespace cannot be used, and the administrator finds the cause in the operator's log. Needed are an AtlasProject with an id, and a Secret with credentials and the label atlas.mongodb.com/type=credentials";

/// Where the target of a reference is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the namespace of the object with the reference.
    Own,
    /// In another namespace, or it is the Secret with the operator's own credentials.
    Elsewhere,
}

impl Place {
    /// The refusal as it may be told. A refusal about another namespace gets the one message, so that nobody learns what is
    /// there; its own message is for the log.
    pub(crate) fn hide(self, fault: IssuerFault) -> IssuerFault {
        match self {
            Self::Own => fault,
            Self::Elsewhere => IssuerFault {
                reason: Reason::LentCredentialsUnusable,
                message: UNUSABLE.to_owned(),
                detail: Some(fault.message),
                ca_not_after: None,
            },
        }
    }

    /// Whether a Secret with this metadata may be used there.
    ///
    /// # Errors
    /// Why not, as the end of a sentence about the Secret.
    pub(crate) fn check_label(self, metadata: &ObjectMeta) -> Result<(), &'static str> {
        let (key, value) = CREDENTIALS_LABEL;
        let has_label = || metadata.labels.as_ref().and_then(|labels| labels.get(key)).is_some_and(|found| found == value);
        if self == Self::Own || has_label() {
            Ok(())
        } else {
            Err("lacks the label atlas.mongodb.com/type=credentials, which the Atlas Kubernetes Operator wants too")
        }
    }
}

/// The namespaces to which the credentials of other namespaces, and the Atlas Kubernetes Operator's own, are lent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lending(BTreeSet<String>);

impl FromIterator<String> for Lending {
    fn from_iter<T: IntoIterator<Item = String>>(namespaces: T) -> Self {
        let names = namespaces.into_iter().map(|name| name.trim().to_owned());
        Self(names.filter(|name| !name.is_empty()).collect())
    }
}

impl Lending {
    /// Where `named` is, seen from `own`.
    ///
    /// # Errors
    /// It is another namespace, and nothing is lent to `own`.
    pub(crate) fn place(&self, own: &str, named: &str) -> Result<Place, IssuerFault> {
        if named == own {
            Ok(Place::Own)
        } else if self.0.contains(own) {
            Ok(Place::Elsewhere)
        } else {
            let message = format!(
                "this leads from namespace {own} to another one, whose AtlasProjects and credentials are not lent to it: name an AtlasProject and a Secret of namespace {own}, or ask the administrator to add {own} to the chart's value atlas.lendCredentialsTo (--lend-credentials-to)"
            );
            Err(IssuerFault::new(Reason::CredentialsNotLent, message))
        }
    }

    /// The Secret for a user in namespace `own`. The first of these that is named:
    ///
    /// 1. by the user; this Secret is in `own`
    /// 2. by its project; refused if it is in another namespace that is not lent to `own`
    /// 3. by the administrator, as that of the Atlas Kubernetes Operator itself; only if that is lent to `own`
    ///
    /// # Errors
    /// None is named, or the one that is named is not lent to this namespace.
    pub(crate) fn credentials(
        &self,
        own: &str,
        of_user: Option<SecretLocation>,
        (of_project, project_place): (Option<SecretLocation>, Place),
        global: Option<&SecretLocation>,
    ) -> Result<(SecretLocation, Place), IssuerFault> {
        if let Some(secret) = of_user {
            return Ok((secret, Place::Own));
        }
        if let Some(secret) = of_project {
            let place = self.place(own, &secret.namespace)?.max(project_place);
            return Ok((secret, place));
        }
        match global {
            Some(secret) if self.0.contains(own) => Ok((secret.clone(), Place::Elsewhere)),
            _ => Err(project_place.hide(IssuerFault::new(
                Reason::CredentialsNotFound,
                format!(
                    "neither the AtlasDatabaseUser nor its AtlasProject names a Secret with credentials: give spec.connectionSecret or spec.connectionSecretRef, or ask the administrator to lend namespace {own} the Atlas Kubernetes Operator's own (the chart's values atlas.operatorSecret and atlas.lendCredentialsTo)"
                ),
            ))),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn lending(namespaces: &[&str]) -> Lending {
        namespaces.iter().map(|name| (*name).to_owned()).collect()
    }

    fn name(namespace: &str, name: &str) -> SecretLocation {
        SecretLocation::new(namespace, name)
    }

    #[test]
    fn nothing_is_lent_unless_the_namespace_is_listed() {
        assert_eq!(Lending::default().place("shop", "shop"), Ok(Place::Own));
        let fault = Lending::default().place("shop", "bank").unwrap_err();
        assert_eq!(fault.reason, Reason::CredentialsNotLent);
        assert!(fault.message.contains("atlas.lendCredentialsTo"), "{}", fault.message);
        assert_eq!(lending(&[" shop ", ""]).place("shop", "bank"), Ok(Place::Elsewhere));
        assert!(lending(&["bank", "shop-eu", "sho", ""]).place("shop", "bank").is_err(), "to lend is not to borrow");
        assert!(lending(&[""]).place("", "bank").is_err());
    }

    #[rstest]
    #[case::of_the_user(Some(name("shop", "u")), Some(name("bank", "p")), &[], Ok((name("shop", "u"), Place::Own)))]
    #[case::of_the_project(None, Some(name("shop", "p")), &[], Ok((name("shop", "p"), Place::Own)))]
    #[case::of_the_project_elsewhere(None, Some(name("bank", "p")), &["shop"], Ok((name("bank", "p"), Place::Elsewhere)))]
    #[case::not_lent(None, Some(name("bank", "p")), &[], Err(Reason::CredentialsNotLent))]
    #[case::global(None, None, &["shop"], Ok((name("system", "key"), Place::Elsewhere)))]
    #[case::global_not_lent(None, None, &[], Err(Reason::CredentialsNotFound))]
    fn the_user_s_secret_goes_before_the_project_s_before_the_operator_s(
        #[case] of_user: Option<SecretLocation>,
        #[case] of_project: Option<SecretLocation>,
        #[case] lent_to: &[&str],
        #[case] expected: Result<(SecretLocation, Place), Reason>,
    ) {
        let global = name("system", "key");
        let found = lending(lent_to).credentials("shop", of_user, (of_project, Place::Own), Some(&global));
        assert_eq!(found.map_err(|fault| fault.reason), expected);
    }

    #[test]
    fn the_operator_s_own_credentials_are_lent_in_its_own_namespace_too() {
        let global = name("system", "key");
        let of_none = |lending: &Lending| lending.credentials("system", None, (None, Place::Own), Some(&global));
        assert_eq!(of_none(&Lending::default()).unwrap_err().reason, Reason::CredentialsNotFound);
        assert_eq!(of_none(&lending(&["system"])).unwrap().1, Place::Elsewhere);
    }

    #[test]
    fn nobody_learns_whether_the_operator_has_credentials_of_its_own() {
        let global = name("system", "key");
        let told = |global| Lending::default().credentials("shop", None, (None, Place::Own), global);
        assert_eq!(told(None), told(Some(&global)));
    }

    #[test]
    fn whatever_is_wrong_elsewhere_is_told_alike_and_the_rest_is_for_the_log() {
        let told = [Reason::CredentialsNotFound, Reason::CredentialsInvalid, Reason::AtlasObjectNotReady].map(|reason| {
            let fault = Place::Elsewhere.hide(IssuerFault::new(reason, format!("the Secret victim {reason:?}")));
            assert!(fault.detail.is_some_and(|detail| detail.contains("victim")));
            (fault.reason, fault.message)
        });
        assert!(told.iter().all(|one| *one == told[0] && !one.1.contains("victim")), "{told:?}");
        let own = IssuerFault::new(Reason::CredentialsNotFound, "the Secret a does not exist");
        assert_eq!(Place::Own.hide(own.clone()), own);
    }

    #[rstest]
    #[case(&[("atlas.mongodb.com/type", "credentials")], true)]
    #[case(&[("atlas.mongodb.com/type", "Credentials")], false)]
    #[case(&[("atlas.mongodb.com/cluster-name", "credentials")], false)]
    #[case(&[], false)]
    fn only_a_secret_with_the_label_is_lent(#[case] labels: &[(&str, &str)], #[case] expected: bool) {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let metadata = ObjectMeta { labels: Some(labels), ..ObjectMeta::default() };
        assert_eq!(Place::Elsewhere.check_label(&metadata).is_ok(), expected);
        assert!(Place::Elsewhere.check_label(&ObjectMeta::default()).is_err());
        assert!(Place::Own.check_label(&metadata).is_ok());
    }

    proptest! {
        #[test]
        fn no_secret_of_another_namespace_is_used_for_one_that_is_not_listed(
            own in "[ab]{1,2}",
            of_user in proptest::option::of("[a-b]{1,2}"),
            of_project in proptest::option::of("[ab]{1,2}"),
            global in proptest::option::of("[ab]{1,2}"),
            listed in proptest::collection::vec("[ab]{0,2}", 0..3),
        ) {
            let lending: Lending = listed.iter().cloned().collect();
            // A user names only Secrets in its own namespace.
            let of_user = of_user.map(|secret| name(&own, &secret));
            let of_project = of_project.map(|namespace| name(&namespace, "p"));
            let global = global.map(|namespace| name(&namespace, "g"));
            let found = lending.credentials(&own, of_user, (of_project, Place::Own), global.as_ref());
            if let Ok((secret, place)) = found && !listed.contains(&own) {
                prop_assert_eq!((secret.namespace.clone(), place), (own, Place::Own));
            }
        }
    }
}
