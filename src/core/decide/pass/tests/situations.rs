//! What may have happened to an object before a pass.

pub use super::world::{Atlas, Ca};
use super::{
    world::{Fault, OTHER_USER, USER, facts, refusal},
    *,
};
use crate::{
    api::{
        DeletionPolicy, ObjectName, SecretTemplate,
        names::{ADOPT_SECRET_ANNOTATION, COMPROMISED_ANNOTATION, RENEW_REQUESTED_ANNOTATION},
    },
    certificate::Subject,
    decide::{IssuerFacts, IssuerState, IssuingMethod, SecretState},
    layout::LayoutRecord,
};

pub const HALF_AN_HOUR: SignedDuration = SignedDuration::from_mins(30);
pub const TWO_MONTHS: SignedDuration = SignedDuration::from_hours(60 * 24);

pub fn ask_for_renewal(world: &mut World) {
    world.annotate(RENEW_REQUESTED_ANNOTATION, "now");
}

/// Somebody finds out that the key of the certificate in the Secret is known to others.
pub fn compromise(world: &mut World) {
    let serial_number = world.secret.certificate().map_or_else(|| "01".to_owned(), |found| found.serial_number.to_string());
    world.annotate(COMPROMISED_ANNOTATION, &serial_number);
}

/// The same about the certificate before, which stands beside the present one.
pub fn compromise_former_pair(world: &mut World) {
    let not_after = world.now + TWO_MONTHS;
    world.edit_secret(|view| {
        (view.previous_not_after, view.previous_serial_number) = (Some(not_after), Some("0F".into()));
    });
    world.annotate(COMPROMISED_ANNOTATION, "0F");
}

/// The CA gets a new certificate for the same key.
pub fn renew_ca(world: &mut World) {
    world.edit_issuer(|facts| match &mut facts.method {
        IssuingMethod::Sign(ca) => ca.chain_digest.push_str("-renewed"),
        IssuingMethod::Mint { .. } => panic!("it is no CA"),
    });
}

pub fn change_spec(world: &mut World) {
    world.edit(|object| object.spec.username = Some(OTHER_USER.into()));
}

/// The user is named by an `AtlasDatabaseUser`, which names this one.
pub fn refer_to_user(world: &mut World) {
    refer_to(world, USER);
}

/// The same, or the `AtlasDatabaseUser` is changed to another user.
pub fn refer_to_other_user(world: &mut World) {
    refer_to(world, OTHER_USER);
}

fn refer_to(world: &mut World, user: &str) {
    if world.object.spec.user_ref.is_none() {
        world.edit(|object| {
            (object.spec.username, object.spec.issuer_ref) = (None, None);
            object.spec.user_ref = Some(ObjectName { name: "user".into() });
        });
    }
    world.issuer = IssuerState::Usable(Box::new(IssuerFacts { username: Some(user.to_owned()), ..facts(Atlas) }));
}

/// The `AtlasDatabaseUser`, or what it needs, cannot be used.
pub fn forget_user(world: &mut World) {
    world.issuer = IssuerState::Unusable(Reason::AtlasObjectNotReady, "the AtlasDatabaseUser is not Ready".into());
}

pub fn change_issuer(world: &mut World) {
    world.edit(|_| ());
    world.edit_issuer(|facts| facts.identity = format!("{}-other", facts.identity).into());
}

pub fn delete_secret(world: &mut World) {
    world.secret = SecretState::Absent;
}

pub fn spoil_certificate_of_secret(world: &mut World) {
    world.edit_secret(|view| {
        view.complete = false;
        view.spoilt = Some("tls.crt holds no certificate".into());
    });
}

pub fn spoil_all_of_secret(world: &mut World) {
    world.edit_secret(|view| {
        view.complete = false;
        view.certificate = Err("there is no certificate in PEM form".into());
    });
}

pub fn take_label_away(world: &mut World) {
    world.edit_secret(|view| view.complete = false);
}

pub fn ask_for_labels(world: &mut World) {
    let labels = [("team".to_owned(), "db".to_owned())].into();
    let template = SecretTemplate { labels, ..SecretTemplate::default() };
    world.edit(|object| object.spec.secret_template = Some(template));
}

/// Somebody takes away the annotation that says what the spec asked for.
pub fn take_layout_away(world: &mut World) {
    world.edit_secret(|view| (view.complete, view.layout) = (false, LayoutRecord::default()));
}

/// The password of the keystore was changed, and the Secret read since.
pub fn change_password(world: &mut World) {
    world.edit_secret(|view| (view.complete, view.keystore.password) = (false, Some("uid/8".into())));
}

pub fn have_former_pair_expire(world: &mut World) {
    let now = world.now;
    world.edit_secret(|view| view.previous_not_after = Some(now));
}

/// A certificate was made, and its Secret could not be written.
pub fn unsaved() -> World {
    World::new(Atlas).with(|world| world.meet("write unsaved", &Fault::Answer(RequestErrorKind::Refused)))
}

/// The Secret has the certificate of one user. That of another one, to whom the `AtlasDatabaseUser` was changed, is in memory alone.
pub fn unsaved_of_other_user() -> World {
    World::settled(Atlas).with(refer_to_user).with(|world| _ = world.run()).with(refer_to_other_user).with(|world| {
        world.meet("write unsaved", &Fault::Answer(RequestErrorKind::Failed));
        world.now += HALF_AN_HOUR;
    })
}

/// Another process has meanwhile made and saved a certificate.
pub fn put_newer_certificate(world: &mut World) {
    world.now += HALF_AN_HOUR;
    let mut other = World::new(Atlas).after(HALF_AN_HOUR);
    other.run();
    world.secret = other.secret;
}

/// The certificate of the time when the spec named another user.
pub fn put_certificate_of_other_user(world: &mut World) {
    world.edit_secret(|view| {
        if let Ok(certificate) = &mut view.certificate {
            certificate.subject = Subject::for_user(OTHER_USER).unwrap();
        }
    });
}

/// The claim was written, and the process ended before it asked for the certificate.
pub fn claimed() -> World {
    World::new(Atlas).with(|world| world.meet("write claim", &Fault::AnswerLost)).restarted()
}

/// The report of a request that failed met a newer version of the object.
pub fn unreported() -> World {
    World::new(Atlas).with(|world| {
        world.run_with(|_, step| match step {
            Step::RequestCertificate { .. } => Some(Fault::Issuer(refusal(Reason::AtlasForbidden, Minted::No))),
            Step::Report(_) => Some(Fault::ObjectChanged),
            _ => None,
        });
    })
}

pub fn asks_to_adopt(world: &mut World) {
    world.find_abandoned_secret();
    world.annotate(ADOPT_SECRET_ANNOTATION, "true");
}

pub fn suspend(world: &mut World) {
    world.edit(|object| object.spec.suspend = true);
}

pub fn resume(world: &mut World) {
    world.edit(|object| object.spec.suspend = false);
}

pub fn retain(world: &mut World) {
    world.edit(|object| object.spec.deletion_policy = DeletionPolicy::Retain);
}

pub fn release(world: &mut World) {
    world.edit(|object| object.spec.deletion_policy = DeletionPolicy::Delete);
}

pub fn take_controller_away(world: &mut World) {
    world.edit_secret(|view| view.deletion_policy = None);
}

/// What a process does that stops.
pub fn stopping(world: &mut World) {
    world.purpose = Purpose::SaveOnly;
    world.leads = false;
}
