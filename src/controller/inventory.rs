//! What metrics tell of the objects of one scope: read off the caches of the watches and what is in memory anyway.

use kube::{ResourceExt, runtime::reflector::Store};
use url::Url;

use super::{Context, Received, issuers::controller::IssuerObject};
use crate::{
    api::{DatabaseUserCertificate, IssuerKey, ObjectKey},
    decide::CaFacts,
    figures::{CertificateFigures, IssuerFigures},
    issuer::atlas::Remaining,
    runtime::{CertificateSeries, Inventory, RateLimit},
};

impl Inventory for Context {
    fn certificates(&self, series: CertificateSeries) -> Vec<CertificateFigures> {
        let for_totals = series == CertificateSeries::Totals;
        let figures = self.certificate_store.state().into_iter().map(|object| {
            let figures = CertificateFigures::of(&object);
            let serial_number = figures.rollout.as_ref().map(|rollout| rollout.serial_number.as_str());
            let pods_behind = serial_number.and_then(|serial| self.rollouts.pods_behind(&ObjectKey::of(&object), serial));
            CertificateFigures { pods_behind, issuer_exists: !for_totals || self.issuer_exists(&object), ..figures }
        });
        figures.collect()
    }

    fn issuers(&self) -> Vec<IssuerFigures> {
        let mut figures = self.issuers_in(&self.issuer_store);
        figures.extend(self.cluster_issuer_store.iter().flat_map(|store| self.issuers_in(store)));
        figures
    }

    fn rate_limits(&self) -> Vec<RateLimit> {
        self.settings.atlas.limits().remaining().into_iter().map(rate_limit).collect()
    }

    fn queue_depth(&self) -> usize {
        self.settings.turns.waiting_of(&self.triggers)
    }

    fn unsaved(&self) -> usize {
        self.memory.all_kept().len()
    }
}

impl Context {
    /// Whether there is such an issuer. An object without one asks for none.
    fn issuer_exists(&self, object: &DatabaseUserCertificate) -> bool {
        IssuerKey::of(object).is_none_or(|key| self.has_issuer(&key))
    }

    fn issuers_in<K: IssuerObject>(&self, store: &Store<Received<K>>) -> Vec<IssuerFigures> {
        let figures = store.state().into_iter().map(|issuer| {
            let namespace = issuer.namespace().unwrap_or_default();
            let key = IssuerKey { kind: K::KIND, namespace, name: issuer.name_any() };
            let (ca_not_after, credentials_not_after) = match self.issuers.get(&key) {
                Some(Ok(loaded)) => {
                    (loaded.facts.ca().map(|CaFacts { not_after, .. }| *not_after), loaded.credentials_not_after)
                }
                Some(Err(fault)) => (fault.ca_not_after, None),
                None => (None, None),
            };
            IssuerFigures { ca_not_after, credentials_not_after, ..IssuerFigures::of(key, issuer.issuer_status()) }
        });
        figures.collect()
    }
}

/// The origin alone stands for the endpoint: a URL may have a user and a password in it.
fn rate_limit(remaining: Remaining) -> RateLimit {
    let Remaining { endpoint, project_id, requests } = remaining;
    let origin = endpoint.parse().map(|url: Url| url.origin().ascii_serialization());
    RateLimit { endpoint: origin.unwrap_or_default(), project: project_id, remaining: requests }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_names_the_origin_of_its_endpoint_and_no_password() {
        let of = |endpoint: &str| {
            rate_limit(Remaining { endpoint: endpoint.to_owned(), project_id: "p".to_owned(), requests: 7 }).endpoint
        };
        assert_eq!(of("https://cloud.mongodb.com/"), "https://cloud.mongodb.com");
        assert_eq!(of("https://user:password@proxy:8443/api?x=y"), "https://proxy:8443");
        assert_eq!(of("nothing"), "");
    }
}
