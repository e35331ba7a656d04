//! Answers and command lines that are out of the ordinary: what is put off, lost or empty.

use super::*;

#[test]
fn an_empty_namespace_or_selector_never_changes_the_whole_cluster() {
    for verb in ["renew", "suspend", "resume"] {
        let (address, asked) = server(vec![certificate("orders", 10, &[])], nothing);
        let said = run(&address, &[verb, "--all", "-n", ""]);
        assert_eq!(said.code, Some(0), "the namespace of the context is meant: {said:?}");
        let is_of_context = |(_, path): &(String, String)| path == "/version" || path.starts_with(CERTIFICATES);
        assert!(asked.lock().unwrap().iter().all(is_of_context), "{asked:?}");

        let (address, asked) = server(vec![certificate("orders", 10, &[])], nothing);
        for wrong in [&["-l", ""][..], &["-l", "", "-A"], &["orders/status"], &[""], &["--all", "-n", "a/b"]] {
            let said = run(&address, &[&[verb], wrong].concat());
            assert_eq!((said.code, asked.lock().unwrap().len()), (Some(2), 0), "{verb} {wrong:?}: {said:?}");
        }
        let said = run(&address, &["-n", "shop", verb, "-A", "--all", "--yes"]);
        assert_eq!((said.code, asked.lock().unwrap().len()), (Some(2), 0), "{said:?}");
        assert!(said.errors.starts_with("error: -A is all namespaces and -n is one"), "{said:?}");
    }
}

#[test]
fn a_list_that_expires_between_two_pages_is_read_once_more_in_one_piece() {
    for is_whole_refused in [false, true] {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&asked);
        let address = serve(move |_, path, query| {
            let list = |items: &[Value], next: &str| json!({ "metadata": { "continue": next }, "items": items });
            let one = |name: &str| certificate(name, 80, &[]);
            let is_whole = !query.contains("limit=");
            let (status, body) = match path {
                CERTIFICATES if query.contains("continue=") || (is_whole && is_whole_refused) => (410, failure(410)),
                CERTIFICATES if is_whole => (200, list(&[one("orders"), one("bills")], "")),
                CERTIFICATES => (200, list(&[one("orders")], "next")),
                _ => (404, failure(404)),
            };
            if path == CERTIFICATES {
                told.lock().unwrap().push(query.to_owned());
            }
            Response { status, content_type: "application/json", body: body.to_string() }
        });
        let said = run(&address, &["status", "-o", "json"]);
        assert_eq!(asked.lock().unwrap().len(), 3, "{asked:?}");
        if is_whole_refused {
            assert_eq!(said.code, Some(3), "{said:?}");
        } else {
            let told: Value = serde_json::from_str(&said.text).unwrap();
            let named = told["certificates"].as_array().unwrap().iter().map(|found| found["name"].as_str().unwrap());
            assert_eq!(named.collect::<Vec<_>>(), ["bills", "orders"], "each of them once");
        }
    }
}

/// The API server answers so when it has too many requests: nothing was done.
#[test]
fn a_request_that_is_put_off_is_sent_again_within_its_time_and_no_refusal() {
    for (method, later, code) in [
        ("GET", "application/json\r\nretry-after: 1", 0),
        ("PATCH", "application/json\r\nretry-after: 1", 0),
        ("PATCH", "application/json\r\nretry-after: 60", 3),
    ] {
        let (before, certificates) = (AtomicUsize::new(0), [certificate("orders", 10, &[])]);
        let address = serve(move |asked, path, _| {
            let is_first = asked == method && before.fetch_add(1, Ordering::SeqCst) == 0;
            let (status, body) = if is_first { (429, failure(429)) } else { answer(path, &certificates) };
            Response { status, content_type: if is_first { later } else { "application/json" }, body: body.to_string() }
        });
        let said = run(&address, &["renew", "orders"]);
        assert_eq!(said.code, Some(code), "{method} {later}: {said:?}");
        let expected = if code == 0 { "orders   asked for" } else { "orders   not: could not change" };
        assert!(said.text.contains(expected), "what was put off was not done: {said:?}");
    }
}

/// A server that answers the first change with 504, after it has stored it or not, and then shows the object as `after`.
fn losing_server(certificates: Vec<Value>, after: Option<Value>) -> (String, Asked) {
    let lost = AtomicUsize::new(0);
    changing_server(certificates, move |method, path| match method {
        "PATCH" | "POST" => {
            lost.fetch_add(1, Ordering::SeqCst);
            Some((504, failure(504)))
        }
        _ if lost.load(Ordering::SeqCst) > 0 && path == format!("{CERTIFICATES}/orders") => match &after {
            Some(after) => Some((200, after.clone())),
            None => Some((500, failure(500))),
        },
        _ => None,
    })
}

#[test]
fn a_suspension_whose_answer_is_lost_is_told_as_it_is_found() {
    let certificates = || vec![certificate("orders", 10, &[]), certificate("other", 20, &[])];
    let mut suspended = certificate("orders", 10, &[]);
    suspended["spec"]["suspend"] = json!(true);
    for (after, result, code) in [
        (Some(suspended), "Changed", 0),
        (Some(certificate("orders", 10, &[("/metadata/uid", json!("another"))])), "Gone", 0),
        (Some(certificate("orders", 10, &[])), "Unknown", 3),
        (None, "Unknown", 3),
    ] {
        let (address, _) = losing_server(certificates(), after.clone());
        let said = run(&address, &["suspend", "orders", "-o", "json"]);
        let told: Value = serde_json::from_str(&said.text).unwrap();
        assert_eq!((said.code, &told["certificates"][0]["result"]), (Some(code), &json!(result)), "{said:?}");
    }
    let (address, asked) = losing_server(certificates(), None);
    let said = run(&address, &["suspend", "--all"]);
    assert!(said.text.contains("shop/orders is not known to be suspended, so repeat the command: could not"), "{said:?}");
    assert!(said.text.contains("shop/other was not tried to be suspended") && patched(&asked).len() == 1, "{said:?}");
}

#[test]
fn a_creation_whose_answer_is_lost_is_told_as_it_is_found() {
    let create = ["create", "orders", "--username", "orders", "--issuer", "atlas"];
    let another = certificate("orders", 10, &[("/spec/username", json!("bills"))]);
    let mut suspended = certificate("orders", 10, &[]);
    suspended["spec"]["suspend"] = json!(true);
    let mut deleted = certificate("orders", 10, &[]);
    deleted["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    for (after, code, expected) in [
        (Some(certificate("orders", 10, &[])), 0, "shop/orders created"),
        (Some(another), 3, "nothing was created, for there is another DatabaseUserCertificate orders"),
        (Some(suspended), 3, "nothing was created, for there is another DatabaseUserCertificate orders"),
        // This one may have been there before.
        (Some(deleted), 3, "whether the DatabaseUserCertificate orders was created is not known"),
        (
            None,
            3,
            "whether the DatabaseUserCertificate orders was created is not known: look with kubectl usercert status orders -n shop; if it is not there, repeat the command",
        ),
    ] {
        let (address, _) = losing_server(Vec::new(), after);
        let said = run(&address, &create);
        assert!(said.code == Some(code) && (said.text.clone() + &said.errors).contains(expected), "{said:?}");
    }
}

#[test]
fn what_was_done_is_told_before_what_could_not_be_done_after_it() {
    let created = certificate("orders", 10, &[]);
    let answer = move |method: &str, path: &str| match method {
        "POST" => Some((201, created.clone())),
        _ => path.ends_with("/orders").then(|| (403, failure(403))),
    };
    let (address, _) = changing_server(Vec::new(), answer);
    let said = run(&address, &["create", "orders", "--username", "orders", "--issuer", "atlas", "--wait"]);
    assert_eq!(said.code, Some(3), "{said:?}");
    assert!(said.errors.starts_with("error: shop/orders is created; but after that: could not read"), "{said:?}");
}

#[test]
fn a_message_of_any_length_hides_no_value_that_continues_a_run() {
    let is_asked = AtomicUsize::new(0);
    let mut long = failure(504);
    long["message"] = json!("no ".repeat(1000));
    let answer = move |method: &str, path: &str| match method {
        "PATCH" => {
            is_asked.fetch_add(1, Ordering::SeqCst);
            Some((504, long.clone()))
        }
        _ => (path.ends_with("/orders") && is_asked.load(Ordering::SeqCst) > 0).then(|| (500, failure(500))),
    };
    let (address, _) = changing_server(vec![certificate("orders", 10, &[])], answer);
    let said = run(&address, &["renew", "orders", "--continue", RUN]);
    assert!(said.text.contains(&format!("not known: repeat the command with --continue {RUN}, ")), "{said:?}");
}
