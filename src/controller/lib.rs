//! The controllers: observe → decide → steps → report for certificates, and the loading of issuers.

pub mod adoption;
mod deletions;
mod dispatch;
mod events;
mod failures;
mod inventory;
mod issuers;
mod keystore_password;
mod kubernetes;
mod memory;
mod pages;
mod pass;
mod received;
mod rollout;
pub mod secret;
mod span;
mod status;
mod triggers;
mod watches;
mod wiring;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Client, ResourceExt,
    api::DynamicObject,
    core::PartialObjectMeta,
    discovery::ApiResource,
    runtime::reflector::{ObjectRef, Store},
};
use url::Url;

use self::{
    events::Events,
    failures::Failures,
    issuers::IssuerDirectory,
    memory::{Memory, places::Places},
    rollout::Rollouts,
    triggers::{Triggers, Waiting},
    watches::{by_name::NameWatches, lists::Lists},
};
use usercert_operator_core::{api, certificate, compromised, decide, figures, layout, rollout as rollout_rules, text};
use usercert_operator_issuer as issuer;
use usercert_operator_runtime as runtime;

use crate::{
    api::{
        CertificateIssuer, ClusterCertificateIssuer, DatabaseUserCertificate, IssuerKey, IssuerKind, IssuerStatus,
        NamespacedName, ObjectKey, SecretLocation,
    },
    decide::pass::PassError,
    issuer::atlas::{AtlasAccess, AtlasClient, EndpointRule},
    runtime::{Clock, Leadership, Liveness, Metrics},
};

pub use issuers::{
    IssuerFault, LoadedIssuer,
    atlas_objects::{Project, User, UserProject, read_project, read_user},
    lending::Lending,
    load, secret_of,
};
pub use kubernetes::{KubernetesError, REQUEST_LIMIT, chain, request};
pub use memory::{keys::Keys, turns::Turns, users::DatabaseUsers};
pub use received::{FromMetadata, Received, Unreadable};
pub use wiring::run;

/// What a watch of Secrets shows.
type SecretMetadata = Received<PartialObjectMeta<Secret>>;

/// The metadata of a namespace.
type NamespaceMetadata = Received<PartialObjectMeta<Namespace>>;

/// Which namespaces one set of controllers serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All, with the cluster issuers, whose Secrets live in this namespace.
    Cluster {
        /// The operator's own namespace.
        operator_namespace: String,
    },
    /// One namespace, without cluster issuers.
    Namespace(String),
}

/// Defaults for objects with a `userRef`, which have no issuer of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AtlasDefaults {
    /// The API's base URL.
    pub endpoint: Url,
    /// Namespace and name of the Secret with the Atlas Kubernetes Operator's own credentials, for users and projects that name none.
    pub credentials: Option<SecretLocation>,
    /// Who may use these, and what other namespaces have.
    pub lending: Lending,
}

/// What the controllers are given.
#[derive(Clone)]
pub struct Settings {
    /// Which namespaces to serve.
    pub scope: Scope,
    /// How many objects are worked on at once.
    pub max_concurrent: u16,
    /// Tells the time.
    pub clock: Clock,
    /// For the requests to Atlas.
    pub atlas: AtlasClient,
    /// For objects with a `userRef`.
    pub atlas_defaults: AtlasDefaults,
    /// Which endpoints a `CertificateIssuer` may name.
    pub endpoint_rule: EndpointRule,
    /// Who asks Atlas when; one for the whole process.
    pub turns: Turns,
    /// Private keys that take long to make; one for the whole process.
    pub keys: Keys,
    /// What Atlas listed; one for the whole process.
    pub users: Arc<DatabaseUsers>,
    /// What is counted, and what is told of objects.
    pub metrics: Arc<Metrics>,
    /// Whether certificates may be made.
    pub leadership: Leadership,
    /// Whether the loops move.
    pub liveness: Liveness,
    /// The kinds of workloads that rollouts may change besides those of `apps/v1`. `None`: rollouts are off.
    pub rollout_kinds: Option<Vec<ApiResource>>,
    /// How long a stopping process tries to save certificates that are in memory alone.
    pub stop_limit: Duration,
}

impl Settings {
    fn atlas_access(&self) -> AtlasAccess {
        let metrics = Arc::clone(&self.metrics);
        AtlasAccess {
            client: self.atlas.clone().observed_by(Arc::new(move |operation, outcome, duration| {
                metrics.asked_atlas(operation, outcome, duration);
            })),
            is_allowed: Arc::clone(&self.endpoint_rule),
            endpoint: self.atlas_defaults.endpoint.clone(),
        }
    }
}

/// What each pass needs.
struct Context {
    client: Client,
    settings: Settings,
    atlas: AtlasAccess,
    events: Events,
    memory: Arc<Memory>,
    failures: Failures,
    rollouts: Rollouts,
    lists: Lists,
    places: Places,
    issuers: IssuerDirectory,
    /// The issuers that `AtlasDatabaseUser`s amount to.
    user_issuers: IssuerDirectory<NamespacedName>,
    triggers: Arc<Triggers>,
    secret_watches: Arc<NameWatches<PartialObjectMeta<Secret>>>,
    atlas_projects: NameWatches<DynamicObject>,
    atlas_users: NameWatches<DynamicObject>,
    secrets: Store<SecretMetadata>,
    namespaces: Option<Store<NamespaceMetadata>>,
    issuer_store: Store<Received<CertificateIssuer>>,
    cluster_issuer_store: Option<Store<Received<ClusterCertificateIssuer>>>,
    certificate_store: Store<Received<DatabaseUserCertificate>>,
}

impl Context {
    /// Now, by the clock that this process goes by.
    fn now(&self) -> Timestamp {
        (self.settings.clock)()
    }

    /// What `read` makes of an issuer's status; `None` if there is no such issuer here.
    fn with_issuer<T>(&self, key: &IssuerKey, read: impl FnOnce(Option<&IssuerStatus>) -> T) -> Option<T> {
        match key.kind {
            IssuerKind::CertificateIssuer => {
                let found = self.issuer_store.get(&ObjectRef::new(&key.name).within(&key.namespace));
                found.map(|issuer| read(issuer.status.as_ref()))
            }
            IssuerKind::ClusterCertificateIssuer => {
                let found = self.cluster_issuer_store.as_ref()?.get(&ObjectRef::new(&key.name));
                found.map(|issuer| read(issuer.status.as_ref()))
            }
        }
    }

    /// Whether there is such an issuer here.
    fn has_issuer(&self, key: &IssuerKey) -> bool {
        self.with_issuer(key, |_| ()).is_some()
    }

    /// The namespace of the Secret that an issuer names.
    fn secrets_of_issuer<'a>(&'a self, key: &'a IssuerKey) -> &'a str {
        match (&self.settings.scope, key.kind) {
            (Scope::Cluster { operator_namespace }, IssuerKind::ClusterCertificateIssuer) => operator_namespace,
            _ => &key.namespace,
        }
    }

    /// The issuer of an object, if it was looked at and can be used.
    fn loaded_issuer(&self, object: &DatabaseUserCertificate) -> Option<Arc<LoadedIssuer>> {
        let found = match &object.spec.user_ref {
            Some(user) => self.user_issuers.get(&NamespacedName::new(object.namespace().unwrap_or_default(), &user.name)),
            None => self.issuers.get(&IssuerKey::of(object)?),
        };
        found?.ok()
    }

    /// Forgets an object that is gone.
    fn forget(&self, name: &ObjectKey) {
        self.memory.forget(name);
        self.memory.forget_unreadable(&Waiting::Certificate(name.clone()));
        self.failures.end(&Waiting::Certificate(name.clone()));
        self.settings.turns.forget(name);
        self.settings.keys.forget(name);
        self.places.forget(name, &self.triggers);
        self.rollouts.forget(name);
        self.forget_user(name);
        self.secret_watches.forget(&Waiting::Certificate(name.clone()));
        self.secret_watches.forget(&Waiting::KeystorePassword(name.clone()));
    }

    /// Ends the watches for the `AtlasDatabaseUser` of an object that names none any more, or another one. Its credentials go with the last
    /// object that names it.
    fn forget_user(&self, name: &ObjectKey) {
        self.secret_watches.forget(&Waiting::Credentials(name.clone()));
        self.atlas_projects.forget(&Waiting::Certificate(name.clone()));
        if let Some(user) = self.atlas_users.release(&Waiting::Certificate(name.clone())) {
            self.user_issuers.remove(&user);
        }
    }
}

/// Why a pass failed. It is repeated.
#[derive(Debug, thiserror::Error)]
enum ReconcileError {
    /// A request to the API server failed.
    #[error(transparent)]
    Kubernetes(#[from] KubernetesError),
    /// A pass failed.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// The pass succeeded, and the rollout after it failed.
    #[error(transparent)]
    Rollout(PassError),
    /// The pass took too long.
    #[error("the pass took too long and was given up")]
    TooLong,
}
