//! Every version of every Secret that a watcher could see, and whether it could be used.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Result, bail};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use tokio::task::AbortHandle;
use usercert_operator::certificate::CertificatePair;
use usercert_test_support::evidence;

use crate::{ownership::is_retained, world::NAME};

/// A version of the Secret.
#[derive(Clone, Debug)]
struct Version {
    uid: String,
    /// The UID of the object that it belongs to; `None` also if it is retained.
    owner: Option<String>,
    is_retained: bool,
    /// The resourceVersion.
    number: String,
    /// The serial number, or why it cannot be used.
    content: Result<Certificate, String>,
}

#[derive(Clone, Debug)]
struct Certificate {
    serial_number: String,
    subject: String,
    issuer: String,
    not_after: jiff::Timestamp,
}

#[derive(Default)]
struct Seen {
    versions: Vec<Version>,
    /// What the test itself wrote.
    spoilt: BTreeSet<String>,
}

/// A watch of the Secret, with the administrator's rights.
pub struct SecretWatch {
    seen: Arc<Mutex<Seen>>,
    task: AbortHandle,
}

impl Drop for SecretWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl SecretWatch {
    pub fn start(client: Client, namespace: &str) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let notes = Arc::clone(&seen);
        let api = Api::<Secret>::namespaced(client, namespace);
        let config = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
        let events = watcher(api, config).default_backoff().applied_objects();
        let task = tokio::spawn(async move {
            let mut events = std::pin::pin!(events.into_stream());
            while let Some(event) = events.next().await {
                if let Ok(secret) = event {
                    notes.lock().unwrap_or_else(PoisonError::into_inner).versions.push(version(&secret));
                }
            }
        });
        Self { seen, task: task.abort_handle() }
    }

    /// This version was written by the test.
    pub fn is_spoilt_by_us(&self, secret: &Secret) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.spoilt.insert(secret.resource_version().unwrap_or_default());
    }

    /// Waits until the watch has shown this version.
    pub async fn until(&self, secret: Option<&Secret>) -> Result<()> {
        let Some(wanted) = secret.and_then(ResourceExt::resource_version) else { return Ok(()) };
        for _ in 0..200 {
            if self.versions().iter().any(|version| version.number == wanted) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("the watch does not show version {wanted} of the Secret")
    }

    fn versions(&self) -> Vec<Version> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).versions.clone()
    }

    /// The serial numbers that were in the Secret.
    pub fn serial_numbers(&self) -> BTreeSet<String> {
        self.versions().into_iter().filter_map(|version| Some(version.content.ok()?.serial_number)).collect()
    }

    /// At no moment was the Secret empty or mismatched, and no pair was followed by one that is worse.
    pub fn judge(&self) -> Result<()> {
        let spoilt = self.seen.lock().unwrap_or_else(PoisonError::into_inner).spoilt.clone();
        let mut best: Option<(String, Certificate)> = None;
        let mut owned: Option<Version> = None;
        for version in self.versions() {
            // Labels that are taken away from what we spoilt leave it as it is.
            if spoilt.contains(&version.number) {
                (best, owned) = (None, None);
                continue;
            }
            // Only what is retained passes from one object to the next.
            let is_passed_on = |before: &Version| before.is_retained || version.is_retained;
            if owned
                .as_ref()
                .is_some_and(|before| before.uid == version.uid && before.owner != version.owner && !is_passed_on(before))
            {
                bail!("a watcher saw version {} change hands", version.number);
            }
            owned = Some(version.clone());
            let certificate = match version.content {
                Ok(certificate) => certificate,
                Err(fault) => bail!("a watcher saw version {}: {fault}", version.number),
            };
            if let Some((_, before)) = best.as_ref().filter(|(uid, before)| {
                *uid == version.uid && before.subject == certificate.subject && before.issuer == certificate.issuer
            }) && certificate.not_after < before.not_after
            {
                bail!("{} was overwritten by {}, which ends sooner", before.serial_number, certificate.serial_number);
            }
            best = Some((version.uid, certificate));
        }
        Ok(())
    }
}

fn version(secret: &Secret) -> Version {
    Version {
        uid: secret.uid().unwrap_or_default(),
        owner: secret.owner_references().first().map(|owner| owner.uid.clone()),
        is_retained: is_retained(secret),
        number: secret.resource_version().unwrap_or_default(),
        content: content(secret),
    }
}

fn content(secret: &Secret) -> Result<Certificate, String> {
    let entry = |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).map_or(&[][..], |value| &value.0);
    let pair = CertificatePair::parse(entry("tls.crt"), entry("tls.key")).map_err(|error| error.to_string())?;
    let combined = CertificatePair::parse_combined(entry("tls-combined.pem")).map_err(|error| error.to_string())?;
    let facts = pair.facts();
    if combined.facts().serial_number != facts.serial_number {
        return Err(format!("tls.crt is {}, tls-combined.pem is {}", facts.serial_number, combined.facts().serial_number));
    }
    if let Ok(password) = std::str::from_utf8(entry("keystore-password"))
        && !password.is_empty()
    {
        evidence::secret(password);
    }
    if !entry("previous-tls.crt").is_empty() {
        let previous = CertificatePair::parse(entry("previous-tls.crt"), entry("previous-tls.key"));
        let previous = previous.map_err(|error| format!("the former pair: {error}"))?;
        if previous.facts().serial_number == facts.serial_number {
            return Err(format!("{} is its own former pair", facts.serial_number));
        }
    }
    if !entry("tls.pk8").is_empty() && entry("tls.pk8") != pair.key_der().as_slice() {
        return Err("tls.pk8 is another key than tls.key".to_owned());
    }
    Ok(Certificate {
        serial_number: facts.serial_number.to_string(),
        subject: facts.subject.to_string(),
        issuer: facts.issuer.clone(),
        not_after: facts.not_after,
    })
}
