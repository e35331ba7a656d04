//! Objects as the API server sends them, whatever their authors wrote into them. Each object is read by itself, and as far as it
//! can be read.
//!
//! # Guarantees
//!
//! - An object that cannot be read does not hide the other objects of its list, does not end a watch, and does not make a write
//!   that was carried out look like one that failed.
//! - Of the metadata of objects that stay in memory only what is used is kept ([`Kept`]).
//! - What cannot be read is left out, and [`Received::unreadable`] says where and why.
//! - Neither that text nor `Debug` output quotes what stands in the object, because it may be secret.
//!
//! # Assumptions
//!
//! - The text of an object is JSON by its syntax, and `serde_json` reads it.
//!
//! `kube::core::DeserializeGuard` does half of this. It gives up the whole object instead of a field, and it still needs metadata
//! that can be read, which a time in `managedFields` may not be.

mod kept;
mod lenient;
#[cfg(test)]
mod tests;

use std::{
    borrow::Cow,
    fmt,
    ops::{Deref, DerefMut},
};

use k8s_openapi::{
    api::core::v1::{Namespace, Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Resource,
    api::DynamicObject,
    core::{PartialObjectMeta, PartialObjectMetaExt},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::value::RawValue;

pub use self::kept::Kept;
pub(crate) use self::kept::shortened_list;
use self::lenient::read;
use crate::api::{
    CertificateIssuer, ClusterCertificateIssuer, ClusterIssuerSpec, DatabaseUserCertificate, DatabaseUserCertificateSpec,
    IssuerSpec,
};

/// How `managedFields` name the data of a Secret. An apply with `stringData` owns that name.
pub(crate) const OWNED_DATA: [&str; 2] = ["f:data", "f:stringData"];

/// A kind whose objects can be made from metadata alone. Such an object stands for one of which nothing else can be read.
pub trait FromMetadata: Resource + DeserializeOwned {
    /// Whether it matters who changed an object and when. Then `managedFields` are kept; of the names of fields only [`OWNED_DATA`].
    const KEEPS_MANAGERS: bool = false;

    /// Which part of the metadata is used.
    const KEPT: Kept = Kept::All;

    /// The object without content.
    fn from_metadata(metadata: ObjectMeta) -> Self;
}

/// A kind of which a watch shows the metadata alone.
pub trait KeptMetadata: Resource {
    /// Which part of the metadata is used.
    const KEPT: Kept;
}

impl KeptMetadata for Secret {
    const KEPT: Kept = Kept::OfSecret;
}

impl KeptMetadata for Namespace {
    const KEPT: Kept = Kept::OfNamespace;
}

impl KeptMetadata for DatabaseUserCertificate {
    const KEPT: Kept = Kept::OfCertificate;
}

impl KeptMetadata for CertificateIssuer {
    const KEPT: Kept = Kept::Name;
}

impl KeptMetadata for ClusterCertificateIssuer {
    const KEPT: Kept = Kept::Name;
}

/// An object that the API server sent, as far as it can be read. `managedFields` are read only for kinds that keep them.
///
/// Only `serde_json` can read it. It takes the text of the object first: reading the text into values would fail for an object
/// that is nested too deep, and for a number that is out of range.
#[derive(Clone)]
pub struct Received<K> {
    object: K,
    unreadable: Option<Unreadable>,
}

/// What cannot be read of an object: where, and why. It never quotes what stands there, because it may be secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Only something in the status.
    Status(String),
    /// Something in the spec, the metadata or the content.
    Object(String),
}

impl Unreadable {
    /// Where and why.
    #[must_use]
    pub fn fault(&self) -> &str {
        match self {
            Self::Status(fault) | Self::Object(fault) => fault,
        }
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(fault) => write!(formatter, "the status cannot be read ({fault})"),
            Self::Object(fault) => write!(formatter, "the object cannot be read ({fault})"),
        }
    }
}

impl<K> Received<K> {
    /// What cannot be read of it. `None` if all can be read.
    pub fn unreadable(&self) -> Option<&Unreadable> {
        self.unreadable.as_ref()
    }

    /// What cannot be read of it outside of its status. `None` if all of that can be read.
    pub fn unreadable_object(&self) -> Option<&Unreadable> {
        self.unreadable.as_ref().filter(|unreadable| matches!(unreadable, Unreadable::Object(_)))
    }
}

impl<K> From<K> for Received<K> {
    fn from(object: K) -> Self {
        Self { object, unreadable: None }
    }
}

impl<K> Deref for Received<K> {
    type Target = K;

    fn deref(&self) -> &K {
        &self.object
    }
}

impl<K> DerefMut for Received<K> {
    fn deref_mut(&mut self) -> &mut K {
        &mut self.object
    }
}

/// Says which object it is and nothing about its content, because it may be a Secret.
impl<K: Resource> fmt::Debug for Received<K> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ObjectMeta { namespace, name, resource_version, .. } = self.object.meta();
        formatter
            .debug_struct("Received")
            .field("namespace", namespace)
            .field("name", name)
            .field("resource_version", resource_version)
            .field("unreadable", &self.unreadable)
            .finish_non_exhaustive()
    }
}

impl<'de, K: FromMetadata> Deserialize<'de> for Received<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let (mut object, mut unreadable) = read::<K>(text.get());
        if let Some(fault) = K::KEPT.reduce(object.meta_mut()) {
            unreadable = Some(Unreadable::Object(format!("it {fault}")));
        }
        Ok(Self { object, unreadable })
    }
}

impl<K: Serialize> Serialize for Received<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.object.serialize(serializer)
    }
}

impl<K: Resource> Resource for Received<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dynamic)
    }

    fn group(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dynamic)
    }

    fn version(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dynamic)
    }

    fn plural(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dynamic)
    }

    fn metadata_api() -> bool {
        K::metadata_api()
    }

    fn meta(&self) -> &ObjectMeta {
        self.object.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.object.meta_mut()
    }
}

impl FromMetadata for Secret {
    const KEEPS_MANAGERS: bool = true;

    fn from_metadata(metadata: ObjectMeta) -> Self {
        Self { metadata, ..Self::default() }
    }
}

impl<K: KeptMetadata> FromMetadata for PartialObjectMeta<K>
where
    Self: DeserializeOwned,
{
    const KEPT: Kept = K::KEPT;

    fn from_metadata(metadata: ObjectMeta) -> Self {
        metadata.into_response_partial()
    }
}

impl FromMetadata for DynamicObject {
    const KEPT: Kept = Kept::Name;

    fn from_metadata(metadata: ObjectMeta) -> Self {
        Self { types: None, metadata, data: serde_json::Value::Null }
    }
}

impl FromMetadata for DatabaseUserCertificate {
    const KEPT: Kept = Kept::OfCertificate;

    fn from_metadata(metadata: ObjectMeta) -> Self {
        Self { metadata, spec: DatabaseUserCertificateSpec::default(), status: None }
    }
}

impl FromMetadata for CertificateIssuer {
    const KEPT: Kept = Kept::Name;

    fn from_metadata(metadata: ObjectMeta) -> Self {
        Self { metadata, spec: IssuerSpec::default(), status: None }
    }
}

impl FromMetadata for ClusterCertificateIssuer {
    const KEPT: Kept = Kept::Name;

    fn from_metadata(metadata: ObjectMeta) -> Self {
        Self { metadata, spec: ClusterIssuerSpec::default(), status: None }
    }
}
