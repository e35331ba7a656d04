//! What a Secret is to hold besides the certificate: the pair before it, and the password of its keystore.
//!
//! A renewal knows neither, so it reads the Secret before it replaces the pair, if the spec asks for that. The new certificate matters more than
//! both: after a few attempts it is written without them. What then is in the Secret stays, and the next pass completes the rest.

use std::time::Duration;

use aws_lc_rs::rand;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt};
use tracing::warn;

use crate::{
    Context, Received,
    api::{DatabaseUserCertificate, Reason, SecretLocation},
    certificate::CertificateFacts,
    decide::SecretView,
    keystore_password,
    kubernetes::{chain, request},
    layout::{FormerPair, KeystorePassword, former_pair, has_useless_keystore, keystore_format},
    secret::{self, Additions, NamedPassword, PreviousPair, ReadSecret},
};

/// How often the Secret is read before the certificate is written without what only the Secret holds, and how long that may take. Together
/// with the password, which is waited for up to five seconds, they hold a certificate up for 22 seconds at most.
const ATTEMPTS: u32 = 3;
const LIMIT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_secs(1);

/// The bytes of a password that is made: 192 bits, written in hexadecimal.
const PASSWORD_BYTES: usize = 24;

/// For a new certificate, which replaces what `seen` shows. `None` if the spec cannot be read: then nobody knows what it asks for.
pub(super) async fn for_new_pair(
    context: &Context,
    object: &Received<DatabaseUserCertificate>,
    new: &CertificateFacts,
    cause: Reason,
    seen: Option<&SecretView>,
) -> Option<Additions> {
    if object.unreadable_object().is_some() {
        return None;
    }
    let now = context.now();
    let replaced = seen.and_then(|seen| seen.certificate.as_ref().ok());
    let former = replaced.map_or(FormerPair::Nothing, |replaced| former_pair(object, cause, replaced, new, now));
    let makes_password = keystore_format(&object.spec).is_some_and(|format| format.password_secret_ref.is_none());
    let named_password = keystore_password::read(context, object).await;
    let read = match seen.filter(|_| former != FormerPair::Nothing || makes_password) {
        Some(seen) => read_replaced(context, object, seen, &named_password).await,
        None => Ok(None),
    };
    let previous = match (former, &read) {
        (FormerPair::Nothing, _) | (_, Ok(None)) => PreviousPair::Nothing,
        (_, Err(())) => PreviousPair::Untouched,
        (FormerPair::Replaced, Ok(Some(read))) => PreviousPair::from(read.pair.clone()),
        (FormerPair::AsItIs, Ok(Some(read))) => still_valid(read, now),
    };
    let keystore_password = match read {
        Err(()) if makes_password => None,
        Ok(read) if makes_password => Some(read.and_then(|read| read.keystore_password).unwrap_or_else(new_password)),
        _ => named_password.password.clone(),
    };
    let is_for_another = replaced.is_some_and(|replaced| replaced.subject != new.subject);
    let keystore_goes = is_for_another || has_former_keystore_of_no_use(object, new, cause, seen, now);
    Some(Additions { previous, keystore_password, keystore_goes, named_password })
}

/// Whether the keystore holds a pair that is of no use once the new one is there.
fn has_former_keystore_of_no_use(
    object: &DatabaseUserCertificate,
    new: &CertificateFacts,
    cause: Reason,
    seen: Option<&SecretView>,
    now: Timestamp,
) -> bool {
    let held = seen.and_then(|seen| seen.keystore.serial_number.as_ref());
    let status = object.status.clone().unwrap_or_default();
    has_useless_keystore(object, held, &new.serial_number, Some(cause), &status, now)
}

/// For the pair that is in the Secret already.
pub(super) fn for_repair(
    context: &Context,
    object: &DatabaseUserCertificate,
    read: &ReadSecret,
    named_password: NamedPassword,
) -> Additions {
    let (previous, status) = (still_valid(read, context.now()), object.status.clone().unwrap_or_default());
    let keystore_goes = !read.has_keystore || read.view.has_useless_keystore(object, &status, context.now());
    let format = keystore_format(&object.spec);
    let keystore_password = format.map(|_| read.keystore_password.clone().unwrap_or_else(new_password));
    Additions { previous, keystore_password, keystore_goes, named_password }
}

/// The former pair in the Secret, unless it has expired.
fn still_valid(read: &ReadSecret, now: Timestamp) -> PreviousPair {
    read.previous.clone().filter(|pair| pair.facts().not_after > now).into()
}

/// The Secret in the version that was seen; `None` if there is a newer one by now, which the write will meet as a conflict.
async fn read_replaced(
    context: &Context,
    object: &DatabaseUserCertificate,
    seen: &SecretView,
    named_password: &NamedPassword,
) -> Result<Option<ReadSecret>, ()> {
    let location = SecretLocation::of(object);
    let api = Api::<Received<Secret>>::namespaced(context.client.clone(), &location.namespace);
    for attempt in 1..=ATTEMPTS {
        match tokio::time::timeout(LIMIT, request("read the Secret", api.get_opt(&location.name))).await {
            Ok(Ok(Some(found))) if found.unreadable().is_some() => warn!(attempt, "the answer with the Secret is cut short"),
            Ok(Ok(found)) => {
                let same = found.filter(|found| {
                    found.uid().as_ref() == Some(&seen.uid) && found.resource_version().as_ref() == Some(&seen.resource_version)
                });
                return Ok(same.map(|found| secret::read(object, &found, named_password)));
            }
            Ok(Err(error)) => warn!(attempt, error = chain(&error), "the Secret that is to be replaced cannot be read"),
            Err(_) => warn!(attempt, "the Secret that is to be replaced is not read in time"),
        }
        if attempt < ATTEMPTS {
            tokio::time::sleep(PAUSE).await;
        }
    }
    warn!("the certificate is written without what only the Secret holds: the former pair and the keystore's password");
    Err(())
}

fn new_password() -> KeystorePassword {
    let mut bytes = zeroize::Zeroizing::new([0_u8; PASSWORD_BYTES]);
    match rand::fill(bytes.as_mut()) {
        Ok(()) => KeystorePassword::Made(hex::encode(bytes.as_ref()).into()),
        Err(_) => KeystorePassword::Unusable("the system gives no random bytes".to_owned()),
    }
}
