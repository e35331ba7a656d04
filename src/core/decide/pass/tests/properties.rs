//! What holds of every pass, whatever its steps find.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{
    situations::*,
    world::{OTHER_USER, USER, certificate, error, refusal},
    *,
};
use crate::{
    certificate::Subject,
    decide::{
        Check, IssuerState, ListedCertificate, RecalledList, SecretState, UserCertificates, desired::username, explain,
        ready_certificate,
    },
};

/// No pass has more steps than this, its end included. It looks three times at most. A look that leads to another has up to
/// eleven steps: the last of them is the write of the Secret that met a conflict. The last look has up to thirteen: the report
/// and the end are added.
const MOST_STEPS: usize = 11 + 11 + 13;

fn begun() -> impl Strategy<Value = World> {
    prop::sample::select(vec![
        World::new(Atlas),
        World::new(Ca),
        World::settled(Atlas),
        World::settled(Ca),
        unsaved(),
        unsaved_of_other_user(),
        claimed(),
        unreported(),
    ])
}

/// What happened before the pass.
fn world() -> impl Strategy<Value = World> {
    (begun(), prop::collection::vec(event(), 0..5)).prop_map(|(world, events)| {
        events.into_iter().fold(world, |mut world, event| {
            event(&mut world);
            world
        })
    })
}

fn event() -> impl Strategy<Value = fn(&mut World)> {
    let events: Vec<fn(&mut World)> = vec![
        |world| world.now += HALF_AN_HOUR,
        |world| world.now += TWO_MONTHS,
        ask_for_renewal,
        compromise,
        compromise_former_pair,
        change_spec,
        change_issuer,
        refer_to_user,
        refer_to_other_user,
        forget_user,
        delete_secret,
        spoil_certificate_of_secret,
        spoil_all_of_secret,
        take_label_away,
        put_newer_certificate,
        put_certificate_of_other_user,
        asks_to_adopt,
        stopping,
        |world| *world = world.clone().restarted(),
        |world| world.find_abandoned_secret(),
        |world| world.find_retained_secret(),
        suspend,
        resume,
        retain,
        |world| world.edit_secret(|view| view.deletion_policy = None),
        |world| world.secret = SecretState::NotOurs("belongs to a Pod".into()),
        |world| world.issuer = IssuerState::Missing,
        |world| world.issuer = IssuerState::Unknown,
        |world| world.issuer = IssuerState::Unusable(Reason::CredentialsNotFound, "a fault".into()),
    ];
    prop::sample::select(events)
}

fn request_error_kind() -> impl Strategy<Value = RequestErrorKind> {
    use RequestErrorKind::{Conflict, Failed, NamespaceTerminating, NotFound, Refused, Unanswered};
    prop::sample::select(vec![Unanswered, Conflict, NotFound, NamespaceTerminating, Refused, Failed])
}

fn issue_error() -> impl Strategy<Value = IssueError> {
    let reasons = vec![
        Reason::AtlasAnswerLost,
        Reason::AtlasCertificateLimit,
        Reason::AtlasForbidden,
        Reason::AtlasRateLimited,
        Reason::AtlasUnavailable,
        Reason::ChainBroken,
        Reason::SigningFailed,
    ];
    let retry = prop_oneof![Just(Retry::Backoff), Just(Retry::Slowly), Just(Retry::NotBefore(HALF_AN_HOUR))];
    let minted = prop_oneof![Just(Minted::No), Just(Minted::Possibly)];
    (prop::sample::select(reasons), retry, minted)
        .prop_map(|(reason, retry, minted)| IssueError { retry, ..refusal(reason, minted) })
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        4 => request_error_kind().prop_map(Fault::Answer),
        3 => Just(Fault::Answer(RequestErrorKind::Conflict)),
        2 => issue_error().prop_map(Fault::Issuer),
        1 => prop::sample::select(vec![
            Fault::AnswerLost,
            Fault::NoTurn,
            Fault::StopsLeading,
            Fault::NoPermit,
            Fault::ObjectChanged,
            Fault::SecretChanged,
            Fault::CertificateChanged,
            Fault::SecretDeleted,
            Fault::OtherSaved,
            Fault::SameCertificate,
            Fault::TimePasses(HALF_AN_HOUR),
            Fault::TimePasses(TWO_MONTHS),
        ]),
    ]
}

fn faults() -> impl Strategy<Value = Vec<Option<Fault>>> {
    prop::collection::vec(prop::option::weighted(0.25, fault()), MOST_STEPS)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn each_pass_keeps_what_the_module_guarantees(mut world in world(), faults in prop::collection::vec(faults(), 1..4)) {
        for faults in faults {
            let unsaved = world.memory.unsaved.clone();
            let moves = world.run_with(|number, _| faults.get(number).cloned().flatten());
            prop_assert!(moves.len() <= MOST_STEPS, "{} steps", moves.len());
            prop_assert!(!matches!(moves.last().map(|last| &last.step), Some(Step::End(End::Failed(PassError::OutOfOrder)))));
            assert_one_request_for_each_claim(&moves);
            assert_the_object_is_read_before_the_secret_is_written(&moves);
            assert_no_certificate_is_forgotten(&moves, unsaved, &world);
            assert_atlas_is_asked_in_a_turn(&moves);
            assert_each_decision_is_explained(&moves, &world);
            world.leads = world.purpose == Purpose::Certificate;
        }
    }
}

proptest! {
    // Each has many values in it.
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_found_in_whatever_order_has_a_next_step(
        object in world(),
        hands in prop::collection::vec((hand(), any::<prop::sample::Index>(), prop::bool::weighted(0.05), now()), MOST_STEPS),
    ) {
        let mut pass = Pass::new(object.object.clone(), object.purpose);
        let begun = Now { time: object.now, may_act: object.leads };
        let mut step = pass.next(Found::Begun, begun).step;
        for (hand, any, is_out_of_order, now) in hands {
            let fitting: Vec<&Found> = hand.iter().filter(|found| fits(&step, found)).collect();
            let found = if is_out_of_order || fitting.is_empty() { any.get(&hand) } else { any.get(&fitting) };
            let is_expected = fits(&step, found);
            step = pass.next(found.clone(), now).step;
            let is_refused = matches!(step, Step::End(End::Failed(PassError::OutOfOrder)));
            prop_assert_eq!(is_refused, !is_expected, "{:?} was answered with {}", found, step);
        }
        prop_assert!(matches!(step, Step::End(_)), "there are more than {} steps: {}", MOST_STEPS, step);
    }
}

/// A check settles the matter, unless the certificate is kept as it is or is issued now; and it is the one that the reason is about.
fn assert_each_decision_is_explained(moves: &[Move], world: &World) {
    for Move { observed, now, .. } in moves {
        let explanation = explain(&world.object, observed, now.time);
        let (settled, needs) = (explanation.settled_by(), explanation.needs());
        match &explanation.decision {
            Decision::Keep { .. } => assert_eq!((settled, needs), (None, None)),
            Decision::Issue { .. } => assert!(settled.is_none() && needs.is_some(), "{explanation:?}"),
            Decision::LookUpUser { .. } => assert!(settled == Some(Check::UserServed) && needs.is_some(), "{explanation:?}"),
            Decision::Adopt | Decision::Block { reason: Reason::SecretNotOwned, .. } => {
                assert_eq!(settled, Some(Check::SecretIsOurs));
            }
            Decision::Save => assert_eq!(settled, Some(Check::NothingUnsaved)),
            Decision::CountLostClaim => assert_eq!(settled, Some(Check::NoOpenClaim)),
            Decision::LookForLost => assert!(settled == Some(Check::NothingLookedFor) && needs.is_some(), "{explanation:?}"),
            Decision::Wait { reason: Reason::AtlasAnswerLost, .. } => assert_eq!(settled, Some(Check::FailureOver)),
            Decision::Wait { reason: Reason::TooManyForcedRenewals, .. } => assert_eq!(settled, Some(Check::FewForced)),
            Decision::Block { reason: Reason::SecretBeingDeleted, .. } => {
                assert!(matches!(settled, Some(Check::SecretStays | Check::NothingUnsaved)), "{explanation:?}");
            }
            Decision::Suspend => assert_eq!(settled, Some(Check::NotSuspended)),
            Decision::Block { reason: Reason::IssuerNotFound, .. } => {
                assert!(matches!(settled, Some(Check::IssuerUsable | Check::NothingUnsaved)), "{explanation:?}");
            }
            Decision::Block { reason: Reason::InvalidSpec, .. } => assert_eq!(settled, Some(Check::SpecFits)),
            Decision::Wait { reason: Reason::TooManyIssues, .. } => assert_eq!(settled, Some(Check::FewIssued)),
            _ => assert!(settled.is_some(), "{explanation:?}"),
        }
    }
}

/// A request that mints has a claim of its own, which was written since the last look.
fn assert_one_request_for_each_claim(moves: &[Move]) {
    let mut claims = 0_usize;
    for Move { step, found, .. } in moves {
        match (step, found) {
            (Step::Observe(_), _) => claims = 0,
            (Step::WriteClaim { .. }, Some(Found::Claimed(_))) => claims += 1,
            (Step::RequestCertificate { desired, .. }, _) if matches!(desired.order, Order::Mint { .. }) => {
                claims = claims.checked_sub(1).expect("a claim for this request");
            }
            _ => {}
        }
    }
}

/// What nobody wants any more is not written. The leadership is asked for right before the object is read.
fn assert_the_object_is_read_before_the_secret_is_written(moves: &[Move]) {
    for window in moves.windows(3) {
        let [before, read, write] = window else { unreachable!("there are three") };
        if !matches!(write.step, Step::WriteSecret(write) if write != Write::Unsaved) {
            continue;
        }
        assert_eq!((&read.step, &read.found), (&Step::ReadObject, &Some(Found::ObjectRead(Ok(true)))));
        assert!(before.now.may_act);
    }
}

/// A certificate that is in memory alone stays there until it is in the Secret, or the Secret holds a better one.
fn assert_no_certificate_is_forgotten(moves: &[Move], begun_with: Option<UnsavedCertificate>, world: &World) {
    let mut unsaved = begun_with;
    let mut last: Option<&Move> = None;
    for now in moves {
        let Some(memory) = &now.memory else {
            last = Some(now);
            continue;
        };
        let serial_number =
            |unsaved: &Option<UnsavedCertificate>| unsaved.as_ref().map(|unsaved| unsaved.certificate.serial_number.clone());
        if let Some(gone) = unsaved.as_ref().filter(|_| serial_number(&unsaved) != serial_number(&memory.unsaved)) {
            let last = last.expect("a step before");
            let is_saved = last.step == Step::WriteSecret(Write::Unsaved) && matches!(last.found, Some(Found::Written(Ok(_))));
            let is_given_up = now.changes.iter().any(|change| matches!(change, Change::ForgetClaimedUser { .. }))
                || world.purpose == Purpose::SaveOnly && matches!(last.step, Step::Observe(_))
                || matches!(last.found, Some(Found::Recalled(Some(_)))) && matches!(now.step, Step::Report(_))
                || matches!(last.found, Some(Found::Issued(_)));
            assert!(
                is_saved || is_given_up && is_better_than(gone, now, last.now.time, world),
                "{} was forgotten after {}",
                gone.certificate.serial_number,
                last.step
            );
        }
        unsaved.clone_from(&memory.unsaved);
        last = Some(now);
    }
}

/// Whether the Secret holds a certificate that works, and is newer than the one in memory or for another subject that is known to be wanted.
/// While the user is not known, only a process that stops gives up one of another subject, and for a newer one alone. Of two for a subject that
/// is not wanted any more the newer one stays.
fn is_better_than(unsaved: &UnsavedCertificate, decided: &Move, now: Timestamp, world: &World) -> bool {
    let ready = match ready_certificate(&world.object, &decided.observed, now) {
        Ok(ready) => Some(ready),
        Err((reason, _)) => {
            let is_like = |present: &&CertificateFacts| present.subject == unsaved.certificate.subject;
            decided.observed.secret.certificate().filter(is_like).filter(|_| reason == Reason::SubjectChanged)
        }
    };
    let Some(ready) = ready else { return false };
    let is_newer = ready.not_before >= unsaved.certificate.not_before;
    if ready.subject == unsaved.certificate.subject {
        return is_newer;
    }
    let is_user_known = username(&world.object, decided.observed.issuer.usable()).is_some();
    is_user_known || is_newer && world.purpose == Purpose::SaveOnly
}

/// Whether the step sends a request to Atlas.
fn asks_atlas(step: &Step) -> bool {
    match step {
        Step::ListCertificates { .. } | Step::CheckUser { .. } => true,
        Step::RequestCertificate { desired, .. } => matches!(desired.order, Order::Mint { .. }),
        _ => false,
    }
}

/// Atlas is asked in a turn alone. Others may ask it while the pass reports.
fn assert_atlas_is_asked_in_a_turn(moves: &[Move]) {
    let mut has_turn = false;
    // A CA has no turns, and no list.
    let signs =
        |step: &Step| matches!(step, Step::RequestCertificate { desired, .. } if matches!(desired.order, Order::Sign { .. }));
    let is_ca = moves.iter().any(|made| signs(&made.step));
    for Move { changes, step, found, .. } in moves {
        has_turn &= !changes.contains(&Change::EndTurn);
        assert!(!has_turn || !matches!(step, Step::Report(_) | Step::Observe(_)), "the turn lasts until {step}");
        assert!(has_turn || is_ca || !asks_atlas(step), "no turn to {step}");
        has_turn |= *found == Some(Found::Turn(TurnFound::Given));
    }
}

/// Whether the step can find this.
fn fits(step: &Step, found: &Found) -> bool {
    matches!(
        (step, found),
        (Step::Observe(_), Found::Observed(_))
            | (Step::RecallUser { .. }, Found::Recalled(_))
            | (Step::TakeTurn { .. } | Step::MakeKey { .. }, Found::Turn(_))
            | (Step::ListCertificates { .. }, Found::Listed(_))
            | (Step::TryWrite, Found::Tried(_))
            | (Step::CheckUser { .. }, Found::UserChecked(_))
            | (Step::WriteClaim { .. }, Found::Claimed(_) | Found::NotClaimed(..))
            | (Step::WithdrawClaim, Found::Withdrawn)
            | (Step::RequestCertificate { .. }, Found::Issued(_) | Found::NotIssued(_))
            | (Step::ReadSecret, Found::SecretRead(_))
            | (Step::ReadObject, Found::ObjectRead(_))
            | (Step::WriteSecret(_), Found::Written(_))
            | (Step::WriteSecret(Write::Repaired { .. }), Found::NotRebuilt(_))
            | (Step::Report(_), Found::Reported(_))
    )
}

/// One of each that a step can find.
fn hand() -> impl Strategy<Value = Vec<Found>> {
    let settled = World::settled(Ca).secret.ours().unwrap().clone();
    let request = || prop_oneof![2 => Just(Ok(())), 1 => request_error_kind().prop_map(|kind| Err(error(kind)))];
    let issuer = || prop_oneof![2 => Just(Ok(())), 1 => issue_error().prop_map(Err)];
    (begun(), any::<bool>(), [request(), request(), request()], [issuer(), issuer()], issue_error(), [time(), time()], 0_u8..3)
        .prop_map(move |(world, yes, requests, issuers, refused, times, number)| {
            let [first, second, third] = requests;
            let [listed, checked] = issuers;
            let facts =
                certificate(number, Subject::for_user(if yes { USER } else { OTHER_USER }).unwrap(), times[0].min(at_most()));
            let facts = CertificateFacts { not_after: times[1], ..facts };
            let view = SecretView { certificate: Ok(facts.clone()), ..settled.clone() };
            let status = world.object.status.clone().unwrap_or_default();
            let claimed = ClaimedObject { claim: number.to_string(), metadata: world.object.metadata.clone(), status };
            let observed = observed(&world, yes.then(|| view.clone()));
            vec![
                Found::Begun,
                Found::Observed(first.clone().map(|()| Box::new(observed))),
                Found::Recalled((number > 0).then(|| Box::new(recalled(&facts, times[0], yes)))),
                Found::Turn(if yes { TurnFound::Given } else { TurnFound::Queued { paused_until: Some(times[0]) } }),
                Found::Listed(listed),
                Found::Tried(first.clone()),
                Found::UserChecked(checked),
                match second.clone() {
                    Ok(()) => Found::Claimed(Box::new(claimed)),
                    Err(error) => Found::NotClaimed(number.to_string(), error),
                },
                Found::Withdrawn,
                Found::Issued(Box::new(facts)),
                Found::NotIssued(refused.clone()),
                Found::SecretRead(second.map(|()| yes.then(|| "01".into()))),
                Found::ObjectRead(third.clone().map(|()| yes)),
                Found::Written(third.map(|()| Box::new(view))),
                Found::NotRebuilt(refused),
                Found::Reported(first),
            ]
        })
}

/// The world adds a lifetime to it.
fn at_most() -> Timestamp {
    Timestamp::MAX - SignedDuration::from_hours(200 * 24)
}

fn observed(world: &World, view: Option<SecretView>) -> Observed {
    let secret = view.map_or(world.secret.clone(), |view| SecretState::Ours(Box::new(view)));
    Observed {
        issuer: world.issuer.clone(),
        secret,
        status: world.object.status.clone().unwrap_or_default(),
        unreadable: world.object.metadata.generation.filter(|generation| *generation > 2).map(|_| "a fault".to_owned()),
        is_spec_unreadable: world.object.metadata.generation.is_some_and(|generation| generation > 3),
        memory: world.memory.clone(),
        user: None,
        held: BTreeSet::new(),
        process: None,
        released_by: None,
        namespace: "shop".into(),
        namespace_labels: BTreeMap::new(),
    }
}

fn recalled(facts: &CertificateFacts, asked_at: Timestamp, has_list: bool) -> RecalledUser {
    let listed = vec![ListedCertificate {
        serial_number: facts.serial_number.clone(),
        made_at: facts.not_before,
        not_after: facts.not_after,
    }];
    RecalledUser {
        certificates: UserCertificates { made: vec![asked_at; 3], ..UserCertificates::default() },
        list: has_list.then(|| RecalledList { listed, asked_at, accounted: [facts.serial_number.clone()].into() }),
    }
}

/// Mostly about the time of the objects, sometimes at the ends of all time.
fn time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        8 => (1_800_000_000_i64..1_820_000_000).prop_map(|second| Timestamp::from_second(second).unwrap()),
        1 => Just(Timestamp::MIN),
        1 => Just(Timestamp::MAX),
    ]
}

fn now() -> impl Strategy<Value = Now> {
    (time(), prop::bool::weighted(0.8)).prop_map(|(time, may_act)| Now { time, may_act })
}
