//! Statements about decisions, without a cluster: what they begin with.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod certificate;
mod compromised;
mod conditions;
mod connection;
mod credentials;
mod explain;
mod failure;
mod forced;
mod layout;
mod lifecycle;
mod pattern;
mod secret;
mod unreadable;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube_core::ObjectMeta;
use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::{
    api::{
        CertificateFailure, Connection, DatabaseType, DatabaseUserCertificate, DatabaseUserCertificateSpec,
        DatabaseUserCertificateStatus, DeletionPolicy, ISSUING, Issuance, IssuedCertificate, IssuerReference, PrivateKey,
        PrivateKeyAlgorithm, READY, Reason, UnaccountedCertificates, VerifiedSecret, condition,
        names::RENEW_REQUESTED_ANNOTATION,
    },
    certificate::{CertificateFacts, KeyAlgorithm, NameConstraints, PrivateKeySpec, Subject},
    layout::LayoutRecord,
};

const DAY: i64 = 86_400;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn object() -> DatabaseUserCertificate {
    DatabaseUserCertificate {
        metadata: ObjectMeta {
            name: Some("orders".into()),
            namespace: Some("shop".into()),
            uid: Some("uid-1".into()),
            generation: Some(1),
            ..ObjectMeta::default()
        },
        spec: DatabaseUserCertificateSpec {
            username: Some("orders".into()),
            issuer_ref: Some(IssuerReference { kind: crate::api::IssuerKind::CertificateIssuer, name: "issuer".into() }),
            ..DatabaseUserCertificateSpec::default()
        },
        status: None,
    }
}

const CA_DIGEST: &str = "ca";
const CHAIN_DIGEST: &str = "chain";

#[derive(Clone, Copy, Debug)]
enum IssuerType {
    Atlas,
    Ca,
}

fn issuer(issuer_type: IssuerType) -> IssuerFacts {
    IssuerFacts {
        username: None,
        method: match issuer_type {
            IssuerType::Atlas => IssuingMethod::Mint { months_until_expiration: 3 },
            IssuerType::Ca => IssuingMethod::Sign(CaFacts {
                duration: None,
                max_duration: None,
                not_after: at(4000 * DAY),
                ca_digest: CA_DIGEST.into(),
                chain_digest: CHAIN_DIGEST.into(),
                name_constraints: NameConstraints::default(),
            }),
        },
        allow: Allow::default(),
        identity: "ca/1".into(),
        version: "1".into(),
    }
}

fn certificate() -> CertificateFacts {
    CertificateFacts {
        serial_number: "0A".into(),
        subject: Subject::for_user("orders").unwrap(),
        issuer: "CN=CA".into(),
        not_before: at(0),
        not_after: at(90 * DAY),
        private_key: PrivateKeySpec { algorithm: KeyAlgorithm::Ecdsa, size: 256 },
    }
}

fn view() -> SecretView {
    SecretView {
        changed_by: None,
        written: None,
        deletion_policy: Some(DeletionPolicy::Delete),
        owners: Vec::new(),
        spoilt: None,
        layout: LayoutRecord::default(),
        previous_not_after: None,
        previous_serial_number: None,
        keystore: KeystoreView::default(),
        uid: "secret-uid".into(),
        resource_version: "7".into(),
        certificate: Ok(certificate()),
        wrong_type: None,
        held_by: None,
        complete: true,
        issuer: Some("ca/1".into()),
        issuance: None,
        issue_reason: Some("NoCertificate".into()),
        renew_request: None,
        ca_digest: Some(CA_DIGEST.into()),
        chain: ChainView { digest: Some(CHAIN_DIGEST.into()), ..ChainView::default() },
    }
}

fn observed() -> Observed {
    Observed {
        memory: ObjectMemory::default(),
        user: None,
        held: BTreeSet::new(),
        issuer: IssuerState::Usable(Box::new(issuer(IssuerType::Ca))),
        secret: SecretState::Ours(Box::new(view())),
        status: DatabaseUserCertificateStatus::default(),
        unreadable: None,
        is_spec_unreadable: false,
        process: None,
        released_by: None,
        namespace: "shop".into(),
        namespace_labels: BTreeMap::new(),
    }
}

fn with_view(change: impl FnOnce(&mut SecretView)) -> Observed {
    let mut view = view();
    change(&mut view);
    Observed { secret: SecretState::Ours(Box::new(view)), ..observed() }
}

fn with_issuer(change: impl FnOnce(&mut IssuerFacts)) -> Observed {
    let mut facts = issuer(IssuerType::Ca);
    change(&mut facts);
    Observed { issuer: IssuerState::Usable(Box::new(facts)), ..observed() }
}

fn ca_of(issuer: &mut IssuerFacts) -> &mut CaFacts {
    match &mut issuer.method {
        IssuingMethod::Sign(ca) => ca,
        IssuingMethod::Mint { .. } => panic!("it is no CA"),
    }
}

fn in_memory(certificate: CertificateFacts) -> ObjectMemory {
    let unsaved = UnsavedCertificate { certificate, claim: None, cause: Reason::RenewalDue, failure: None };
    ObjectMemory { unsaved: Some(unsaved), ..ObjectMemory::default() }
}

fn cause(decision: &Decision) -> Option<Reason> {
    match decision {
        Decision::Issue { cause, .. } => Some(*cause),
        _ => None,
    }
}

fn reason(decision: &Decision) -> Option<Reason> {
    match decision {
        Decision::Block { reason, .. } | Decision::Wait { reason, .. } => Some(*reason),
        _ => None,
    }
}

fn unaccounted(status: &crate::api::DatabaseUserCertificateStatus) -> i64 {
    status.unaccounted_certificates.as_ref().map_or(0, |found| found.count)
}

fn failed(minted: Minted, failure_reason: Reason) -> Observed {
    let mut observed = Observed { secret: SecretState::Absent, ..observed() };
    let Decision::Issue { desired, .. } = decide(&object(), &observed, at(0)) else { panic!() };
    let error = IssueError { reason: failure_reason, message: "no".into(), retry: Retry::Slowly, minted };
    record_failure(
        &mut observed.status,
        Some(&Inputs::new(&desired, &issuer(IssuerType::Ca))),
        &desired.uid,
        None,
        &error,
        at(0),
    );
    observed
}
