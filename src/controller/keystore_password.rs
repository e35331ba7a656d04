//! The password of a keystore, where the spec takes it from a Secret of the same namespace.
//!
//! # Guarantees
//!
//! - A password that cannot be had is no error: the certificate is written without the keystore, and what is wrong is said.
//! - The Secret is watched by name, by its metadata alone. It is read only when a keystore is written or compared.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Resource, ResourceExt};

use crate::{
    Context, Received,
    api::{DatabaseUserCertificate, NamespacedName, ObjectKey, SecretKeyReference},
    decide::SecretView,
    kubernetes::request,
    layout::{KeystorePassword, check_keystore_password, keystore_format},
    secret::NamedPassword,
    triggers::Waiting,
    watches::by_name::Presence,
};

/// The longest time that a certificate waits for the password of its keystore.
const LIMIT: Duration = Duration::from_secs(5);

/// The entry that holds the password, unless the operator makes it.
fn reference(object: &DatabaseUserCertificate) -> Option<&SecretKeyReference> {
    keystore_format(&object.spec)?.password_secret_ref.as_ref()
}

/// The Secret that holds the password. `None` if the operator makes it, or the spec names the certificate's own Secret.
fn location(object: &DatabaseUserCertificate) -> Option<NamespacedName> {
    let name = &reference(object)?.name;
    (*name != object.secret_name()).then(|| NamespacedName::new(object.namespace().unwrap_or_default(), name))
}

/// Whether the password is the one that the keystore in the Secret was compared with. While the watch has shown nothing yet, it counts
/// as such. A change wakes the object, from now on.
pub(crate) fn is_current(context: &Context, object: &DatabaseUserCertificate, view: &SecretView) -> bool {
    let waiting = Waiting::KeystorePassword(ObjectKey::of(object));
    let Some(location) = location(object) else {
        context.secret_watches.forget(&waiting);
        return true;
    };
    let seen = match context.secret_watches.watch(&waiting, &location) {
        Presence::Unknown => return true,
        Presence::Absent | Presence::NotServed | Presence::Denied(_) => None,
        Presence::Present(found) => Some(version(&*found)),
    };
    seen == view.keystore.password
}

fn version<K: Resource>(secret: &Received<K>) -> String {
    format!("{}/{}", secret.uid().unwrap_or_default(), secret.resource_version().unwrap_or_default())
}

/// Reads the password. The answer is empty if the spec names none.
pub(crate) async fn read(context: &Context, object: &DatabaseUserCertificate) -> NamedPassword {
    let Some(reference) = reference(object) else { return NamedPassword::default() };
    let Some(location) = location(object) else {
        return unusable(reference, "is the certificate's own: name another one, or leave passwordSecretRef out");
    };
    let api = Api::<Received<Secret>>::namespaced(context.client.clone(), &location.namespace);
    let found = tokio::time::timeout(LIMIT, request("read the keystore's password", api.get_opt(&location.name))).await;
    let passing = |fault: &str| NamedPassword { is_passing: true, ..unusable(reference, fault) };
    match found {
        Ok(Ok(Some(secret))) if secret.unreadable().is_some() => passing("cannot be read: the answer is cut short"),
        Ok(Ok(Some(secret))) => NamedPassword { version: Some(version(&secret)), ..password_in(reference, &secret) },
        Ok(Ok(None)) => unusable(reference, "does not exist: create it, or leave passwordSecretRef out"),
        Ok(Err(error)) if error.is_denied() => unusable(reference, &format!("cannot be read: {}", error.explanation())),
        Ok(Err(error)) => passing(&format!("cannot be read: {}", error.explanation())),
        Err(_) => passing("cannot be read: the API server does not answer"),
    }
}

fn password_in(reference: &SecretKeyReference, secret: &Secret) -> NamedPassword {
    let key = &reference.key;
    let Some(value) = secret.data.as_ref().and_then(|data| data.get(key)) else {
        return unusable(reference, &format!("has no key {key}: add it, or correct passwordSecretRef"));
    };
    match check_keystore_password(&value.0) {
        Ok(password) => NamedPassword { password: Some(KeystorePassword::Named(password)), ..NamedPassword::default() },
        Err(fault) => unusable(reference, &format!("cannot be used: the password in its key {key} {fault}")),
    }
}

fn unusable(reference: &SecretKeyReference, fault: &str) -> NamedPassword {
    let message = format!("the Secret {} {fault}", reference.name);
    NamedPassword { password: Some(KeystorePassword::Unusable(message)), ..NamedPassword::default() }
}
