//! `inspect`: what is in a certificate, its chain and its key, and who uses it.

mod inspection;
mod render;

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::Value;
use usercert_operator_controller::{Received, chain};
use usercert_operator_core::{
    api::names::{CA_CERTIFICATE, TLS_CERTIFICATE, TLS_COMBINED, TLS_PRIVATE_KEY},
    certificate::{CertificateFacts, CertificatePair, PairError, check_leads_to, read_certificates},
    rollout::Uses,
};
use zeroize::Zeroizing;

use self::{
    inspection::{Consumer, Inspection, KeyFit, ToldCertificate, ToldSecret},
    render::render,
};
use super::whole::Whole;
use crate::{
    arguments::Form,
    cluster::Cluster,
    exit::{Answer, CliError, Exit, for_programs},
    session::Session,
};

/// The type of Secrets that have a certificate and its key.
const TLS: &str = "kubernetes.io/tls";

/// PEM texts that may hold keys.
#[derive(Default)]
struct Pem {
    certificates: Zeroizing<Vec<u8>>,
    key: Zeroizing<Vec<u8>>,
    ca: Option<Zeroizing<Vec<u8>>>,
    /// Where a key must be, if there must be one.
    place_of_key: Option<String>,
}

/// Inspects files. No cluster is asked.
pub(super) fn inspect_file(
    session: &Session,
    file: &Path,
    key: Option<&Path>,
    ca: Option<&Path>,
    form: Form,
) -> Result<Answer, CliError> {
    let certificates = read_file(file)?;
    let place_of_key = key.map(|key| key.display().to_string());
    let key = key.map_or_else(|| Ok(certificates.clone()), read_file)?;
    let ca = ca.map(read_file).transpose()?;
    let inspection = inspect(file.display().to_string(), &Pem { certificates, key, ca, place_of_key }, session.now())?;
    answer(&inspection, session, form)
}

/// Inspects a Secret and the Pods that use it.
pub(super) async fn inspect_secret(cluster: &Cluster, session: &Session, name: &str, form: Form) -> Result<Answer, CliError> {
    let namespace = &cluster.namespace;
    let api = Api::<Received<Secret>>::namespaced(cluster.client.clone(), namespace);
    let found = cluster.ask(format!("read the Secret {name}"), api.get_opt(name)).await?;
    let secret = found.ok_or_else(|| CliError::NotFound(format!("there is no Secret {name} in the namespace {namespace}")))?;
    let mut inspection = inspect(format!("{namespace}/{name}"), &pem_of(&secret), session.now())?;
    inspection.notes.extend(secret.unreadable().map(|unreadable| format!("a part of the Secret was left out: {unreadable}")));
    let pods = Api::<Whole<Pod>>::namespaced(cluster.client.clone(), namespace);
    // What the certificate is, the answer tells without them.
    let consumers = cluster.list("Pods", &pods, &ListParams::default()).await.unwrap_or_else(|error| {
        let why = if error.is_denied() { "you may not list Pods".to_owned() } else { chain(&error) };
        inspection.notes.push(format!("who uses the Secret: {why}"));
        Vec::new()
    });
    let consumers = consumers.iter().filter_map(|pod| consumer(pod, name)).collect();
    let owner = secret.owner_references().iter().find(|owner| owner.controller == Some(true));
    inspection.secret = Some(ToldSecret {
        type_: secret.type_.clone().unwrap_or_default(),
        entries: secret.data.iter().flatten().map(|(key, _)| key.clone()).collect(),
        controller: owner.map(|owner| format!("{}/{}", owner.kind, owner.name)),
        consumers,
    });
    answer(&inspection, session, form)
}

/// The content of a file, or of standard input for `-`.
pub(super) fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = if path == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut bytes)
    } else {
        fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes))
    };
    read.map(|_| bytes).map_err(|source| CliError::File { operation: "read", path: PathBuf::from(path), source })
}

fn pem_of(secret: &Secret) -> Pem {
    let entry = |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).map(|value| Zeroizing::new(value.0.clone()));
    let combined = || entry(TLS_COMBINED).unwrap_or_default();
    let filled = |bytes: Option<Zeroizing<Vec<u8>>>| bytes.filter(|bytes| !bytes.is_empty());
    Pem {
        certificates: filled(entry(TLS_CERTIFICATE)).unwrap_or_else(combined),
        key: filled(entry(TLS_PRIVATE_KEY)).unwrap_or_else(combined),
        ca: filled(entry(CA_CERTIFICATE)),
        place_of_key: secret.type_.as_deref().filter(|type_| *type_ == TLS).map(|_| TLS_PRIVATE_KEY.to_owned()),
    }
}

/// What PEM texts hold.
fn inspect(source: String, pem: &Pem, now: Timestamp) -> Result<Inspection, CliError> {
    let chain = read_certificates(&pem.certificates)
        .map_err(|fault| CliError::Unusable(format!("{source}: the certificate cannot be read: {fault}")))?;
    let mut problems = Vec::new();
    let mut certificates = Vec::new();
    for certificate in &chain {
        match CertificateFacts::of(certificate) {
            Ok(facts) => certificates.push(facts),
            Err(fault) => problems.push(format!("certificate {} of the chain: {fault}", certificates.len() + 1)),
        }
    }
    for facts in &certificates {
        if facts.not_after <= now {
            problems.push(format!("{} expired at {}", facts.subject, facts.not_after));
        } else if facts.not_before > now {
            problems.push(format!("{} is valid from {} on: compare the clocks", facts.subject, facts.not_before));
        }
    }
    let pair = CertificatePair::parse(&pem.certificates, &pem.key);
    let has_key = String::from_utf8_lossy(&pem.key).contains("PRIVATE KEY-----");
    let key = match &pair {
        Ok(_) => KeyFit::Fits,
        Err(_) if !has_key => {
            problems.extend(pem.place_of_key.iter().map(|place| format!("there is no private key in {place}")));
            KeyFit::Absent
        }
        Err(fault) => {
            problems.push(fault.to_string());
            KeyFit::DoesNotFit
        }
    };
    let for_clients = pair.as_ref().ok().map(CertificatePair::is_for_clients);
    if for_clients == Some(false) {
        problems.push(PairError::NotForClients.to_string());
    }
    let led = pem.ca.as_ref().map(|ca| check_leads_to(&chain, ca));
    match &led {
        Some(Err(fault)) => problems.push(fault.to_string()),
        Some(Ok(end)) if *end <= now => {
            problems.push(format!("the chain ended at {end}: a certificate above the first one has expired, or the CA has"));
        }
        Some(Ok(_)) | None => {}
    }
    Ok(Inspection {
        source,
        certificates: certificates.into_iter().map(ToldCertificate::from).collect(),
        key,
        for_clients,
        leads_to_ca: led.as_ref().map(Result::is_ok),
        chain_ends: led.and_then(Result::ok),
        secret: None,
        problems,
        notes: Vec::new(),
    })
}

impl From<CertificateFacts> for ToldCertificate {
    fn from(facts: CertificateFacts) -> Self {
        Self {
            subject: facts.subject.to_string(),
            issuer: facts.issuer,
            serial_number: facts.serial_number.to_string(),
            private_key: facts.private_key.to_string(),
            not_before: facts.not_before,
            not_after: facts.not_after,
        }
    }
}

/// How a Pod uses the Secret; `None` if it does not, or has ended.
fn consumer(pod: &Whole<Pod>, secret: &str) -> Option<Consumer> {
    if matches!(pod.text("/status/phase"), "Succeeded" | "Failed") {
        return None;
    }
    let uses = Uses::of(pod.value.get("spec")?, secret);
    let owner = pod.list("/metadata/ownerReferences").iter().find(|owner| owner["controller"] == true);
    let text = |owner: &Value, field: &str| owner[field].as_str().unwrap_or_default().to_owned();
    uses.any().then(|| Consumer {
        pod: pod.name().to_owned(),
        made_by: owner.map(|owner| format!("{}/{}", text(owner, "kind"), text(owner, "name"))),
        uses: uses.updated_by_restart_alone().unwrap_or("files"),
        updated_in_place: uses.updated_by_restart_alone().is_none(),
    })
}

fn answer(inspection: &Inspection, session: &Session, form: Form) -> Result<Answer, CliError> {
    let exit = if inspection.problems.is_empty() { Exit::Good } else { Exit::Attention };
    let text = for_programs(inspection, form)?.unwrap_or_else(|| render(inspection, &session.terminal, session.now()));
    Ok(Answer::new(text, exit))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
    use serde_json::json;

    use super::*;
    use crate::terminal::Terminal;

    /// The PEM of a CA, of a certificate that it signed, and of that one's key.
    fn made() -> (String, String, String) {
        made_until(2040)
    }

    /// The same, of a CA that expires with the beginning of this year.
    fn made_until(year: i32) -> (String, String, String) {
        let mut ca = CertificateParams::default();
        ca.not_after = rcgen::date_time_ymd(year, 1, 1);
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.distinguished_name.push(rcgen::DnType::CommonName, "CA");
        let ca_key = KeyPair::generate().unwrap();
        let ca_certificate = ca.self_signed(&ca_key).unwrap();
        let mut leaf = CertificateParams::default();
        leaf.distinguished_name = rcgen::DistinguishedName::new();
        leaf.distinguished_name.push(rcgen::DnType::CommonName, "orders");
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        (leaf.not_before, leaf.not_after) = (rcgen::date_time_ymd(2026, 1, 1), rcgen::date_time_ymd(2026, 4, 1));
        let key = KeyPair::generate().unwrap();
        let certificate = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
        (ca_certificate.pem(), certificate.pem(), key.serialize_pem())
    }

    fn asked(certificates: &str, key: &str, ca: Option<&str>, now: &str) -> Inspection {
        let bytes = |text: &str| Zeroizing::new(text.as_bytes().to_vec());
        let pem = Pem { certificates: bytes(certificates), key: bytes(key), ca: ca.map(bytes), place_of_key: None };
        inspect("client.pem".to_owned(), &pem, now.parse().unwrap()).expect("there is a certificate")
    }

    #[test]
    fn a_good_pair_is_told_without_its_key() {
        let (ca, certificate, key) = made();
        let now = "2026-03-02T00:00:00Z";
        let found = asked(&certificate, &key, Some(&ca), now);
        assert_eq!((found.key, found.leads_to_ca, found.for_clients), (KeyFit::Fits, Some(true), Some(true)));
        assert_eq!(found.problems, Vec::<String>::new());
        let text = render(&found, &Terminal::none(), now.parse().unwrap());
        assert!(text.contains("Certificate: CN=orders, serial number") && text.contains("(in 30d)"), "{text}");
        let json = for_programs(&found, Form::Json).unwrap().unwrap();
        assert!(!text.contains("PRIVATE") && !json.contains("PRIVATE"), "{text}{json}");
    }

    #[test]
    fn each_fault_is_a_problem() {
        let (ca, certificate, key) = made();
        let (other_ca, _, other_key) = made();
        let good = "2026-03-02T00:00:00Z";
        let problems = |key: &str, ca: &str, now: &str| asked(&certificate, key, Some(ca), now).problems.join("; ");
        assert_eq!(problems(&other_key, &ca, good), "the private key does not fit the certificate");
        assert!(problems(&key, &other_ca, good).contains("does not lead to ca.crt"));
        assert!(problems(&key, &ca, "2026-05-01T00:00:00Z").contains("CN=orders expired at 2026-04-01"));
        assert!(problems(&key, &ca, "2025-05-01T00:00:00Z").contains("is valid from 2026-01-01"));
        assert_eq!(asked(&certificate, "", None, good).key, KeyFit::Absent);
    }

    #[test]
    fn a_chain_whose_ca_has_expired_is_a_problem_of_a_file_and_of_a_secret() {
        let (ca, certificate, key) = made_until(2021);
        let now: Timestamp = "2026-03-02T00:00:00Z".parse().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let session = Session { terminal: Terminal::none(), clock: std::sync::Arc::new(move || now) };
        let (pair, ca_file) = (file("pair.pem", &format!("{certificate}{key}")), file("ca.pem", &ca));
        let told = inspect_file(&session, &pair, None, Some(&ca_file), Form::Table).unwrap();
        assert_eq!(told.exit, Exit::Attention);
        assert!(told.text().contains("Chain: leads to the CA, until 2021-01-01T00:00:00Z"), "{}", told.text());
        assert!(told.text().contains("the chain ended at 2021-01-01T00:00:00Z"), "{}", told.text());
        let found = inspect("shop/orders".to_owned(), &pem_of(&secret(&certificate, &key, &ca)), now).unwrap();
        assert!(found.problems.join("; ").starts_with("the chain ended at 2021-01-01"), "{:?}", found.problems);
        let json = for_programs(&found, Form::Json).unwrap().unwrap();
        assert!(json.contains("\"chainEnds\": \"2021-01-01T00:00:00Z\""), "{json}");
        let (ca, certificate, key) = made();
        let found = inspect("shop/orders".to_owned(), &pem_of(&secret(&certificate, &key, &ca)), now).unwrap();
        assert_eq!(found.problems, Vec::<String>::new());
    }

    fn secret(certificate: &str, key: &str, ca: &str) -> Secret {
        let entries = [("tls.crt", certificate), ("tls.key", key), ("ca.crt", ca)];
        let entries = entries.map(|(name, text)| (name.to_owned(), k8s_openapi::ByteString(text.as_bytes().to_vec())));
        Secret { type_: Some(TLS.to_owned()), data: Some(entries.into()), ..Secret::default() }
    }

    #[test]
    fn a_key_that_is_missing_where_one_must_be_is_a_problem() {
        let (ca, certificate, _) = made();
        let now: Timestamp = "2026-03-02T00:00:00Z".parse().unwrap();
        let of = |secret: &Secret| inspect("shop/orders".to_owned(), &pem_of(secret), now).unwrap();
        let mut secret = secret(&certificate, "", &ca);
        assert_eq!(of(&secret).problems, ["there is no private key in tls.key"]);
        secret.type_ = Some("Opaque".to_owned());
        assert_eq!(of(&secret).problems, Vec::<String>::new());
        let folder = tempfile::tempdir().unwrap();
        let (file, empty) = (folder.path().join("a.pem"), folder.path().join("key.pem"));
        fs::write(&file, &certificate).unwrap();
        fs::write(&empty, "no key").unwrap();
        let session = Session { terminal: Terminal::none(), clock: std::sync::Arc::new(move || now) };
        let told = |key: Option<&Path>| inspect_file(&session, &file, key, None, Form::Table).unwrap();
        assert_eq!(told(None).exit, Exit::Good);
        assert_eq!(told(Some(&empty)).exit, Exit::Attention);
        assert!(told(Some(&empty)).text().contains("there is no private key in"), "{}", told(Some(&empty)).text());
    }

    #[test]
    fn a_pod_uses_a_secret_in_a_way_that_follows_or_not() {
        let pod = |spec: serde_json::Value, phase: &str| -> Whole<Pod> {
            serde_json::from_value(json!({ "metadata": { "name": "a" }, "spec": spec, "status": { "phase": phase } })).unwrap()
        };
        let files = json!({ "containers": [], "volumes": [{ "name": "v", "secret": { "secretName": "orders" } }] });
        let env = json!({ "containers": [{ "name": "c", "envFrom": [{ "secretRef": { "name": "orders" } }] }] });
        assert!(consumer(&pod(files.clone(), "Running"), "orders").is_some_and(|found| found.updated_in_place));
        assert!(consumer(&pod(env, "Running"), "orders").is_some_and(|found| !found.updated_in_place && found.uses == "env"));
        assert!(consumer(&pod(files.clone(), "Succeeded"), "orders").is_none());
        assert!(consumer(&pod(files, "Running"), "bills").is_none());
    }
}
