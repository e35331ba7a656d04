//! What happens to an object: the change that the operator has to follow, and when it has.

use anyhow::Result;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;
use usercert_operator::api::{DatabaseUserCertificate, condition, names::RENEW_REQUESTED_ANNOTATION};

use crate::{
    harness::Shop,
    ownership::{self, Ownership},
    world::{IssuerType, NAME, OTHER_USER, World},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    FirstIssue,
    Renewal,
    ForcedRenewal,
    RenewalBesideFormer,
    FormatsChange,
    SpecChange,
    IssuerChange,
    SecretDeleted,
    SecretCorrupted,
    ObjectDeleted,
    CaReplaced,
    Ownership(Ownership),
}

impl Scenario {
    pub const ALL: [Self; 17] = [
        Self::FirstIssue,
        Self::Renewal,
        Self::ForcedRenewal,
        Self::RenewalBesideFormer,
        Self::FormatsChange,
        Self::SpecChange,
        Self::IssuerChange,
        Self::SecretDeleted,
        Self::SecretCorrupted,
        Self::ObjectDeleted,
        Self::CaReplaced,
        Self::Ownership(Ownership::Retained),
        Self::Ownership(Ownership::RetainedIncomplete),
        Self::Ownership(Ownership::RetainedNoMore),
        Self::Ownership(Ownership::RetainedAndMadeAgain),
        Self::Ownership(Ownership::Suspended),
        Self::Ownership(Ownership::Resumed),
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::FirstIssue => "first-issue",
            Self::Renewal => "renewal",
            Self::ForcedRenewal => "forced-renewal",
            Self::RenewalBesideFormer => "renewal-beside-former",
            Self::FormatsChange => "formats-change",
            Self::SpecChange => "spec-change",
            Self::IssuerChange => "issuer-change",
            Self::SecretDeleted => "secret-deleted",
            Self::SecretCorrupted => "secret-corrupted",
            Self::ObjectDeleted => "object-deleted",
            Self::CaReplaced => "ca-replaced",
            Self::Ownership(ownership) => ownership.name(),
        }
    }

    /// Whether it can happen with this issuer.
    pub fn applies_to(self, issuer: IssuerType) -> bool {
        self != Self::CaReplaced || issuer == IssuerType::Ca
    }

    /// What is there before.
    pub async fn prepare(self, world: &World) -> Result<Before> {
        if self == Self::FirstIssue {
            return Ok(Before::default());
        }
        let spec = match self {
            Self::RenewalBesideFormer => formats(),
            Self::Ownership(ownership) => ownership.spec(),
            _ => json!({}),
        };
        world.shop.certificate(NAME, world.issuer_name(), spec).await;
        world.shop.until_ready(NAME).await;
        world.calm().await;
        let mut before =
            Before { serial_number: world.shop.status(NAME).await.serial_number, ownership: ownership::Before::default() };
        if let Self::Ownership(ownership) = self {
            before.ownership = ownership.prepare(world).await?;
        }
        Ok(before)
    }

    /// Makes it happen.
    pub async fn trigger(self, world: &World) -> Result<()> {
        let shop = &world.shop;
        match self {
            Self::FirstIssue => shop.certificate(NAME, world.issuer_name(), json!({})).await,
            Self::Renewal => world.advance(SignedDuration::from_hours(60 * 24)),
            Self::ForcedRenewal | Self::RenewalBesideFormer => shop.annotate(NAME, RENEW_REQUESTED_ANNOTATION, "now").await,
            Self::FormatsChange => change_spec(shop, formats()).await?,
            Self::SpecChange => change_spec(shop, json!({ "username": OTHER_USER })).await?,
            Self::IssuerChange => {
                change_spec(shop, json!({ "issuerRef": { "name": world.other_issuer_name() } })).await?;
            }
            Self::SecretDeleted => shop.delete::<Secret>(NAME).await,
            Self::SecretCorrupted => spoil_secret(world).await?,
            Self::ObjectDeleted => shop.delete::<DatabaseUserCertificate>(NAME).await,
            Self::CaReplaced => world.put_authority("ca", 2).await,
            Self::Ownership(ownership) => ownership.trigger(world).await?,
        }
        Ok(())
    }

    /// Whether the operator has followed.
    pub async fn is_reached(self, world: &World, before: &Before) -> Result<bool> {
        if let Self::Ownership(ownership) = self {
            return ownership.is_reached(world, &before.ownership).await;
        }
        let (object, secret) = (world.object().await?, world.secret().await?);
        if self == Self::ObjectDeleted {
            return Ok(object.is_none() && secret.is_none());
        }
        let (Some(object), Some(secret)) = (object, secret) else { return Ok(false) };
        if self == Self::FormatsChange {
            return Ok(is_settled(&object) && secret.data.is_some_and(|data| data.contains_key("keystore.p12")));
        }
        Ok(is_settled(&object) && object.status.as_ref().is_some_and(|status| status.serial_number != before.serial_number))
    }
}

/// A spec with all that a Secret may hold besides.
pub fn formats() -> serde_json::Value {
    json!({
        "formats": [{ "type": "PKCS12" }, { "type": "PKCS8DER" }, { "type": "CA" }],
        "secretTemplate": { "labels": { "team": "db" } },
        "keepPrevious": true,
    })
}

/// What was there before.
#[derive(Clone, Debug, Default)]
pub struct Before {
    pub serial_number: Option<String>,
    ownership: ownership::Before,
}

/// Ready, nothing to do, and nothing left of any failure.
pub fn is_settled(object: &DatabaseUserCertificate) -> bool {
    let Some(status) = &object.status else { return false };
    let is = |type_: &str, value: &str| {
        condition(&status.conditions, type_).is_some_and(|condition| condition.status == value && condition.reason == "Issued")
    };
    is("Ready", "True")
        && is("Issuing", "False")
        && status.observed_generation == object.metadata.generation
        && status.issuance.is_none()
        && status.failure.is_none()
}

pub async fn change_spec(shop: &Shop, spec: serde_json::Value) -> Result<()> {
    let api = shop.api::<DatabaseUserCertificate>();
    api.patch(NAME, &PatchParams::default(), &Patch::Merge(json!({ "spec": spec }))).await?;
    Ok(())
}

/// Overwrites all of the pair.
pub async fn spoil_secret(world: &World) -> Result<()> {
    let spoilt = json!({ "stringData": { "tls.crt": "spoilt", "tls.key": "spoilt", "tls-combined.pem": "spoilt" } });
    let api = Api::<Secret>::namespaced(world.shop.client.clone(), &world.shop.namespace);
    let secret = api.patch(NAME, &PatchParams::default(), &Patch::Merge(spoilt)).await?;
    world.secrets.is_spoilt_by_us(&secret);
    Ok(())
}

/// Deletes the object and makes it again under the same name.
pub async fn make_again(world: &World) -> Result<String> {
    let api = world.shop.api::<DatabaseUserCertificate>();
    api.delete(NAME, &DeleteParams::default()).await?;
    world.shop.certificate(NAME, world.issuer_name(), json!({})).await;
    Ok(api.get(NAME).await?.uid().unwrap_or_default())
}
