//! What a pass does when one step meets a fault: each fault that the step can meet, for each step.
//!
//! The tables are text files. Below each step stand the faults, and what the pass does after them. `as before` means as
//! without the fault: all of it, `as before up to` a step, or `as before from` a step on. If a table has changed, the test
//! prints the new one: read it, and put it in place of the old one if it is right.

use rstest::rstest;

use super::{situations::*, world::refusal, *};

/// So many equal steps are worth an `as before`.
const WORTH_LEAVING_OUT: usize = 3;

const ANSWERS: [(&str, RequestErrorKind); 6] = [
    ("unanswered", RequestErrorKind::Unanswered),
    ("409", RequestErrorKind::Conflict),
    ("404", RequestErrorKind::NotFound),
    ("terminating", RequestErrorKind::NamespaceTerminating),
    ("403", RequestErrorKind::Refused),
    ("500", RequestErrorKind::Failed),
];

const FIRST_ISSUE_AT_ATLAS: &str = include_str!("first_issue_at_atlas.txt");
const FIRST_ISSUE_BY_A_CA: &str = include_str!("first_issue_by_a_ca.txt");
const RENEWAL_AT_ATLAS: &str = include_str!("renewal_at_atlas.txt");
const REPAIR: &str = include_str!("repair_after_a_ca_was_renewed.txt");

#[test]
fn first_issue_at_atlas() {
    assert_table(&World::new(Atlas), FIRST_ISSUE_AT_ATLAS);
}

#[test]
fn first_issue_by_a_ca() {
    assert_table(&World::new(Ca), FIRST_ISSUE_BY_A_CA);
}

#[test]
fn renewal_at_atlas() {
    assert_table(&World::settled(Atlas).after(TWO_MONTHS), RENEWAL_AT_ATLAS);
}

#[test]
fn repair_after_a_ca_was_renewed() {
    assert_table(&World::settled(Ca).with(renew_ca), REPAIR);
}

/// Each scenario of `tests/chaos` meets its faults as one of these does. Only the cause is another, and whether the object is Ready meanwhile.
#[rstest]
#[case::forced_renewal_at_atlas(World::settled(Atlas).with(ask_for_renewal), RENEWAL_AT_ATLAS)]
#[case::spec_change_at_atlas(World::settled(Atlas).with(change_spec), RENEWAL_AT_ATLAS)]
#[case::issuer_change_at_atlas(World::settled(Atlas).with(change_issuer), RENEWAL_AT_ATLAS)]
#[case::secret_deleted_at_atlas(World::settled(Atlas).with(delete_secret), FIRST_ISSUE_AT_ATLAS)]
#[case::secret_corrupted_at_atlas(World::settled(Atlas).with(spoil_all_of_secret), RENEWAL_AT_ATLAS)]
#[case::renewal_by_a_ca(World::settled(Ca).after(TWO_MONTHS), FIRST_ISSUE_BY_A_CA)]
#[case::forced_renewal_by_a_ca(World::settled(Ca).with(ask_for_renewal), FIRST_ISSUE_BY_A_CA)]
#[case::spec_change_by_a_ca(World::settled(Ca).with(change_spec), FIRST_ISSUE_BY_A_CA)]
#[case::issuer_change_by_a_ca(World::settled(Ca).with(change_issuer), FIRST_ISSUE_BY_A_CA)]
#[case::secret_deleted_by_a_ca(World::settled(Ca).with(delete_secret), FIRST_ISSUE_BY_A_CA)]
#[case::secret_corrupted_by_a_ca(World::settled(Ca).with(spoil_all_of_secret), FIRST_ISSUE_BY_A_CA)]
#[case::secret_corrupted_in_tls_crt_only(World::settled(Ca).with(spoil_certificate_of_secret), REPAIR)]
fn the_other_scenarios_meet_faults_alike(#[case] world: World, #[case] expected: &str) {
    assert_eq!(without_causes(&table(&world)), without_causes(expected));
}

/// Only a chain that has changed can fail to verify, so that fault is left out.
fn without_causes(table: &str) -> String {
    let table: Vec<&str> = table.lines().filter(|line| !line.starts_with("    ChainBroken: ")).collect();
    let causes = ["NoCertificate", "RenewalDue", "RenewalRequested", "SubjectChanged", "IssuerChanged", "PairUnusable"];
    let text = causes.iter().fold(table.join("\n"), |text, cause| text.replace(cause, "cause"));
    text.replace("[not Ready, ", "[").replace("[Ready, ", "[")
}

fn assert_table(world: &World, expected: &str) {
    let table = table(world);
    assert!(table == expected, "the table is now:\n{table}");
}

fn table(world: &World) -> String {
    let mut healthy = world.clone();
    let moves = healthy.run();
    let all = steps(&moves, &healthy);
    let mut lines = Vec::new();
    for (number, Move { step, .. }) in moves.iter().enumerate() {
        let before = steps(&moves[number + 1..], &healthy);
        // Faults with the same consequence share a line.
        let mut consequences: Vec<(String, Vec<&str>)> = Vec::new();
        for (name, fault) in faults_of(step) {
            let mut world = world.clone();
            let moves = world.run_with(|other, _| (other == number).then(|| fault.clone()));
            let after = abridged(&steps(&moves[number + 1..], &world), &before, &all);
            match consequences.iter_mut().find(|(other, _)| *other == after) {
                Some((_, names)) => names.push(name),
                None => consequences.push((after, vec![name])),
            }
        }
        if !consequences.is_empty() {
            lines.push(text(step));
        }
        lines.extend(consequences.into_iter().map(|(after, names)| format!("    {}: {after}", names.join(", "))));
    }
    lines.join("\n") + "\n"
}

/// The steps after a fault. `before` are those that follow without it, `all` are all steps without it.
fn abridged(after: &[String], before: &[String], all: &[String]) -> String {
    let equal = |(one, other): &(&String, &String)| one == other;
    if after == before {
        return "as before".to_owned();
    }
    let at_end = after.iter().rev().zip(all.iter().rev()).take_while(equal).count();
    let at_start = after.iter().zip(before).take_while(equal).count();
    let mut row = after.to_vec();
    if at_end >= WORTH_LEAVING_OUT {
        let first = format!("as before from {}", after[after.len() - at_end]);
        row.splice(after.len() - at_end.., [first]);
    } else if at_start >= WORTH_LEAVING_OUT {
        let last = format!("as before up to {}", after[at_start - 1]);
        row.splice(..at_start, [last]);
    }
    row.join(" > ")
}

/// Each fault that the step can meet.
fn faults_of(step: &Step) -> Vec<(&'static str, Fault)> {
    let answers = || ANSWERS.map(|(name, kind)| (name, Fault::Answer(kind)));
    let refused = |reason| Fault::Issuer(IssueError { retry: Retry::Slowly, ..refusal(reason, Minted::No) });
    let rate_limited = || {
        let retry = Retry::NotBefore(SignedDuration::from_mins(10));
        ("AtlasRateLimited", Fault::Issuer(IssueError { retry, ..refusal(Reason::AtlasRateLimited, Minted::No) }))
    };
    let mut faults = Vec::new();
    match step {
        Step::Observe(_) | Step::TryWrite | Step::ReadSecret => faults.extend(answers()),
        Step::WriteClaim { .. } | Step::Report(_) => {
            faults.extend(answers());
            faults.push(("answer lost", Fault::AnswerLost));
        }
        Step::WriteSecret(write) => {
            faults.extend(answers());
            faults.push(("answer lost", Fault::AnswerLost));
            if let Write::Repaired { .. } = write {
                faults.push(("ChainBroken", refused(Reason::ChainBroken)));
            }
        }
        Step::ReadObject => {
            faults.extend(answers());
            faults.push(("object changed", Fault::ObjectChanged));
        }
        Step::TakeTurn { .. } | Step::MakeKey { .. } => faults.push(("not given", Fault::NoTurn)),
        Step::ListCertificates { .. } | Step::CheckUser { .. } => {
            faults.extend([("AtlasForbidden", refused(Reason::AtlasForbidden)), rate_limited()]);
        }
        Step::RequestCertificate { desired, .. } if matches!(desired.order, Order::Mint { .. }) => {
            faults.extend([
                ("AtlasForbidden", refused(Reason::AtlasForbidden)),
                ("AtlasAnswerLost", Fault::Issuer(refusal(Reason::AtlasAnswerLost, Minted::Possibly))),
                ("AtlasCertificateLimit", refused(Reason::AtlasCertificateLimit)),
                rate_limited(),
                ("stops leading before the bytes that mint", Fault::NoPermit),
            ]);
        }
        Step::RequestCertificate { .. } => faults.push(("SigningFailed", refused(Reason::SigningFailed))),
        Step::RecallUser { .. } | Step::WithdrawClaim => {}
        Step::End(_) => return faults,
    }
    if step == &Step::ReadSecret {
        faults.extend([
            ("Secret changed", Fault::SecretChanged),
            ("other certificate", Fault::CertificateChanged),
            ("Secret deleted", Fault::SecretDeleted),
        ]);
    }
    faults.push(("stops leading", Fault::StopsLeading));
    faults
}

/// A webhook may answer 409 and 404 for ever.
#[rstest]
#[case::try_write(
    World::new(Atlas),
    "try write",
    RequestErrorKind::Conflict,
    "observe > recall user > take turn for 2 > list certificates > recall user > try write > observe live > recall user \
     > try write > observe live > recall user > try write > report [not Ready, SecretNotWritable] > sleep 31 s"
)]
#[case::write_signed(
    World::new(Ca),
    "write signed",
    RequestErrorKind::NotFound,
    "observe > request certificate (NoCertificate) > read object > write signed > observe live \
     > request certificate (NoCertificate) > read object > write signed > observe live \
     > request certificate (NoCertificate) > read object > write signed > report [not Ready, SecretNotWritable] \
     > sleep 31 s"
)]
#[case::write_unsaved(
    World::new(Atlas),
    "write unsaved",
    RequestErrorKind::Conflict,
    "observe > recall user > take turn for 2 > list certificates > recall user > try write > check user > write claim \
     > request certificate (NoCertificate) > (count minted) > read object > write unsaved > observe live > read object \
     > write unsaved > observe live > read object > write unsaved > report [not Ready, SecretNotWritable] \
     > sleep 3 s (claim in status, certificate in memory)"
)]
#[case::write_repaired(
    World::settled(Ca).with(renew_ca),
    "write repaired",
    RequestErrorKind::Conflict,
    "observe > read Secret > read object > write repaired > observe live > read Secret > read object > write repaired \
     > observe live > read Secret > read object > write repaired > report [Ready, SecretNotWritable] > sleep 31 s"
)]
fn what_is_answered_after_three_looks_is_believed(
    #[case] mut world: World,
    #[case] name: &str,
    #[case] kind: RequestErrorKind,
    #[case] expected: &str,
) {
    let moves = world.run_with(|_, step| (step.to_string() == name).then_some(Fault::Answer(kind)));
    assert_eq!(steps(&moves, &world).join(" > "), expected);
}

/// Somebody replaces the certificate in the Secret each time before it is read.
#[test]
fn a_secret_with_another_certificate_at_each_look_is_left_to_the_next_pass() {
    let mut world = World::settled(Ca).with(renew_ca);
    let moves = world.run_with(|_, step| (*step == Step::ReadSecret).then_some(Fault::CertificateChanged));
    assert_eq!(
        steps(&moves, &world).join(" > "),
        "observe > read Secret > observe live > read Secret > observe live > read Secret > end: the object has changed"
    );
}
