//! What must hold after every schedule, whatever went wrong in it.

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use usercert_operator::{
    api::{
        CertificateIssuer, DatabaseUserCertificate, condition,
        names::{ISSUANCE_ANNOTATION, ISSUER_ANNOTATION, SERIAL_NUMBER_ANNOTATION},
    },
    certificate::{CertificatePair, Subject},
};
use usercert_test_support::atlas::Mint;

use crate::{
    ownership::is_retained,
    world::{IssuerType, NAME, World, last_certificate},
};

/// The state that all schedules of a scenario end in, without what differs by its nature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndState {
    conditions: Vec<String>,
    subject: Option<String>,
    issuer: Option<String>,
    issue_reason: Option<String>,
    entries: Vec<String>,
    owned: bool,
}

impl EndState {
    /// Whether all but the cause of the last issue is the same; entries may have been added.
    pub fn is_like(&self, other: &Self) -> bool {
        let entries = other.entries.iter().all(|entry| self.entries.contains(entry));
        let mut like = self.clone();
        like.issue_reason.clone_from(&other.issue_reason);
        like.entries.clone_from(&other.entries);
        entries && like == *other
    }

    pub async fn of(world: &World) -> Result<Self> {
        let (object, secret) = (world.object().await?, world.secret().await?);
        let status = object.as_ref().and_then(|object| object.status.clone()).unwrap_or_default();
        let owner = secret.as_ref().and_then(|secret| secret.owner_references().first().map(|owner| owner.uid.clone()));
        let mut conditions: Vec<String> = status
            .conditions
            .iter()
            .map(|condition| format!("{} {} {}", condition.type_, condition.status, condition.reason))
            .collect();
        conditions.sort();
        Ok(Self {
            conditions,
            subject: status.subject,
            issuer: secret.as_ref().and_then(|secret| issuer_of(world, secret)),
            issue_reason: status.history.first().map(|issued| issued.reason.clone()),
            entries: secret.and_then(|secret| secret.data).into_iter().flatten().map(|(key, _)| key).collect(),
            owned: object.and_then(|object| object.metadata.uid) == owner,
        })
    }
}

/// The issuer of the Secret; projects have other ids in each world.
fn issuer_of(world: &World, secret: &Secret) -> Option<String> {
    let issuer = secret.annotations().get(ISSUER_ANNOTATION)?;
    Some(issuer.replace(&world.shop.project, "first").replace(&world.other_project(), "second"))
}

/// Ready is True exactly when the Secret holds a pair that parses, fits, is for this user and issuer and is in date.
pub async fn judge_readiness(world: &World) -> Result<()> {
    let Some(object) = world.object().await? else { return Ok(()) };
    let status = object.status.clone().unwrap_or_default();
    let ready = condition(&status.conditions, "Ready").is_some_and(|ready| ready.status == "True");
    let usable = match world.secret().await? {
        Some(secret) => is_usable(world, &object, &secret).await,
        None => Err("there is no Secret".to_owned()),
    };
    match (ready, usable) {
        (true, Ok(())) | (false, Err(_)) => Ok(()),
        (true, Err(fault)) => bail!("Ready is True, and {fault}"),
        (false, Ok(())) => bail!("Ready is not True, and the Secret is good: {:#?}", status.conditions),
    }
}

async fn is_usable(world: &World, object: &DatabaseUserCertificate, secret: &Secret) -> Result<(), String> {
    let entry = |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).map_or(&[][..], |value| &value.0);
    let pair = CertificatePair::parse(entry("tls.crt"), entry("tls.key")).map_err(|error| error.to_string())?;
    let user = object.spec.username.clone().unwrap_or_default();
    let subject = match &object.spec.subject {
        Some(subject) => Subject::parse(subject),
        None => Subject::for_user(&user),
    };
    let subject = subject.map_err(|error| error.to_string())?;
    pair.verify(&subject, world.now()).map_err(|error| error.to_string())?;
    if pair.facts().not_before > world.now() {
        return Err("it is not valid yet".to_owned());
    }
    let is_owned = secret.owner_references().first().map(|owner| &owner.uid) == object.metadata.uid.as_ref();
    if !is_owned && !is_retained(secret) {
        return Err("the Secret belongs to another object".to_owned());
    }
    if world.issuer == IssuerType::Ca {
        verify(world, entry("ca.crt"), entry("tls.crt")).await?;
    }
    let issuer = object.spec.issuer_ref.as_ref().map(|issuer| issuer.name.clone()).unwrap_or_default();
    // While the issuer cannot be looked at, the one that made the certificate counts as the right one.
    if !is_ready(world, &issuer).await {
        return Ok(());
    }
    match world.issuer {
        IssuerType::Atlas => {
            let project = if issuer == "atlas" { world.shop.project.clone() } else { world.other_project() };
            let serial_number = &pair.facts().serial_number;
            let minted = world.shop.atlas.mints();
            let made = |mint: &Mint| {
                mint.project_id == project && mint.username == user && mint.serial_hexadecimal() == serial_number.as_str()
            };
            if minted.iter().any(made) { Ok(()) } else { Err(format!("{serial_number} was not made in project {issuer}")) }
        }
        IssuerType::Ca => {
            let authority = world.shop.value(&issuer, "tls.crt").await;
            if entry("ca.crt") == last_certificate(&authority).as_bytes() {
                Ok(())
            } else {
                Err("ca.crt is another CA".to_owned())
            }
        }
    }
}

/// Has OpenSSL verify what is handed on with nothing but the root. Schedules have clocks of their own.
async fn verify(world: &World, root: &[u8], got: &[u8]) -> Result<(), String> {
    let path = |name: &str| world.shop.cluster.control_plane.directory().join(format!("{}-{name}", world.shop.namespace));
    std::fs::write(path("root.pem"), root).map_err(|error| error.to_string())?;
    std::fs::write(path("got.pem"), got).map_err(|error| error.to_string())?;
    let mut openssl = tokio::process::Command::new("openssl");
    openssl.args(["verify", "-no_check_time", "-purpose", "sslclient", "-no-CApath", "-no-CAstore"]);
    openssl.arg("-CAfile").arg(path("root.pem")).arg("-untrusted").args([path("got.pem"), path("got.pem")]);
    let verified = openssl.output().await.map_err(|error| error.to_string())?;
    let refusal = "OpenSSL does not verify it with the root and what tls.crt hands on";
    if verified.status.success() { Ok(()) } else { Err(refusal.to_owned()) }
}

async fn is_ready(world: &World, issuer: &str) -> bool {
    let found = world.shop.api::<CertificateIssuer>().get_opt(issuer).await.ok().flatten();
    let conditions = found.and_then(|found| found.status).map(|status| status.conditions).unwrap_or_default();
    condition(&conditions, "Ready").is_some_and(|ready| ready.status == "True")
}

/// How many certificates were made, and how many of them never reached the Secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mints {
    pub made: usize,
    pub lost: usize,
}

impl Mints {
    pub async fn of(world: &World) -> Result<Self> {
        world.secrets.until(world.secret().await?.as_ref()).await?;
        let held = world.secrets.serial_numbers();
        if world.issuer == IssuerType::Ca {
            return Ok(Self { made: held.len(), lost: 0 });
        }
        let made = world.shop.atlas.mints();
        let lost = made.iter().filter(|mint| !held.contains(&mint.serial_hexadecimal())).count();
        Ok(Self { made: made.len(), lost })
    }

    /// No more than without faults but for the lost ones, of which there are no more than answers that a fault may have cost.
    pub fn judge(self, reference: Self, losses: usize) -> Result<()> {
        ensure!(self.lost <= losses, "{} certificates were lost, and {losses} answers at most", self.lost);
        ensure!(
            self.made - self.lost <= reference.made,
            "{} certificates were made and saved, without faults {}",
            self.made - self.lost,
            reference.made
        );
        Ok(())
    }
}

/// Every lost certificate is counted where a person looks for it, and nothing else is: not what the Secret holds, and not what it has held.
///
/// Only of what is presumed nobody knows yet whether it was made: the list that tells comes with the next request.
pub async fn judge_account(world: &World, mints: Mints) -> Result<()> {
    let Some(object) = world.object().await? else { return Ok(()) };
    let counted = object.status.and_then(|status| status.unaccounted_certificates).unwrap_or_default();
    let count = usize::try_from(counted.count).context("a count below nothing")?;
    ensure!(count >= mints.lost, "{NAME}: {} certificates were lost, and {count} are counted", mints.lost);
    let is_exact = counted.presumed > 0 || count == mints.lost;
    ensure!(is_exact, "{NAME}: {} certificates were lost, and counted are {counted:?}", mints.lost);
    let Some(secret) = world.secret().await? else { return Ok(()) };
    let (serial_number, claim) =
        (secret.annotations().get(SERIAL_NUMBER_ANNOTATION), secret.annotations().get(ISSUANCE_ANNOTATION));
    let is_counted = counted.certificates.iter().any(|listed| Some(&listed.serial_number) == serial_number)
        || counted.presumed_claims.iter().any(|presumed| Some(presumed) == claim);
    ensure!(!is_counted, "{NAME}: the certificate in the Secret is counted: {counted:?}");
    Ok(())
}
