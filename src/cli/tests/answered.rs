//! The program itself with an API server on loopback, which answers as each test says.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "answered/fields.rs"]
mod fields;
#[path = "answered/odd.rs"]
mod odd;
mod server;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use self::server::{Response, WITH_TOKEN, kubeconfig, program, serve};

const CERTIFICATES: &str = "/apis/usercert.dev/v1alpha1/namespaces/shop/databaseusercertificates";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/usercert-system/leases/usercert-operator";

/// The value of a run of `renew`, and the annotation that has it.
const RUN: &str = "2026-01-01T00:00:00Z";
const REQUEST: &str = "usercert.dev/renew-requested-at";

/// What the server was asked: method and path.
type Asked = Arc<Mutex<Vec<(String, String)>>>;

/// A server that lists these certificates, and answers `refused` with a status of its own.
fn server(certificates: Vec<Value>, refused: fn(&str, &str) -> Option<u16>) -> (String, Asked) {
    changing_server(certificates, move |method, path| refused(method, path).map(|status| (status, failure(status))))
}

/// The same, where each request may have an answer of its own: a status and a body.
fn changing_server(
    certificates: Vec<Value>,
    own: impl Fn(&str, &str) -> Option<(u16, Value)> + Send + 'static,
) -> (String, Asked) {
    let asked = Asked::default();
    let told = Arc::clone(&asked);
    let address = serve(move |method, path, _| {
        told.lock().unwrap().push((method.to_owned(), path.to_owned()));
        let (status, body) = own(method, path).unwrap_or_else(|| answer(path, &certificates));
        Response { status, content_type: "application/json", body: body.to_string() }
    });
    (address, asked)
}

fn answer(path: &str, certificates: &[Value]) -> (u16, Value) {
    let name = path.strip_prefix(CERTIFICATES).and_then(|rest| rest.strip_prefix('/'));
    match name.and_then(|name| certificates.iter().find(|found| found["metadata"]["name"] == name)) {
        Some(found) => (200, found.clone()),
        None if path == CERTIFICATES => (
            200,
            json!({ "apiVersion": "usercert.dev/v1alpha1", "kind": "DatabaseUserCertificateList", "metadata": {}, "items": certificates }),
        ),
        None => (404, failure(404)),
    }
}

fn failure(status: u16) -> Value {
    let reason = if status == 404 { "NotFound" } else { "Forbidden" };
    json!({ "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": status, "message": "not here", "reason": reason })
}

fn nothing(_: &str, _: &str) -> Option<u16> {
    None
}

/// What the program said, and its exit code.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    text: String,
    errors: String,
}

fn run(address: &str, arguments: &[&str]) -> Said {
    let folder = tempfile::tempdir().unwrap();
    let config = kubeconfig(folder.path(), address, "", WITH_TOKEN);
    let said = program().args(["--kubeconfig", config.to_str().unwrap()]).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: said.status.code(), text: text(&said.stdout), errors: text(&said.stderr) }
}

fn in_hours(hours: i64) -> String {
    (Timestamp::now() + SignedDuration::from_hours(hours)).round(jiff::Unit::Second).unwrap().to_string()
}

/// A certificate that works, of which `changes` are parts.
fn certificate(name: &str, days_left: i64, changes: &[(&str, Value)]) -> Value {
    let mut object = json!({
        "apiVersion": "usercert.dev/v1alpha1", "kind": "DatabaseUserCertificate",
        "metadata": {
            "namespace": "shop", "name": name, "uid": name, "resourceVersion": "1", "generation": 1,
            "creationTimestamp": "2025-01-01T00:00:00Z", "annotations": {},
        },
        "spec": { "username": name, "issuerRef": { "kind": "CertificateIssuer", "name": "atlas" } },
        "status": {
            "observedGeneration": 1, "serialNumber": format!("0A{days_left}"),
            "notBefore": in_hours(-24), "notAfter": in_hours(24 * days_left), "renewalTime": in_hours(12 * days_left),
            "conditions": [
                { "type": "Ready", "status": "True", "reason": "Issued", "message": "it works", "lastTransitionTime": "2025-01-01T00:00:00Z" },
                { "type": "Issuing", "status": "False", "reason": "Issued", "message": "nothing to do", "lastTransitionTime": "2025-01-01T00:00:00Z" },
            ],
        },
    });
    for (path, value) in changes {
        *object.pointer_mut(path).unwrap() = value.clone();
    }
    object
}

fn asked_for(name: &str, days_left: i64) -> Value {
    certificate(name, days_left, &[("/metadata/annotations", json!({ REQUEST: RUN }))])
}

/// One that was asked for by the run an hour ago, and of which the last failure is as old as this.
fn failing(name: &str, days_left: i64, hours_ago: i64) -> Value {
    let mut object = asked_for(name, days_left);
    object["metadata"]["managedFields"] = json!([{
        "manager": "kubectl-usercert", "operation": "Update", "apiVersion": "usercert.dev/v1alpha1", "time": in_hours(-1),
        "fieldsType": "FieldsV1", "fieldsV1": { "f:metadata": { "f:annotations": { ".": {}, format!("f:{REQUEST}"): {} } } },
    }]);
    object["status"]["failure"] = json!({
        "count": 1, "reason": "AtlasUnavailable", "message": "no", "inputs": "",
        "lastTime": in_hours(-hours_ago), "nextAttempt": in_hours(1),
    });
    object
}

fn handled(name: &str, days_left: i64) -> Value {
    let mut object = asked_for(name, days_left);
    object["status"]["renewRequestHandled"] = json!(RUN);
    object
}

fn patched(asked: &Asked) -> Vec<String> {
    let asked = asked.lock().unwrap();
    asked.iter().filter(|(method, _)| method == "PATCH").map(|(_, path)| path.clone()).collect()
}

#[test]
fn a_run_that_is_continued_and_stopped_by_failures_tells_what_it_has_renewed() {
    let refuses = |method: &str, _: &str| (method == "PATCH").then_some(403);
    let mut certificates: Vec<Value> = (1..=6).map(|day| certificate(&format!("open-{day}"), day, &[])).collect();
    certificates.extend((20..=22).map(|day| handled(&format!("renewed-{day}"), day)));
    certificates.push(asked_for("asked-for", 30));
    let (address, asked) = server(certificates, refuses);
    let said = run(&address, &["renew", "--all", "--continue", RUN, "--at-most", "40/min"]);
    assert_eq!(said.code, Some(3), "{said:?}");
    for day in 20..=22 {
        assert!(said.text.contains(&format!("renewed-{day}   renewed: certificate 0A{day}")), "{}", said.text);
    }
    assert!(said.text.contains("asked-for    asked for\n"), "{}", said.text);
    assert!(said.text.contains("open-6       not: not asked for, because 5 in a row failed"), "{}", said.text);
    assert!(said.errors.contains(&format!("--continue {RUN}")), "it can be continued again: {}", said.errors);
    assert_eq!(patched(&asked).len(), 5);
}

#[test]
fn a_run_that_failures_have_stopped_goes_on_when_it_is_continued() {
    let mut certificates: Vec<Value> = (1..=5).map(|day| failing(&format!("failing-{day}"), day, 0)).collect();
    // In the second of the request.
    certificates[0]["status"]["failure"]["lastTime"] = certificates[0]["metadata"]["managedFields"][0]["time"].clone();
    certificates.push(certificate("open", 10, &[]));
    let (address, asked) = server(certificates, nothing);
    let said = run(&address, &["renew", "--all", "--continue", RUN]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.text.contains("failing-1   not: AtlasUnavailable: no"), "{}", said.text);
    assert!(said.text.contains("open        asked for\n"), "{}", said.text);
    assert_eq!(patched(&asked), [format!("{CERTIFICATES}/open")]);
}

#[test]
fn an_object_that_is_deleted_meanwhile_is_left_out_and_no_refusal() {
    let another = certificate("gone", 10, &[("/metadata/uid", json!("another"))]);
    for (method, found) in [("GET", (404, failure(404))), ("PATCH", (404, failure(404))), ("GET", (200, another))] {
        let gone = format!("{CERTIFICATES}/gone");
        let answer = move |asked: &str, path: &str| (asked == method && path == gone).then(|| found.clone());
        let (address, _) = changing_server(vec![certificate("gone", 10, &[]), certificate("orders", 20, &[])], answer);
        let said = run(&address, &["renew", "--all", "--at-most", "40/min"]);
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.text.contains("gone     not: the object was deleted"), "{}", said.text);
        assert!(said.text.contains("orders   asked for"), "{}", said.text);
    }
    let (address, asked) = server(vec![certificate("gone", 10, &[]), certificate("orders", 20, &[])], |method, path| {
        (method == "PATCH" && path.ends_with("/gone")).then_some(404)
    });
    let said = run(&address, &["suspend", "--all"]);
    assert_eq!((said.code, patched(&asked).len()), (Some(0), 2), "{said:?}");
    assert!(said.text.contains("shop/gone was deleted, and is not suspended\nshop/orders is now suspended"), "{}", said.text);
}

#[test]
fn what_was_renewed_asked_for_or_suspended_since_the_list_is_not_asked_for_once_more() {
    let renewed = certificate("orders", 10, &[("/status/serialNumber", json!("0B"))]);
    let mut suspended = certificate("orders", 10, &[]);
    suspended["spec"]["suspend"] = json!(true);
    let cases = [
        (renewed, "orders   renewed: certificate 0B"),
        (asked_for("orders", 10), "orders   not: a renewal was asked for at 2026-01-01T00:00:00Z and is not carried out yet"),
        (suspended, "orders   not: the object is suspended"),
    ];
    for (now, expected) in cases {
        let path = format!("{CERTIFICATES}/orders");
        let answer = move |_: &str, asked: &str| (asked == path).then(|| (200, now.clone()));
        let (address, asked) = changing_server(vec![certificate("orders", 10, &[])], answer);
        let said = run(&address, &["renew", "--all"]);
        assert!(said.text.contains(expected), "{said:?}");
        assert_eq!(patched(&asked), Vec::<String>::new());
    }
}

#[test]
fn a_request_that_meets_another_change_or_loses_its_answer_is_made_again_only_if_it_was_not_stored() {
    for (status, is_stored, patches) in [(409, false, 2), (504, false, 2), (504, true, 1)] {
        let (path, before) = (format!("{CERTIFICATES}/orders"), AtomicUsize::new(0));
        let answer = move |method: &str, asked: &str| match method {
            "PATCH" if before.fetch_add(1, Ordering::SeqCst) == 0 => Some((status, failure(status))),
            "GET" if asked == path && is_stored && before.load(Ordering::SeqCst) > 0 => Some((200, asked_for("orders", 10))),
            _ => None,
        };
        let (address, asked) = changing_server(vec![certificate("orders", 10, &[])], answer);
        let said = run(&address, &["renew", "--all", "--continue", RUN]);
        assert_eq!(said.code, Some(0), "{status}: {said:?}");
        assert!(said.text.contains("orders   asked for"), "{}", said.text);
        assert_eq!(patched(&asked).len(), patches, "{status}, stored: {is_stored}");
    }
}

#[test]
fn a_request_of_which_nobody_knows_whether_it_was_stored_can_be_repeated() {
    let is_asked = AtomicUsize::new(0);
    let answer = move |method: &str, path: &str| match method {
        "PATCH" => {
            is_asked.fetch_add(1, Ordering::SeqCst);
            Some((504, failure(504)))
        }
        "GET" if path.ends_with("/orders") && is_asked.load(Ordering::SeqCst) > 0 => Some((500, failure(500))),
        _ => None,
    };
    let (address, asked) = changing_server(vec![certificate("orders", 10, &[])], answer);
    let said = run(&address, &["renew", "orders", "-o", "json"]);
    let told: Value = serde_json::from_str(&said.text).unwrap();
    let value = told["value"].as_str().unwrap();
    let message = told["certificates"][0]["message"].as_str().unwrap();
    assert_eq!((said.code, &told["certificates"][0]["result"]), (Some(3), &json!("Unknown")));
    assert!(message.starts_with(&format!("not known: repeat the command with --continue {value},")), "{message}");
    assert_eq!(patched(&asked).len(), 1);
}

#[test]
fn an_api_server_that_does_not_tell_its_version_is_checked_all_the_same() {
    let (address, asked) = server(Vec::new(), |_, path| (path == "/version").then_some(403));
    let said = run(&address, &["check"]);
    assert!(said.text.contains("ok      API server: answers, and does not tell you its version"), "{said:?}");
    assert!(asked.lock().unwrap().len() > 5, "the other checks are made");
}

#[test]
fn a_clock_that_is_wrong_is_told_below_certificates() {
    let renewed = json!({
        "metadata": { "managedFields": [{
            "manager": "usercert-operator", "operation": "Update", "time": in_hours(0), "fieldsType": "FieldsV1",
            "fieldsV1": { "f:spec": { "f:renewTime": {} } },
        }] },
        "spec": { "holderIdentity": "pod_1", "renewTime": in_hours(2).replace('Z', ".000000Z") },
    });
    let answer = move |_: &str, path: &str| (path == LEASE).then(|| (200, renewed.clone()));
    let (address, _) = changing_server(vec![certificate("orders", 80, &[])], answer);
    for verb in ["status", "plan"] {
        let said = run(&address, &[verb]);
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.text.contains("\nClocks\n  the operator's clock is 2h ahead of the API server's"), "{}", said.text);
        let told: Value = serde_json::from_str(&run(&address, &[verb, "-o", "json"]).text).unwrap();
        assert_eq!(told["clocks"][0], "the operator's clock is 2h ahead of the API server's");
    }
}

#[test]
fn a_failure_from_before_the_request_is_no_answer_to_it_when_a_run_is_continued() {
    for is_known in [true, false] {
        let mut certificates: Vec<Value> = (1..=5).map(|day| failing(&format!("failed-{day}"), day, 48)).collect();
        if !is_known {
            for found in &mut certificates {
                found["metadata"]["managedFields"] = Value::Null;
            }
        }
        certificates.extend([certificate("open-1", 10, &[]), certificate("open-2", 11, &[])]);
        let (address, asked) = server(certificates, nothing);
        let said = run(&address, &["renew", "--all", "--continue", RUN, "--at-most", "40/min"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        let open = ["open-1", "open-2"].map(|name| format!("{CERTIFICATES}/{name}"));
        assert_eq!(patched(&asked), open, "when the request was made is known: {is_known}");
    }
}

#[test]
fn a_renewal_that_the_api_server_refuses_is_a_change_that_could_not_be_made() {
    let refuses = |method: &str, _: &str| (method == "PATCH").then_some(403);
    let (address, _) = server(vec![certificate("orders", 10, &[]), handled("bills", 20)], refuses);
    for arguments in [&["orders"][..], &["orders", "--dry-run"], &["--all", "--continue", RUN], &["orders", "-o", "json"]] {
        let said = run(&address, &[&["renew"], arguments].concat());
        assert_eq!(said.code, Some(3), "{arguments:?}: {said:?}");
        assert!(said.text.contains("could not change the certificate shop/orders"), "{said:?}");
    }
    let said = run(&address, &["renew", "orders", "-o", "json"]);
    let told: Value = serde_json::from_str(&said.text).unwrap();
    assert_eq!(told["certificates"][0]["result"], "Refused");
    assert_eq!(run(&address, &["suspend", "orders"]).code, Some(3), "the other verb that changes says the same");
}

#[test]
fn a_suspension_under_which_a_certificate_expires_needs_attention() {
    // As the operator leaves it: without a renewal time.
    let suspended = |name: &str, hours_ago: i64, days_left: i64| {
        let issuing = json!({ "type": "Issuing", "status": "False", "reason": "Suspended", "message": "m", "lastTransitionTime": "2025-01-01T00:00:00Z" });
        let changes = [
            ("/status/renewalTime", Value::Null),
            ("/status/notBefore", json!(in_hours(-hours_ago))),
            ("/status/conditions/1", issuing),
        ];
        let mut object = certificate(name, days_left, &changes);
        object["spec"]["suspend"] = json!(true);
        object
    };
    let (address, _) = server(vec![suspended("late", 24 * 80, 1), suspended("early", 24, 80)], nothing);
    let said = run(&address, &["status", "--failing"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.text.contains("late   Renewal late   in 2"), "{}", said.text);
    assert!(said.text.contains("kubectl usercert resume late -n shop") && !said.text.contains("early"), "{}", said.text);
    assert_eq!(run(&address, &["status", "early"]).code, Some(0));
}

#[test]
fn a_certificate_that_was_never_issued_is_missing_in_no_plan() {
    let mut never = certificate("never", 80, &[]);
    never["status"] = json!({ "observedGeneration": 1, "conditions": [
        { "type": "Ready", "status": "False", "reason": "AtlasUserNotFound", "message": "m", "lastTransitionTime": "2025-01-01T00:00:00Z" },
        { "type": "Issuing", "status": "False", "reason": "AtlasUserNotFound", "message": "m", "lastTransitionTime": "2025-01-01T00:00:00Z" },
    ] });
    let (address, _) = server(vec![never, certificate("good", 80, &[])], nothing);
    let said = run(&address, &["plan"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.text.contains("shop/never: it has no certificate: kubectl usercert why never -n shop"), "{}", said.text);
    let told: Value = serde_json::from_str(&run(&address, &["plan", "-o", "json"]).text).unwrap();
    assert_eq!(told["withoutRenewal"], json!([{ "namespace": "shop", "name": "never", "why": "it has no certificate" }]));
}

#[test]
fn an_operator_whose_lease_is_not_found_is_told_below_certificates_that_work() {
    let (address, _) = server(vec![certificate("orders", 80, &[])], nothing);
    for verb in ["status", "plan"] {
        let said = run(&address, &[verb]);
        assert_eq!(said.code, Some(0), "where the operator is, is not known: {said:?}");
        assert!(said.text.contains("there is no Lease usercert-operator in the namespace usercert-system"), "{}", said.text);
        assert!(said.text.contains("--operator-namespace") && said.text.contains("--lease-name"), "{}", said.text);
    }
    let denies = |_: &str, path: &str| (path == LEASE).then_some(403);
    let (address, _) = server(vec![certificate("orders", 80, &[])], denies);
    for verb in ["status", "plan"] {
        let said = run(&address, &[verb]);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(!said.text.contains("Lease"), "whoever may not look is told nothing: {}", said.text);
    }
}
