//! The series that are about the state of things: objects, limits, queues, the lead. They are made at each scrape.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use jiff::Timestamp;
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::{
    CertificateSeries, RateLimit,
    certificates::{encode_each, encode_totals},
    family::{GaugeOf, gauge, gauges},
    inventory::Inventories,
};
use crate::{
    Leadership, Readiness,
    figures::{self, CertificateFigures, IssuerFigures},
};

const ISSUER: [GaugeOf<IssuerFigures>; 3] = [
    GaugeOf {
        name: "usercert_issuer_ready",
        help: "1 if the condition Ready of the issuer is True, else 0",
        value: |figures| Some(i64::from(figures.ready == figures::Readiness::True)),
    },
    GaugeOf {
        name: "usercert_issuer_ca_not_after_timestamp_seconds",
        help: "When the first certificate of the CA's chain expires, or when it has; none if the CA cannot be used for another reason",
        value: |figures| figures.ca_not_after.map(Timestamp::as_second),
    },
    GaugeOf {
        name: "usercert_issuer_credentials_not_after_timestamp_seconds",
        help: "When the client secret of the service account expires at the latest: a year after its Secret got its data, or when the annotation usercert.dev/credentials-not-after of the Secret says",
        value: |figures| figures.credentials_not_after.map(Timestamp::as_second),
    },
];

const RATE_LIMIT: [GaugeOf<RateLimit>; 1] = [GaugeOf {
    name: "usercert_atlas_rate_limit_remaining",
    help: "Requests for certificates that Atlas allows the project still, as its last answer said; 0 after a 429",
    value: |limit| Some(i64::from(limit.remaining)),
}];

/// Whose credentials Atlas refuses: of an issuer, or of the certificates without one in a namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Refused {
    kind: &'static str,
    namespace: String,
    name: String,
    reason: &'static str,
}

const REFUSED: [GaugeOf<Refused>; 1] = [GaugeOf {
    name: "usercert_credentials_refused",
    help: "1 where Atlas refuses the credentials of an issuer, or of certificates without an issuer object (kind userRef, one series for all of a namespace); none where it does not",
    value: |_| Some(1),
}];

fn refused(issuers: &[IssuerFigures], certificates: &[CertificateFigures]) -> Vec<Refused> {
    let of_issuers = issuers.iter().filter_map(|IssuerFigures { issuer, credentials_refused, .. }| {
        let reason = credentials_refused.as_ref()?.as_str();
        Some(Refused { kind: issuer.kind.as_str(), namespace: issuer.namespace.clone(), name: issuer.name.clone(), reason })
    });
    let without_issuer = certificates.iter().filter_map(|CertificateFigures { object, credentials_refused, .. }| {
        let reason = credentials_refused.as_ref()?.as_str();
        Some(Refused { kind: "userRef", namespace: object.namespace.clone(), name: String::new(), reason })
    });
    of_issuers.chain(without_issuer).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Tells the state of things.
#[derive(Debug)]
pub(super) struct ObjectSeries {
    pub(super) leadership: Leadership,
    pub(super) readiness: Readiness,
    pub(super) certificates: CertificateSeries,
    pub(super) inventories: Inventories,
}

impl Collector for ObjectSeries {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let leads = self.leadership.leads();
        gauge(encoder, "usercert_leading", "1 if this process leads, else 0", i64::from(leads))?;
        let works = leads && self.readiness.is_ready();
        let help = "1 if this process leads and the first lists of all its watches have come, else 0";
        gauge(encoder, "usercert_working", help, i64::from(works))?;
        let inventories = self.inventories.all();
        let sum = |count: fn(&dyn super::Inventory) -> usize| {
            i64::try_from(inventories.iter().map(|inventory| count(inventory.as_ref())).sum::<usize>()).unwrap_or(i64::MAX)
        };
        let help = "Certificates that wait for their turn to ask Atlas";
        gauge(encoder, "usercert_queue_depth", help, sum(|inventory| inventory.queue_depth()))?;
        let help = "Certificates that were made and are in the memory of this process alone, because their Secrets could not be written yet";
        gauge(encoder, "usercert_certificates_unsaved", help, sum(|inventory| inventory.unsaved()))?;

        // Another process may lead by now and tell the same.
        let inventories = if leads { inventories } else { Vec::new() };
        let certificates: Vec<_> = inventories.iter().flat_map(|inventory| inventory.certificates(self.certificates)).collect();
        let issuers: Vec<_> = inventories.iter().flat_map(|inventory| inventory.issuers()).collect();
        gauges(encoder, &REFUSED, &refused(&issuers, &certificates), |Refused { kind, namespace, name, reason }| {
            [("kind", *kind), ("namespace", namespace), ("name", name), ("reason", reason)]
        })?;
        match self.certificates {
            CertificateSeries::Each => encode_each(encoder, &certificates)?,
            CertificateSeries::Totals if works => encode_totals(encoder, certificates, Timestamp::now())?,
            // Who does not know all objects has no totals: what is missing would be taken for mended.
            CertificateSeries::Totals => {}
        }
        gauges(encoder, &ISSUER, &issuers, |IssuerFigures { issuer, .. }| {
            [("kind", issuer.kind.as_str()), ("namespace", &issuer.namespace), ("name", &issuer.name)]
        })?;
        let limits = inventories.iter().flat_map(|inventory| inventory.rate_limits());
        let limits: BTreeMap<_, _> = limits.map(|limit| ((limit.endpoint.clone(), limit.project.clone()), limit)).collect();
        let limits: Vec<RateLimit> = limits.into_values().collect();
        gauges(encoder, &RATE_LIMIT, &limits, |RateLimit { endpoint, project, .. }| {
            [("endpoint", endpoint.as_str()), ("project", project)]
        })
    }
}
