//! Scenarios about whose the Secret is, and about objects that are suspended: none of them costs a certificate.

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use usercert_operator::api::{
    DatabaseUserCertificate, condition,
    names::{RENEW_REQUESTED_ANNOTATION, RETAINED_FOR_ANNOTATION},
};

use crate::{
    harness::Shop,
    scenario::{change_spec, is_settled},
    world::{NAME, OTHER_USER, World},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// The Secret is to outlive its object.
    Retained,
    /// The same, while it lacks a keystore and holds an entry of somebody else.
    RetainedIncomplete,
    /// It is not to outlive it any more.
    RetainedNoMore,
    /// The object is deleted and made anew, with a Secret that is retained.
    RetainedAndMadeAgain,
    /// The object is suspended, and a renewal is asked for.
    Suspended,
    /// It is suspended no more, and its spec was changed meanwhile.
    Resumed,
}

/// What was there before.
#[derive(Clone, Debug, Default)]
pub struct Before {
    serial_number: Option<String>,
    secret_uid: Option<String>,
    object_uid: Option<String>,
}

impl Ownership {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Retained => "retained",
            Self::RetainedIncomplete => "retained-incomplete",
            Self::RetainedNoMore => "retained-no-more",
            Self::RetainedAndMadeAgain => "retained-and-made-again",
            Self::Suspended => "suspended",
            Self::Resumed => "resumed",
        }
    }

    /// The spec of the object before.
    pub fn spec(self) -> Value {
        match self {
            Self::RetainedNoMore | Self::RetainedAndMadeAgain => json!({ "deletionPolicy": "Retain" }),
            // There is no such Secret, so the keystore cannot be written.
            Self::RetainedIncomplete => {
                json!({ "formats": [{ "type": "PKCS12", "passwordSecretRef": { "name": "nowhere", "key": "password" } }] })
            }
            Self::Retained | Self::Suspended | Self::Resumed => json!({}),
        }
    }

    /// What is there before, with the object that is ready.
    pub async fn prepare(self, world: &World) -> Result<Before> {
        if self == Self::RetainedIncomplete {
            let api = Api::<Secret>::namespaced(world.shop.client.clone(), &world.shop.namespace);
            let entry = json!({ "stringData": { "extra": "of somebody else" } });
            let secret = api.patch(NAME, &PatchParams::default(), &Patch::Merge(entry)).await?;
            world.secrets.is_spoilt_by_us(&secret);
        }
        if self == Self::Resumed {
            change_spec(&world.shop, json!({ "suspend": true, "username": OTHER_USER })).await?;
            world.settle(|| async { Ok(world.object().await?.is_some_and(|object| is_suspended(&object))) }).await?;
        }
        world.calm().await;
        let (object, secret) = (world.object().await?.context("no object")?, world.secret().await?.context("no Secret")?);
        let serial_number = object.status.as_ref().and_then(|status| status.serial_number.clone());
        Ok(Before { serial_number, secret_uid: secret.uid(), object_uid: object.uid() })
    }

    pub async fn trigger(self, world: &World) -> Result<()> {
        let shop = &world.shop;
        match self {
            Self::Retained | Self::RetainedIncomplete => change_spec(shop, json!({ "deletionPolicy": "Retain" })).await,
            Self::RetainedNoMore => change_spec(shop, json!({ "deletionPolicy": "Delete" })).await,
            Self::RetainedAndMadeAgain => {
                shop.api::<DatabaseUserCertificate>().delete(NAME, &DeleteParams::default()).await?;
                shop.certificate(NAME, world.issuer_name(), self.spec()).await;
                Ok(())
            }
            Self::Suspended => suspend_and_ask_for_a_renewal(shop).await,
            Self::Resumed => change_spec(shop, json!({ "suspend": false })).await,
        }
    }

    /// Whether the operator has followed.
    pub async fn is_reached(self, world: &World, before: &Before) -> Result<bool> {
        let (Some(object), Some(secret)) = (world.object().await?, world.secret().await?) else { return Ok(false) };
        let Some(status) = &object.status else { return Ok(false) };
        let is_same = status.serial_number == before.serial_number && secret.uid() == before.secret_uid;
        let is_retained = is_retained(&secret) && status.retained_secret_uid == secret.uid();
        Ok(match self {
            Self::Retained => is_settled(&object) && is_same && is_retained,
            Self::RetainedIncomplete => {
                let is_current = status.observed_generation == object.metadata.generation;
                is_current && Shop::is_ready(&object) && is_same && is_retained
            }
            Self::RetainedNoMore => {
                let is_owned = secret.owner_references().iter().any(|owner| Some(&owner.uid) == object.metadata.uid.as_ref());
                is_settled(&object) && is_same && is_owned && !is_retained && status.retained_secret_uid.is_none()
            }
            Self::RetainedAndMadeAgain => {
                is_settled(&object) && is_same && is_retained && object.metadata.uid != before.object_uid
            }
            Self::Suspended => is_suspended(&object) && is_same,
            Self::Resumed => is_settled(&object) && status.serial_number != before.serial_number,
        })
    }
}

/// Whether the Secret is retained for the object.
pub fn is_retained(secret: &Secret) -> bool {
    let is_for_us = secret.annotations().get(RETAINED_FOR_ANNOTATION).is_some_and(|name| name == NAME);
    is_for_us && secret.owner_references().iter().all(|owner| owner.controller != Some(true))
}

fn is_suspended(object: &DatabaseUserCertificate) -> bool {
    let Some(status) = &object.status else { return false };
    let is_said = condition(&status.conditions, "Issuing").is_some_and(|issuing| issuing.reason == "Suspended");
    is_said && status.observed_generation == object.metadata.generation && status.issuance.is_none()
}

async fn suspend_and_ask_for_a_renewal(shop: &Shop) -> Result<()> {
    let patch = json!({ "metadata": { "annotations": { RENEW_REQUESTED_ANNOTATION: "now" } }, "spec": { "suspend": true } });
    shop.api::<DatabaseUserCertificate>().patch(NAME, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}
