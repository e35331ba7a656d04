//! What is told by who leads or not, and before all lists have come.

use super::*;

#[test]
fn of_two_replicas_only_the_one_that_leads_tells_of_objects() {
    let (leadership, teller) = Leadership::standing_by();
    let (metrics, scope) = telling(CertificateSeries::Each, leadership, vec![troubled("orders")]);
    let told = || {
        let text = metrics.encode().unwrap();
        let of_objects = [
            "usercert_certificate_ready{",
            "usercert_issuer_ready{",
            "usercert_rollout_workloads{",
            "usercert_atlas_rate_limit_remaining{",
        ];
        (series(&metrics, "usercert_leading ")[0].clone(), of_objects.map(|series| text.contains(series)))
    };
    assert_eq!(told(), ("usercert_leading 0".to_owned(), [false; 4]));
    teller.renewed("a", Instant::now(), Timestamp::now());
    assert_eq!(told(), ("usercert_leading 1".to_owned(), [true; 4]));
    teller.is_with("b");
    assert_eq!(told(), ("usercert_leading 0".to_owned(), [false; 4]));
    assert_eq!(series(&metrics, "usercert_certificates_unsaved"), ["usercert_certificates_unsaved 1"], "no other has it");
    drop(scope);
    assert_eq!(
        series(&metrics, "usercert_certificates_unsaved"),
        ["usercert_certificates_unsaved 0"],
        "its controllers have ended"
    );
}

#[test]
fn who_stands_by_or_has_no_lists_yet_tells_no_totals_not_even_zero() {
    let totals = |metrics: &Metrics| {
        [series(metrics, "usercert_certificates{"), series(metrics, "usercert_rollouts_")].map(|told| told.len())
    };
    let of = |leadership, certificates| {
        let (metrics, _scope) = telling(CertificateSeries::Totals, leadership, certificates);
        totals(&metrics)
    };
    assert_eq!(of(Leadership::standing_by().0, vec![good("a")]), [0, 0]);
    assert_eq!(of(Leadership::alone(None), vec![good("a")]), [3, 2], "no deadline");
    assert_eq!(of(Leadership::alone(None), Vec::new()), [0, 2], "none is known to be there");

    let (metrics, readiness) = waiting_for(2, Leadership::alone(None), CertificateSeries::Totals);
    let scopes = ["a", "b"].map(|name| -> Arc<dyn Inventory> { Arc::new(Scope(vec![good(name)])) });
    for scope in &scopes {
        metrics.tell_of(Arc::downgrade(scope));
    }
    for lists_of in ["none", "one"] {
        assert_eq!(totals(&metrics), [0, 0], "{lists_of} of two scopes: what the other has would be taken for mended");
        assert_eq!(series(&metrics, "usercert_working"), ["usercert_working 0"]);
        readiness.set_ready();
    }
    assert_eq!(totals(&metrics), [3, 2]);
}

#[test]
fn a_process_works_once_it_leads_and_its_lists_have_come() {
    let (leadership, teller) = Leadership::standing_by();
    let (metrics, readiness) = waiting_for(1, leadership, CertificateSeries::Each);
    let told = || [series(&metrics, "usercert_leading "), series(&metrics, "usercert_working ")].concat();
    assert_eq!(told(), ["usercert_leading 0", "usercert_working 0"]);
    teller.renewed("a", Instant::now(), Timestamp::now());
    assert_eq!(told(), ["usercert_leading 1", "usercert_working 0"]);
    readiness.set_ready();
    assert_eq!(told(), ["usercert_leading 1", "usercert_working 1"]);
    teller.is_with("b");
    assert_eq!(told(), ["usercert_leading 0", "usercert_working 0"]);
}
