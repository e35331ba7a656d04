//! Walks: a person, or a program gone wrong, changes things at random, some of it valid, some half, some not; then all is undone.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use jiff::SignedDuration;
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use usercert_operator::api::{CertificateIssuer, DatabaseUserCertificate, names::RENEW_REQUESTED_ANNOTATION};

use crate::{
    harness::{PRIVATE_API_KEY, Shop},
    oracle::{EndState, Mints, judge_readiness},
    plan::Random,
    scenario::{change_spec, formats, is_settled, make_again, spoil_secret},
    schedule::Outcome,
    world::{IssuerType, NAME, OTHER_USER, World},
};

/// Nothing asked for so long is a quiet point.
const QUIET: Duration = Duration::from_millis(1500);
const PATIENCE: Duration = Duration::from_secs(30);

/// Between steps, so that the brakes on certificates do not stop the walk: they allow about four a day.
const STEP: SignedDuration = SignedDuration::from_hours(8);

/// Jumps of the clock are noticed within five seconds.
const NOTICED: Duration = Duration::from_secs(6);

/// A walk.
#[derive(Clone, Debug, PartialEq)]
pub struct Walk {
    pub issuer: IssuerType,
    pub seed: u64,
    pub steps: usize,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    OtherUser,
    InvalidUser,
    FieldOfOtherIssuer,
    RenewTooEarly,
    RenewLater,
    OtherIssuer,
    MissingIssuer,
    RefusedByServer,
    RequestRenewal,
    DeleteSecret,
    SpoilSecret,
    SpoilKey,
    TakeLabelAway,
    TakeAnnotationsAway,
    TakeOwnerAway,
    AddForeignEntries,
    BreakIssuer,
    DeleteIssuer,
    SpoilCredentials,
    CutChain,
    RewriteAuthority,
    AskForFormats,
    MakeAgain,
    Restart,
}

impl Step {
    const ALL: [Self; 24] = [
        Self::OtherUser,
        Self::InvalidUser,
        Self::FieldOfOtherIssuer,
        Self::RenewTooEarly,
        Self::RenewLater,
        Self::OtherIssuer,
        Self::MissingIssuer,
        Self::RefusedByServer,
        Self::RequestRenewal,
        Self::DeleteSecret,
        Self::SpoilSecret,
        Self::SpoilKey,
        Self::TakeLabelAway,
        Self::TakeAnnotationsAway,
        Self::TakeOwnerAway,
        Self::AddForeignEntries,
        Self::BreakIssuer,
        Self::DeleteIssuer,
        Self::SpoilCredentials,
        Self::CutChain,
        Self::RewriteAuthority,
        Self::AskForFormats,
        Self::MakeAgain,
        Self::Restart,
    ];

    /// Whether it needs no new certificate, where all was well before.
    const fn is_harmless(self) -> bool {
        matches!(
            self,
            Self::InvalidUser
                | Self::FieldOfOtherIssuer
                | Self::RenewLater
                | Self::MissingIssuer
                | Self::RefusedByServer
                | Self::SpoilKey
                | Self::TakeLabelAway
                | Self::TakeAnnotationsAway
                | Self::TakeOwnerAway
                | Self::AddForeignEntries
                | Self::BreakIssuer
                | Self::DeleteIssuer
                | Self::SpoilCredentials
                | Self::CutChain
                | Self::RewriteAuthority
                | Self::AskForFormats
                | Self::Restart
        )
    }

    async fn take(self, world: &World, number: usize) -> Result<()> {
        let shop = &world.shop;
        match self {
            Self::OtherUser => edit_spec(shop, json!({ "username": OTHER_USER })).await,
            // No attribute of a distinguished name has an empty type.
            Self::InvalidUser => edit_spec(shop, json!({ "username": "CN=orders,=x" })).await,
            Self::FieldOfOtherIssuer => match world.issuer {
                IssuerType::Atlas => edit_spec(shop, json!({ "subject": "CN=orders,O=Acme" })).await,
                IssuerType::Ca => edit_spec(shop, json!({ "monthsUntilExpiration": 3 })).await,
            },
            Self::RenewTooEarly => edit_spec(shop, json!({ "renewBefore": "99999h" })).await,
            Self::RenewLater => edit_spec(shop, json!({ "renewBefore": "240h" })).await,
            Self::OtherIssuer => edit_spec(shop, json!({ "issuerRef": { "name": world.other_issuer_name() } })).await,
            Self::MissingIssuer => edit_spec(shop, json!({ "issuerRef": { "name": "nowhere" } })).await,
            Self::AskForFormats => edit_spec(shop, formats()).await,
            Self::RefusedByServer => refused_edits(world).await,
            Self::RequestRenewal => {
                shop.annotate(NAME, RENEW_REQUESTED_ANNOTATION, &format!("request {number}")).await;
                Ok(())
            }
            Self::DeleteSecret => {
                let api = shop.api::<Secret>();
                // It may be gone already.
                let _ = api.delete(NAME, &DeleteParams::default()).await;
                Ok(())
            }
            Self::MakeAgain => make_again(world).await.map(|_| ()),
            Self::Restart => world.restart_operator().await,
            Self::BreakIssuer | Self::DeleteIssuer | Self::SpoilCredentials => self.change_issuer(world).await,
            Self::RewriteAuthority => {
                world.rewrite_authority().await;
                Ok(())
            }
            _ => self.edit_secret(world).await,
        }
    }

    async fn edit_secret(self, world: &World) -> Result<()> {
        if world.secret().await?.is_none() {
            return Ok(());
        }
        let shop = &world.shop;
        let patch = match self {
            Self::SpoilSecret => return spoil_secret(world).await,
            Self::SpoilKey => json!({ "stringData": { "tls.key": "spoilt" } }),
            Self::CutChain => {
                let (certificate, key) = (shop.value(NAME, "tls.crt").await, shop.value(NAME, "tls.key").await);
                let leaf = certificate.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap_or_default();
                json!({ "stringData": { "tls.crt": leaf, "tls-combined.pem": leaf.to_owned() + &key } })
            }
            Self::TakeLabelAway => json!({ "metadata": { "labels": null } }),
            Self::TakeAnnotationsAway => json!({ "metadata": { "annotations": null } }),
            Self::TakeOwnerAway => json!({ "metadata": { "ownerReferences": null } }),
            _ => json!({ "metadata": { "labels": { "team": "db" } }, "stringData": { "extra": "kept" } }),
        };
        let api = world.shop.api::<Secret>();
        let secret = api.patch(NAME, &PatchParams::default(), &Patch::Merge(patch)).await?;
        world.secrets.is_spoilt_by_us(&secret);
        Ok(())
    }

    async fn change_issuer(self, world: &World) -> Result<()> {
        let (shop, name) = (&world.shop, world.issuer_name());
        let issuers = shop.api::<CertificateIssuer>();
        match (self, world.issuer) {
            (Self::DeleteIssuer, _) => {
                let _ = issuers.delete(name, &DeleteParams::default()).await;
            }
            (Self::BreakIssuer, issuer) => {
                let spec = match issuer {
                    IssuerType::Atlas => json!({ "spec": { "atlas": { "credentialsSecretRef": { "name": "nowhere" } } } }),
                    IssuerType::Ca => json!({ "spec": { "ca": { "secretName": "nowhere" } } }),
                };
                let _ = issuers.patch(name, &PatchParams::default(), &Patch::Merge(spec)).await;
            }
            (_, IssuerType::Atlas) => shop.patch_secret("atlas-api-key", json!({ "data": { "privateApiKey": null } })).await,
            (_, IssuerType::Ca) => shop.patch_secret("ca", json!({ "stringData": { "tls.key": "spoilt" } })).await,
        }
        Ok(())
    }
}

/// An edit that the API server may refuse, after those before it: then nothing changes.
async fn edit_spec(shop: &Shop, spec: Value) -> Result<()> {
    let refused =
        |error: &anyhow::Error| matches!(error.downcast_ref(), Some(kube::Error::Api(status)) if status.reason == "Invalid");
    change_spec(shop, spec).await.or_else(|error| if refused(&error) { Ok(()) } else { Err(error) })
}

/// What the schema must refuse, so that nothing changes.
async fn refused_edits(world: &World) -> Result<()> {
    for spec in [
        json!({ "secretName": "elsewhere" }),
        json!({ "username": "" }),
        json!({ "monthsUntilExpiration": 0 }),
        json!({ "renewBefore": "1h", "renewBeforePercentage": 10 }),
        json!({ "issuerRef": null }),
        json!({ "duration": "soon" }),
    ] {
        ensure!(change_spec(&world.shop, spec.clone()).await.is_err(), "the API server took {spec}");
    }
    Ok(())
}

impl Walk {
    /// What repeats it.
    pub fn name(&self) -> String {
        format!("walk/{}/{}/{}", self.issuer.name(), self.seed, self.steps)
    }

    pub async fn run(&self) -> Result<Outcome> {
        let world = World::open("walk", self.issuer).await?;
        let mut trail = Vec::new();
        let outcome = self.walk(&world, &mut trail).await;
        world.close();
        outcome.with_context(|| format!("after {trail:?}:\n{}", world.last_words()))
    }

    async fn walk(&self, world: &World, trail: &mut Vec<Step>) -> Result<Outcome> {
        let mut random = Random(self.seed);
        world.shop.certificate(NAME, world.issuer_name(), json!({})).await;
        world.shop.until_ready(NAME).await;
        let original = world.object().await?.context("the object is gone")?;
        let first = EndState::of(world).await?;
        for number in 0..self.steps {
            let step = Step::ALL[random.below(Step::ALL.len())];
            trail.push(step);
            let was_settled = world.object().await?.is_some_and(|object| is_settled(&object));
            let before = Mints::of(world).await?.made;
            step.take(world, number).await?;
            look(world).await?;
            let made = Mints::of(world).await?.made - before;
            ensure!(made == 0 || !was_settled || !step.is_harmless(), "{step:?} cost {made} certificates");
            world.advance(STEP);
            tokio::time::sleep(NOTICED).await;
            look(world).await?;
        }
        undo(world, &original).await?;
        let settled = || async { Ok(world.object().await?.is_some_and(|object| is_settled(&object))) };
        world.settle(settled).await.context("after the undo")?;
        world.assert_quiet().await?;
        judge_readiness(world).await?;
        world.secrets.judge()?;
        let last = EndState::of(world).await?;
        ensure!(last.is_like(&first), "after the undo it is {last:#?}\ninstead of {first:#?}");
        let mints = Mints::of(world).await?;
        ensure!(mints.lost == 0, "{} certificates were lost, and nothing was interrupted", mints.lost);
        // One for the beginning, one for each step that needs another, and one for what is put back.
        ensure!(mints.made <= 2 * (self.steps + 1), "{} certificates in {} steps", mints.made, self.steps);
        Ok(Outcome { mints, played: true })
    }
}

/// Waits for a quiet point, and looks whether all is as it is said to be.
async fn look(world: &World) -> Result<()> {
    let (started, mut last, mut since) = (Instant::now(), world.asked_count(), Instant::now());
    while since.elapsed() < QUIET {
        if started.elapsed() > PATIENCE {
            bail!("it does not come to rest");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        if world.asked_count() != last {
            (last, since) = (world.asked_count(), Instant::now());
        }
    }
    judge_readiness(world).await?;
    world.secrets.until(world.secret().await?.as_ref()).await?;
    world.secrets.judge()
}

/// Puts the spec, the issuers and their Secrets back, and the owner of our Secret.
async fn undo(world: &World, original: &DatabaseUserCertificate) -> Result<()> {
    let shop = &world.shop;
    if world.issuer == IssuerType::Atlas {
        let entries = [("publicApiKey", shop.public_key.as_str()), ("privateApiKey", PRIVATE_API_KEY)];
        shop.apply_secret("atlas-api-key", &entries).await;
    }
    world.make_issuers().await?;
    let objects = shop.api::<DatabaseUserCertificate>();
    let mut object = objects.get(NAME).await?;
    object.spec = original.spec.clone();
    object.metadata.managed_fields = None;
    object.annotations_mut().remove(RENEW_REQUESTED_ANNOTATION);
    replace(&objects, object.clone()).await?;
    let owner = OwnerReference {
        api_version: "usercert.dev/v1alpha1".to_owned(),
        kind: "DatabaseUserCertificate".to_owned(),
        name: NAME.to_owned(),
        uid: object.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    if world.secret().await?.is_some_and(|secret| secret.owner_references().is_empty()) {
        let patch: Value = json!({ "metadata": { "ownerReferences": [owner] } });
        let secret = shop.api::<Secret>().patch(NAME, &PatchParams::default(), &Patch::Merge(patch)).await?;
        // With whatever it holds meanwhile.
        world.secrets.is_spoilt_by_us(&secret);
    }
    Ok(())
}

/// Replaces the object whatever happened to it meanwhile.
async fn replace(api: &Api<DatabaseUserCertificate>, mut object: DatabaseUserCertificate) -> Result<()> {
    for _ in 0..20 {
        match api.replace(NAME, &PostParams::default(), &object).await {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => {
                object.metadata.resource_version = api.get(NAME).await?.metadata.resource_version;
            }
            Err(error) => return Err(error.into()),
        }
    }
    bail!("the object changes all the time")
}
