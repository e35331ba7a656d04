//! What a tenant may try against others, each attempt beside a neighbour that has to be served meanwhile.
//!
//! The API server, the chart's RBAC and its admission policy are real; a tenant is a user with the built-in role `admin` in one namespace and
//! nothing else, impersonated. `cargo test --test tenancy` (or `make tenancy`) ends with a table: what was tried, what the tenant got, and how
//! long a neighbour's new certificate took meanwhile. `cargo test --test tenancy -- NAME` runs the tests whose names contain NAME.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
#![allow(clippy::default_trait_access, reason = "the parameters of requests are of no interest here")]

#[path = "../harness/mod.rs"]
mod harness;

#[path = "../cases/authority.rs"]
#[allow(dead_code, reason = "the cases need more")]
mod authority;

mod adoption;
mod constraints;
mod endpoints;
mod own_endpoint;
mod patterns;
mod projects;
mod references;
mod rights;
mod shares;
mod stage;
mod subjects;
mod unreadable;
mod upgrade;
mod workloads;

use std::{future::Future, pin::Pin, process::ExitCode, sync::LazyLock, time::Instant};

use harness::{Cluster, Options};
use usercert_test_support::atlas::DigestAlgorithm;

use crate::stage::Stage;

static CLUSTER: LazyLock<Cluster> =
    LazyLock::new(|| harness::start(&Options { digest: DigestAlgorithm::Md5, namespaces: &[] }));

type Test = fn(&'static Stage) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// A test by the name of its function.
macro_rules! test {
    ($name:path) => {
        (stringify!($name), (|stage| Box::pin($name(stage))) as Test)
    };
}

/// One test for each kind of attempt, in the order in which they run.
const TESTS: &[(&str, Test)] = &[
    test!(subjects::the_signed_subject_is_what_is_allowed),
    test!(subjects::members_of_the_database_are_signed_for_nobody),
    test!(patterns::no_name_belongs_to_two_namespaces),
    test!(patterns::the_definition_and_the_operator_refuse_the_same_lists),
    test!(patterns::a_stored_list_that_is_ambiguous_makes_the_issuer_say_so),
    test!(unreadable::managed_fields_do_not_matter),
    test!(unreadable::a_status_that_cannot_be_read_is_kept_and_nothing_is_minted_for_it),
    test!(unreadable::a_spec_of_another_version_of_the_schema_concerns_its_object_alone),
    test!(references::a_forged_user_leads_to_nothing_of_another_namespace),
    test!(adoption::no_secret_of_another_is_adopted_overwritten_or_deleted),
    test!(adoption::no_secret_of_another_is_taken_for_a_retained_one),
    test!(rights::the_operators_account_writes_only_secrets_of_its_own),
    test!(workloads::the_operators_account_changes_one_annotation_of_a_workload),
    test!(workloads::the_policy_lets_the_operator_move_workloads_of_every_form),
    test!(endpoints::a_namespaced_issuer_sends_nothing_to_a_place_that_is_not_allowed),
    test!(projects::a_list_of_ones_own_says_nothing_about_the_user_of_another),
    test!(projects::a_lost_answer_of_ones_own_has_nothing_of_another_forgotten),
    test!(projects::a_refused_list_of_ones_own_blinds_nobody),
    test!(projects::credentials_that_atlas_has_not_accepted_hold_up_nobody),
    test!(shares::a_slow_endpoint_holds_up_nobody_else),
    test!(shares::an_implausible_list_mints_nothing_and_says_so),
    test!(shares::five_forced_renewals_an_hour_are_made_and_the_others_wait_visibly),
    test!(shares::keys_that_take_long_hold_up_nobody_else),
    test!(constraints::what_the_name_constraints_of_the_ca_do_not_permit_is_not_signed),
    test!(upgrade::what_works_stays_in_service_and_what_is_refused_now_says_so_once),
    test!(upgrade::chains_that_do_not_verify_are_rebuilt_and_no_other_secret_is_written),
    test!(projects::in_namespaced_mode_a_certificate_of_one_namespace_is_known_in_the_other),
    test!(rights::in_namespaced_mode_the_policy_lets_everything_work_that_should),
];

#[tokio::main]
async fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let stage: &'static Stage = Box::leak(Box::new(Stage::set(&CLUSTER).await));
    let (mut passed, mut failed) = (0, 0);
    for (name, test) in TESTS.iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|part| name.contains(part))) {
        let started = Instant::now();
        let result = tokio::spawn(test(stage)).await;
        let word = if result.is_ok() { "ok" } else { "FAILED" };
        println!("test {name} ... {word} ({} s)", started.elapsed().as_secs());
        if result.is_ok() { passed += 1 } else { failed += 1 }
    }
    stage.print_table();
    println!("{passed} passed, {failed} failed");
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
