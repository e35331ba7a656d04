//! `inspect`: what is in a certificate, its chain and its key, and who uses it.

mod chain;
mod inspection;
mod render;

use std::{
    fmt, fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::Value;
use usercert_operator_controller::Received;
use usercert_operator_core::{
    api::names::{CA_CERTIFICATE, TLS_CERTIFICATE, TLS_COMBINED, TLS_PRIVATE_KEY},
    certificate::{CertificateFacts, CertificatePair, Link, PairError, check_leads_to, read_certificates},
    rollout::Uses,
};
use zeroize::Zeroizing;

use self::{
    chain::{Places, places_of},
    inspection::{Consumer, Inspection, KeyFit, Place, ToldCertificate, ToldSecret},
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

/// The most bytes of a file that are read: 16 MiB. Some files, such as `/dev/zero`, have no end.
const MOST_OF_FILE: u64 = 16 << 20;

/// PEM texts that may hold keys.
#[derive(Default)]
struct Pem {
    certificates: Zeroizing<Vec<u8>>,
    key: Zeroizing<Vec<u8>>,
    ca: Option<Zeroizing<Vec<u8>>>,
    /// Where a key must be, if there must be one.
    place_of_key: Option<String>,
    /// What the certificates and the CA stand in, as people call it.
    places: Places,
}

/// Inspects files. No cluster is asked.
pub(super) fn inspect_file(
    session: &Session,
    file: &Path,
    key: Option<&Path>,
    ca: Option<&Path>,
    form: Form,
) -> Result<Answer, CliError> {
    if [Some(file), key, ca].into_iter().flatten().filter(|path| is_standard_input(path)).count() > 1 {
        return Err(CliError::Usage(
            "standard input can be one file alone: give another name for --file, --key or --ca".to_owned(),
        ));
    }
    let certificates = read_file(file)?;
    let places = Places { certificates: name_of(file), ca: ca.map_or_else(|| CA_CERTIFICATE.to_owned(), name_of) };
    let place_of_key = key.map(name_of);
    let key = key.map_or_else(|| Ok(certificates.clone()), read_file)?;
    let ca = ca.map(read_file).transpose()?;
    let inspection = inspect(name_of(file), &Pem { certificates, key, ca, place_of_key, places }, session.now())?;
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
        let why =
            if error.is_denied() { "you may not list Pods".to_owned() } else { usercert_operator_controller::chain(&error) };
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

/// What people call the file.
fn name_of(path: &Path) -> String {
    if is_standard_input(path) { "standard input".to_owned() } else { path.display().to_string() }
}

fn is_standard_input(path: &Path) -> bool {
    path == Path::new("-")
}

/// The content of a file, or of standard input for `-`: at most [`MOST_OF_FILE`].
pub(super) fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = if is_standard_input(path) {
        std::io::stdin().lock().take(MOST_OF_FILE + 1).read_to_end(&mut bytes)
    } else {
        fs::File::open(path).and_then(|file| file.take(MOST_OF_FILE + 1).read_to_end(&mut bytes))
    };
    let is_too_long = |length: usize| u64::try_from(length).is_ok_and(|length| length > MOST_OF_FILE);
    let read = match read {
        Ok(length) if is_too_long(length) => {
            Err(io::Error::other("it has more than 16 MiB, and no certificates are that long"))
        }
        other => other,
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
        places: Places::default(),
        place_of_key: secret.type_.as_deref().filter(|type_| *type_ == TLS).map(|_| TLS_PRIVATE_KEY.to_owned()),
    }
}

/// What PEM texts hold.
fn inspect(source: String, pem: &Pem, now: Timestamp) -> Result<Inspection, CliError> {
    let unusable = |fault: &dyn fmt::Display| CliError::Unusable(format!("{source}: the certificate cannot be read: {fault}"));
    let chain = read_certificates(&pem.certificates).map_err(|fault| unusable(&fault))?;
    let links: Vec<Link> = chain.iter().cloned().map(Link::new).collect::<Result<_, _>>().map_err(|fault| unusable(&fault))?;
    let (certificates, mut problems) = told_certificates(&links, &pem.key, now);
    let pair = CertificatePair::parse(&pem.certificates, &pem.key);
    let (key, fault) = key_fit(pair.as_ref().err(), pem);
    problems.extend(fault);
    let for_clients = pair.as_ref().ok().map(CertificatePair::is_for_clients);
    if for_clients == Some(false) {
        problems.push(PairError::NotForClients.to_string());
    }
    let led = pem.ca.as_ref().map(|ca| check_leads_to(&chain, ca));
    match &led {
        Some(Err(fault)) => problems.push(pem.places.told(fault)),
        Some(Ok(end)) if *end <= now => {
            problems.push(format!("the chain ended at {end}: a certificate above the first one has expired, or the CA has"));
        }
        Some(Ok(_)) | None => {}
    }
    Ok(Inspection {
        source,
        certificates,
        key,
        for_clients,
        leads_to_ca: led.as_ref().map(Result::is_ok),
        chain_ends: led.and_then(Result::ok),
        secret: None,
        problems,
        notes: Vec::new(),
    })
}

/// The certificates, and what is wrong with each and with its place.
fn told_certificates(links: &[Link], key: &[u8], now: Timestamp) -> (Vec<ToldCertificate>, Vec<String>) {
    let (places, faults) = places_of(links, key);
    let (mut told, mut problems, mut of_time) = (Vec::new(), Vec::new(), Vec::new());
    for (index, (link, place)) in links.iter().zip(places).enumerate() {
        match CertificateFacts::of(&link.encoded) {
            Ok(facts) => {
                of_time.extend(fault_of_time(&facts, now));
                told.push(ToldCertificate::of(facts, place));
            }
            Err(fault) => problems.push(format!("certificate {} of the chain: {fault}", index + 1)),
        }
    }
    problems.extend(faults.into_iter().chain(of_time));
    (told, problems)
}

fn fault_of_time(facts: &CertificateFacts, now: Timestamp) -> Option<String> {
    let CertificateFacts { subject, not_before, not_after, .. } = facts;
    if *not_after <= now {
        return Some(format!("{subject} expired at {not_after}"));
    }
    (*not_before > now).then(|| format!("{subject} is valid from {not_before} on: compare the clocks"))
}

/// Whether the key fits the first certificate, and what is wrong with that. `fault`: why the two are no pair.
fn key_fit(fault: Option<&PairError>, pem: &Pem) -> (KeyFit, Option<String>) {
    let Some(fault) = fault else { return (KeyFit::Fits, None) };
    if !String::from_utf8_lossy(&pem.key).contains("PRIVATE KEY-----") {
        return (KeyFit::Absent, pem.place_of_key.as_ref().map(|place| format!("there is no private key in {place}")));
    }
    // The certificates could be read before.
    let is_of_key = matches!(fault, PairError::Key(_) | PairError::Pem(_) | PairError::KeyMismatch);
    let told = match pem.place_of_key.as_ref().filter(|_| is_of_key) {
        Some(place) => format!("{place}: {fault}"),
        None => fault.to_string(),
    };
    (KeyFit::DoesNotFit, Some(told))
}

impl ToldCertificate {
    fn of(facts: CertificateFacts, place: Place) -> Self {
        Self {
            subject: facts.subject.to_string(),
            issuer: facts.issuer,
            serial_number: facts.serial_number.to_string(),
            private_key: facts.private_key.to_string(),
            not_before: facts.not_before,
            not_after: facts.not_after,
            place,
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
mod tests;
