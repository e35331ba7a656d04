//! The channels by which an object is looked at again.

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use kube::runtime::reflector::ObjectRef;

use crate::{
    Received,
    api::{CertificateIssuer, ClusterCertificateIssuer, DatabaseUserCertificate, IssuerKey, IssuerKind, ObjectKey},
};

/// An object that waits for something that the watches of its own controller do not show.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Waiting {
    /// A `DatabaseUserCertificate`.
    Certificate(ObjectKey),
    /// A `DatabaseUserCertificate` that waits for the credentials of its `AtlasDatabaseUser`.
    Credentials(ObjectKey),
    /// A `DatabaseUserCertificate` that takes the password of its keystore from a Secret.
    KeystorePassword(ObjectKey),
    /// An issuer of either kind.
    Issuer(IssuerKey),
}

/// The sending ends of the channels.
pub struct Triggers {
    certificates: UnboundedSender<ObjectRef<Received<DatabaseUserCertificate>>>,
    issuers: UnboundedSender<ObjectRef<Received<CertificateIssuer>>>,
    cluster_issuers: UnboundedSender<ObjectRef<Received<ClusterCertificateIssuer>>>,
}

/// The receiving ends of the channels, one for each controller.
pub struct Triggered {
    /// For the controller of certificates.
    pub certificates: UnboundedReceiver<ObjectRef<Received<DatabaseUserCertificate>>>,
    /// For the controller of issuers.
    pub issuers: UnboundedReceiver<ObjectRef<Received<CertificateIssuer>>>,
    /// For the controller of cluster issuers.
    pub cluster_issuers: UnboundedReceiver<ObjectRef<Received<ClusterCertificateIssuer>>>,
}

impl Triggers {
    /// The channels.
    #[must_use]
    pub fn new() -> (Self, Triggered) {
        let (certificates, certificates_receiver) = unbounded();
        let (issuers, issuers_receiver) = unbounded();
        let (cluster_issuers, cluster_issuers_receiver) = unbounded();
        (
            Self { certificates, issuers, cluster_issuers },
            Triggered {
                certificates: certificates_receiver,
                issuers: issuers_receiver,
                cluster_issuers: cluster_issuers_receiver,
            },
        )
    }

    /// Has the object looked at again. A send fails only when its controller has stopped, and then nothing is left to do.
    pub fn wake(&self, who: &Waiting) {
        match who {
            Waiting::Certificate(object) | Waiting::Credentials(object) | Waiting::KeystorePassword(object) => {
                let _ = self.certificates.unbounded_send(ObjectRef::new(&object.name).within(&object.namespace));
            }
            Waiting::Issuer(key) => self.wake_issuer(key),
        }
    }

    fn wake_issuer(&self, key: &IssuerKey) {
        match key.kind {
            IssuerKind::CertificateIssuer => {
                let _ = self.issuers.unbounded_send(ObjectRef::new(&key.name).within(&key.namespace));
            }
            IssuerKind::ClusterCertificateIssuer => {
                let _ = self.cluster_issuers.unbounded_send(ObjectRef::new(&key.name));
            }
        }
    }
}
