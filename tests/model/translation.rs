//! From the abstract state to the operator's own values, and back.

use std::sync::LazyLock;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time as KubernetesTime;
use kube::api::ObjectMeta;
use usercert_operator::{
    api::{
        CertificateFailure, ClaimedUser, DatabaseUserCertificate, DatabaseUserCertificateSpec, DatabaseUserCertificateStatus,
        DeletionPolicy, Issuance, IssuedCertificate, IssuerKind, IssuerReference, ListedBefore, ObjectName, READY, Reason,
        UnaccountedCertificate, UnaccountedCertificates, UnlistedClaim, VerifiedSecret, condition,
        names::{COMPROMISED_ANNOTATION, RENEW_REQUESTED_ANNOTATION},
        set_condition,
    },
    certificate::{CertificateFacts, KeyAlgorithm, PrivateKeySpec, SerialNumber, Subject},
    decide::{
        self, Allow, ChainView, FailedRequest, IssueError, IssuerFacts, IssuerState, IssuingMethod, KeystoreView,
        ListedCertificate, Minted, Observed, RenewBefore, Retry, SaveFailure, SecretState, SecretView, UnsavedCertificate,
        renewal_time,
    },
    layout::LayoutRecord,
};

use crate::{
    pass::Knows,
    world::{
        Account, Claim, Claimant, Content, Failed, Failure, OTHER_USER, Object, ObjectMemory, Secret, Serial, Status, Time,
        Unaccounted, Unsaved, made,
    },
};

const START: i64 = 1_800_000_000;
pub const UID: &str = "uid-1";

/// What stands for the digest of the one database user, as each account sees it.
pub const USER_KEYS: [&str; 2] = ["user", "user elsewhere"];

/// The names of processes: the one that wrote the claim in question, the next one in its Pod, and one elsewhere.
pub const PROCESSES: [&str; 3] = ["pod_a", "pod_b", "elsewhere_c"];
const ISSUER: &str = "atlas/project";
const AUTHORITY: &str = "CN=Atlas";

/// Three calendar months.
const LIFETIME: SignedDuration = SignedDuration::from_hours(90 * 24);

/// The user of each account.
const USERS: [&str; 2] = ["orders", "billing"];
static SUBJECTS: LazyLock<[Subject; 2]> = LazyLock::new(|| USERS.map(|user| Subject::for_user(user).unwrap()));

pub static FACTS: LazyLock<IssuerFacts> = LazyLock::new(|| IssuerFacts {
    method: IssuingMethod::Mint { months_until_expiration: 3 },
    allow: Allow::default(),
    username: None,
    identity: ISSUER.into(),
    version: "1".to_owned(),
});

pub fn at(time: Time) -> Timestamp {
    Timestamp::from_second(START + i64::from(time)).unwrap()
}

pub fn time(timestamp: Timestamp) -> Time {
    Time::try_from(timestamp.as_second() - START).unwrap()
}

pub fn serial_number(serial: Serial) -> String {
    format!("{serial:02X}")
}

pub fn serial(text: &str) -> Serial {
    Serial::from_str_radix(text, 16).unwrap()
}

fn number(text: &str) -> u8 {
    text.parse().unwrap()
}

/// What stands for the claim where a mutation writes none.
pub const NO_CLAIM: u8 = u8::MAX;

const KEY: PrivateKeySpec = PrivateKeySpec { algorithm: KeyAlgorithm::Rsa, size: 4096 };

/// A certificate of the ledger.
pub fn certificate(ledger: &[Time], serial: Serial) -> CertificateFacts {
    let entry = ledger[usize::from(serial)];
    let made_at = at(made(entry));
    CertificateFacts {
        serial_number: serial_number(serial).into(),
        subject: SUBJECTS[usize::from(entry & OTHER_USER != 0)].clone(),
        issuer: AUTHORITY.to_owned(),
        not_before: made_at,
        not_after: made_at + LIFETIME,
        private_key: KEY,
    }
}

pub fn not_after(ledger: &[Time], serial: Serial) -> Time {
    made(ledger[usize::from(serial)]) + Time::try_from(LIFETIME.as_secs()).unwrap()
}

/// A serial number, and when Atlas made the certificate.
pub fn made_at(serial: Serial, ledger: &[Time]) -> (SerialNumber, Timestamp) {
    (serial_number(serial).into(), at(made(ledger[usize::from(serial)])))
}

/// The operator's renewal time, which is as long after the beginning of validity for each certificate.
pub fn renewal_due(ledger: &[Time], serial: Serial) -> Time {
    static AFTER: LazyLock<Time> = LazyLock::new(|| time(renewal_time(&certificate(&[0], 0), RenewBefore::Default, UID)));
    made(ledger[usize::from(serial)]) + *AFTER
}

pub fn listed(ledger: &[Time], serials: &[Serial]) -> Vec<ListedCertificate> {
    let listed = |serial: &Serial| {
        let facts = certificate(ledger, *serial);
        ListedCertificate { serial_number: facts.serial_number, made_at: facts.not_before, not_after: facts.not_after }
    };
    serials.iter().map(listed).collect()
}

/// The error that the issuer or the API server would have told.
pub fn issue_error(failed: Failed) -> IssueError {
    let (reason, minted) = match failed {
        Failed::Lost => (Reason::AtlasAnswerLost, Minted::Possibly),
        Failed::NotConnected => (Reason::AtlasUnavailable, Minted::No),
        Failed::NotWritable => (Reason::SecretNotWritable, Minted::No),
    };
    IssueError { reason, message: String::new(), retry: Retry::Backoff, minted }
}

pub fn real_object(object: &Object, ledger: &[Time]) -> DatabaseUserCertificate {
    let renewal = object.renewal.map(|renewal| (RENEW_REQUESTED_ANNOTATION.to_owned(), renewal.to_string()));
    let compromised: Vec<String> = object.compromised.iter().map(|serial| serial_number(*serial)).collect();
    let compromised = (COMPROMISED_ANNOTATION.to_owned(), compromised.join(","));
    DatabaseUserCertificate {
        metadata: ObjectMeta {
            name: Some("orders".to_owned()),
            namespace: Some("shop".to_owned()),
            uid: Some(UID.to_owned()),
            generation: Some(1),
            resource_version: Some(object.version.to_string()),
            annotations: Some(renewal.into_iter().chain([compromised]).collect()),
            ..ObjectMeta::default()
        },
        spec: DatabaseUserCertificateSpec {
            username: (!object.refers).then(|| USERS[0].to_owned()),
            issuer_ref: (!object.refers)
                .then(|| IssuerReference { kind: IssuerKind::CertificateIssuer, name: "atlas".to_owned() }),
            user_ref: object.refers.then(|| ObjectName { name: "user".to_owned() }),
            ..DatabaseUserCertificateSpec::default()
        },
        status: Some(real_status(&object.status, ledger)),
    }
}

pub fn real_view(secret: &Secret, ledger: &[Time]) -> SecretView {
    SecretView {
        spoilt: None,
        layout: LayoutRecord::default(),
        previous_not_after: None,
        previous_serial_number: None,
        keystore: KeystoreView::default(),
        uid: secret.uid.to_string(),
        resource_version: secret.version.to_string(),
        certificate: Ok(certificate(ledger, secret.content.serial)),
        wrong_type: None,
        held_by: None,
        complete: true,
        issuer: Some(ISSUER.into()),
        issuance: secret.content.claim.map(|claim| claim.to_string()),
        issue_reason: Some(cause(secret.content.forced).as_str().to_owned()),
        renew_request: secret.content.renewal.map(|renewal| renewal.to_string()),
        ca_digest: None,
        chain: ChainView::default(),
        changed_by: None,
        written: None,
        deletion_policy: Some(DeletionPolicy::Delete),
        owners: Vec::new(),
    }
}

/// What was observed, as `controller::pass` puts it together.
pub fn real_observed(
    secret: Option<&Secret>,
    memory: &ObjectMemory,
    (account, claimant, is_unknown): Knows,
    ledger: &[Time],
) -> Observed {
    let process = match claimant {
        Claimant::Itself => PROCESSES[0],
        Claimant::OneBefore => PROCESSES[1],
        Claimant::Another => PROCESSES[2],
    };
    let username = Some(USERS[usize::from(account)].to_owned());
    let facts = IssuerFacts { version: account.to_string(), username, ..FACTS.clone() };
    Observed {
        process: Some(process.to_owned()),
        issuer: if is_unknown {
            IssuerState::Unusable(Reason::AtlasObjectNotReady, String::new())
        } else {
            IssuerState::Usable(Box::new(facts))
        },
        secret: secret.map_or(SecretState::Absent, |secret| SecretState::Ours(Box::new(real_view(secret, ledger)))),
        memory: real_memory(memory, ledger),
        namespace: "shop".to_owned(),
        ..Observed::default()
    }
}

fn real_memory(memory: &ObjectMemory, ledger: &[Time]) -> decide::ObjectMemory {
    let failure = |until| SaveFailure { until: at(until), reason: Reason::SecretNotWritable, message: String::new() };
    let unsaved = |unsaved: &Unsaved| UnsavedCertificate {
        certificate: certificate(ledger, unsaved.content.serial),
        claim: unsaved.content.claim.map(|claim| claim.to_string()),
        cause: Reason::Issued,
        failure: unsaved.refused_until.map(failure),
    };
    let failed_request = |(claim, failed): (u8, Failed)| FailedRequest { claim: claim.to_string(), error: issue_error(failed) };
    decide::ObjectMemory {
        unsaved: memory.unsaved.as_ref().map(unsaved),
        failed_request: memory.failed_request.map(failed_request),
        unsent_claims: memory.unsent_claim.map(|claim| claim.to_string()).into_iter().collect(),
        failures: u32::from(memory.failures),
        repairs: Vec::new(),
        written_layout: None,
        owner_failure: None,
        repair_failure: None,
    }
}

/// What is remembered after a step. What the Secret is to hold is kept by whoever performed it.
pub fn abstract_memory(memory: &decide::ObjectMemory, kept: Option<&Content>) -> ObjectMemory {
    let failed = |error: &IssueError| match error.reason {
        Reason::AtlasAnswerLost => Failed::Lost,
        Reason::AtlasUnavailable => Failed::NotConnected,
        _ => Failed::NotWritable,
    };
    let unsaved = |unsaved: &UnsavedCertificate| {
        let content = kept.unwrap().clone();
        assert_eq!(unsaved.claim.as_deref().map(number).filter(|claim| *claim != NO_CLAIM), content.claim);
        Unsaved { content, refused_until: unsaved.failure.as_ref().map(|failure| time(failure.until)) }
    };
    ObjectMemory {
        unsaved: memory.unsaved.as_ref().map(unsaved),
        failed_request: memory.failed_request.as_ref().map(|request| (number(&request.claim), failed(&request.error))),
        unsent_claim: memory.unsent_claims.last().map(String::as_str).map(number),
        failures: u8::try_from(memory.failures).unwrap(),
    }
}

pub fn real_status(status: &Status, ledger: &[Time]) -> DatabaseUserCertificateStatus {
    let facts = status.serial.map(|serial| certificate(ledger, serial));
    let mut conditions = Vec::new();
    set_condition(&mut conditions, READY, status.is_ready, Reason::Issued, "", Some(1), at(0));
    DatabaseUserCertificateStatus {
        observed_generation: Some(1),
        secret_name: Some("orders".to_owned()),
        binding: None,
        serial_number: facts.as_ref().map(|facts| facts.serial_number.to_string()),
        subject: facts.as_ref().map(|facts| facts.subject.mongodb_user_name()),
        not_before: facts.as_ref().map(|facts| KubernetesTime(facts.not_before)),
        not_after: facts.as_ref().map(|facts| KubernetesTime(facts.not_after)),
        renewal_time: None,
        conditions,
        issuance: status.claim.as_ref().map(real_claim),
        failure: status.failure.as_ref().map(real_failure),
        history: status.history.iter().map(|(serial, recorded_at)| issued(*serial, *recorded_at, ledger)).collect(),
        unaccounted_certificates: status.unaccounted.as_ref().map(|unaccounted| real_unaccounted(unaccounted, ledger)),
        renew_request_handled: status.renewal_handled.map(|renewal| renewal.to_string()),
        verified: status.verified.map(|(uid, version)| VerifiedSecret {
            keystore_password: None,
            wrong_type: None,
            uid: uid.to_string(),
            resource_version: version.to_string(),
            issuer: AUTHORITY.to_owned(),
            private_key: KEY.to_string(),
            chain: None,
            chain_not_after: None,
        }),
        forced_renewals: status.forced.iter().map(|time| KubernetesTime(at(*time))).collect(),
        retained_secret_uid: None,
        rollout: None,
    }
}

/// What a claim remembers of a list. There are fewer certificates than it names.
pub fn real_before(serials: &[Serial]) -> ListedBefore {
    ListedBefore { serial_numbers: serials.iter().copied().map(serial_number).collect(), others_until: None }
}

/// The inverse.
pub fn abstract_before(before: &ListedBefore) -> Vec<Serial> {
    assert_eq!(before.others_until, None);
    before.serial_numbers.iter().map(|text| serial(text)).collect()
}

/// Why a certificate was made, as far as a rule goes by it.
const fn cause(forced: bool) -> Reason {
    if forced { Reason::RenewalRequested } else { Reason::Issued }
}

fn real_claim(claim: &Claim) -> Issuance {
    Issuance {
        id: claim.id.to_string(),
        reason: cause(claim.forced).as_str().to_owned(),
        attempt: i64::from(claim.attempt),
        since: KubernetesTime(at(claim.since)),
        user: Some(ClaimedUser {
            key: USER_KEYS[usize::from(claim.account)].to_owned(),
            listed: claim.before.as_deref().map(real_before),
        }),
        process: Some(PROCESSES[0].to_owned()),
    }
}

fn real_failure(failure: &Failure) -> CertificateFailure {
    CertificateFailure {
        count: i64::from(failure.count),
        count_of_reason: None,
        asked_by_issuer: false,
        reason: failure.reason.as_str().to_owned(),
        message: String::new(),
        last_time: KubernetesTime(at(failure.last_time)),
        next_attempt: KubernetesTime(at(failure.next_attempt)),
        inputs: failure.inputs.clone(),
        cause: None,
        unlisted: failure.unlisted.as_ref().map(|(claim, next_question)| UnlistedClaim {
            claim: real_claim(claim),
            next_question: KubernetesTime(at(*next_question)),
        }),
    }
}

fn issued(serial: Serial, recorded_at: Time, ledger: &[Time]) -> IssuedCertificate {
    IssuedCertificate {
        issuer: None,
        serial_number: serial_number(serial),
        reason: Reason::Issued.as_str().to_owned(),
        recorded_at: KubernetesTime(at(recorded_at)),
        not_after: KubernetesTime(at(not_after(ledger, serial))),
    }
}

fn real_unaccounted(unaccounted: &Unaccounted, ledger: &[Time]) -> UnaccountedCertificates {
    let named = |serial: &Serial| UnaccountedCertificate {
        serial_number: serial_number(*serial),
        not_after: KubernetesTime(at(not_after(ledger, *serial))),
    };
    let certificates: Vec<_> = unaccounted.listed.iter().map(named).collect();
    UnaccountedCertificates {
        count: i64::from(unaccounted.count),
        presumed: i64::from(unaccounted.presumed),
        presumed_claims: unaccounted.claims.iter().map(u8::to_string).collect(),
        latest_expiry: certificates.iter().map(|certificate| certificate.not_after.clone()).max(),
        certificates,
        listed_at: unaccounted.listed_at.map(|listed_at| KubernetesTime(at(listed_at))),
    }
}

/// The account whose digest of the user this is.
pub fn account_of(key: &str) -> Account {
    u8::try_from(USER_KEYS.iter().position(|known| *known == key).unwrap()).unwrap()
}

fn abstract_claim(claim: &Issuance) -> Claim {
    let user = claim.user.as_ref().unwrap();
    Claim {
        id: number(&claim.id),
        attempt: u8::try_from(claim.attempt).unwrap(),
        since: time(claim.since.0),
        forced: claim.reason == Reason::RenewalRequested.as_str(),
        account: account_of(&user.key),
        before: user.listed.as_ref().map(abstract_before),
    }
}

/// The inverse of [`real_object`] for the status; the properties and decisions read no more of it.
pub fn abstract_status(status: &DatabaseUserCertificateStatus) -> Status {
    Status {
        serial: status.serial_number.as_deref().map(serial),
        verified: status.verified.as_ref().map(|verified| (number(&verified.uid), number(&verified.resource_version))),
        is_ready: condition(&status.conditions, READY).is_some_and(|ready| ready.status == "True"),
        claim: status.issuance.as_ref().map(abstract_claim),
        failure: status.failure.as_ref().map(|failure| Failure {
            count: u8::try_from(failure.count).unwrap(),
            reason: Reason::from_name(&failure.reason).unwrap(),
            last_time: time(failure.last_time.0),
            next_attempt: time(failure.next_attempt.0),
            inputs: failure.inputs.clone(),
            unlisted: failure
                .unlisted
                .as_ref()
                .map(|unlisted| (abstract_claim(&unlisted.claim), time(unlisted.next_question.0))),
        }),
        history: status.history.iter().map(|issued| (serial(&issued.serial_number), time(issued.recorded_at.0))).collect(),
        unaccounted: status.unaccounted_certificates.as_ref().map(|unaccounted| Unaccounted {
            count: u8::try_from(unaccounted.count).unwrap(),
            presumed: u8::try_from(unaccounted.presumed).unwrap(),
            claims: unaccounted.presumed_claims.iter().map(|claim| number(claim)).collect(),
            listed: unaccounted.certificates.iter().map(|certificate| serial(&certificate.serial_number)).collect(),
            listed_at: unaccounted.listed_at.as_ref().map(|listed_at| time(listed_at.0)),
        }),
        renewal_handled: status.renew_request_handled.as_deref().map(number),
        forced: status.forced_renewals.iter().map(|forced| time(forced.0)).collect(),
    }
}
