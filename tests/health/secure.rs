//! Metrics by HTTPS, and clients that do not behave.

use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::io::AsyncReadExt;
use usercert_test_support::fault_proxy::{Fault, Moment};

use crate::{
    CLUSTER, Program,
    harness::{self, Shop, eventually, openssl},
    message,
};

fn https() -> reqwest::Client {
    reqwest::Client::builder().tls_danger_accept_invalid_certs(true).build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_by_https_are_for_those_whom_the_api_server_lets_get_them() {
    let shop = Shop::open(&CLUSTER, "scraped").await;
    let program = Program::start(&shop, &["--metrics-secure"]).await;
    let (with, without) = (shop.account("with").await, shop.account("without").await);
    shop.let_read_metrics("with").await;
    let client = https();
    let ask = async |authorization: Option<&str>| {
        let request = client.get(format!("{}/metrics", program.https));
        let request = authorization.iter().fold(request, |request, value| request.header("Authorization", *value));
        let answer = request.send().await.unwrap();
        let challenge = answer.headers().get("WWW-Authenticate").map(|value| value.to_str().unwrap().to_owned());
        (answer.status().as_u16(), challenge, answer.text().await.unwrap())
    };
    // The authorizer of the API server learns of the binding by a watch.
    eventually("who has the right is let in", || async {
        let (code, _, body) = ask(Some(&format!("Bearer {with}"))).await;
        (code == 200 && body.contains("usercert_leading 1")).then_some(())
    })
    .await;
    let unknown = (401, Some("Bearer".to_owned()), "a token of this cluster is needed\n".to_owned());
    for refused in [None, Some("Bearer wrong"), Some("Basic YTpi"), Some("Bearer "), Some(with.as_str())] {
        assert_eq!(ask(refused).await, unknown, "{refused:?}");
    }
    let forged = format!("Bearer {}AAAA", &with[..with.len() - 4]);
    assert_eq!(ask(Some(&forged)).await, unknown, "another signature");
    let user = format!("system:serviceaccount:{}:without", shop.namespace);
    let forbidden = (403, None, format!("{user} has no right to get /metrics\n"));
    assert_eq!(ask(Some(&format!("Bearer {without}"))).await, forbidden);

    // A scraper costs no review each time.
    let reviews = || {
        let audit = shop.cluster.control_plane.audit().unwrap();
        audit.iter().filter(|event| event.user == harness::OPERATOR && event.resource.ends_with("reviews")).count()
    };
    let before = reviews();
    for _ in 0..20 {
        assert_eq!(ask(Some(&format!("Bearer {with}"))).await.0, 200);
        assert_eq!(ask(Some(&format!("Bearer {without}"))).await.0, 403);
    }
    assert!(reviews() <= before + 4, "{} reviews for 40 scrapes", reviews() - before);
    // Other paths and the open port have no metrics.
    assert_eq!(client.get(format!("{}/debug/log-level", program.https)).send().await.unwrap().status(), 401);
    assert_eq!(program.get("metrics").await.unwrap().0, 404);
    assert_eq!(program.get("livez").await.unwrap().0, 200);
    let log = std::fs::read_to_string(&program.log).unwrap();
    assert!(!log.contains(&with) && !log.contains(&without), "a token is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_sees_the_metrics_while_the_api_server_does_not_say_who_asks() {
    let shop = Shop::open(&CLUSTER, "unreviewed").await;
    let (proxy, kubeconfig) = shop.proxied().await;
    let program = Program::start_with(&shop, &kubeconfig, &["--metrics-secure"]);
    let (with, without) = (shop.account("with").await, shop.account("without").await);
    shop.let_read_metrics("with").await;
    let client = https();
    let ask = async |token: &str| {
        let request = client.get(format!("{}/metrics", program.https)).bearer_auth(token);
        let answer = request.send().await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.unwrap()))
    };
    let is_let_in = async || ask(&with).await.is_some_and(|(code, _)| code == 200);
    // The authorizer of the API server learns of the binding by a watch.
    eventually("who has the right is let in", || async { is_let_in().await.then_some(()) }).await;
    let unknown = (503, "it cannot be found out now who asks: see the operator's log\n".to_owned());
    for (asked_for, fault) in [
        ("/tokenreviews", Fault::Refuse(Moment::Before, 403)),
        ("/tokenreviews", Fault::Cut(Moment::Before)),
        ("/subjectaccessreviews", Fault::Refuse(Moment::Before, 403)),
    ] {
        let planned = fault.clone();
        proxy.plan(move |asked| asked.target.contains(asked_for).then(|| planned.clone()));
        assert_eq!(ask(&without).await.unwrap(), unknown, "{asked_for} {fault:?}");
    }
    assert!(program.lines().iter().any(|line| message(line).contains("the right to create tokenreviews")));

    // Few are reviewed at once, and who was let in is not kept waiting for them.
    proxy.plan(|asked| asked.target.contains("/tokenreviews").then(|| Fault::Delay(Moment::Before, Duration::from_secs(10))));
    let tokens: Vec<String> = (0..12).map(|number| format!("made-up-{number}")).collect();
    let (mut codes, scraper) =
        tokio::join!(join_all(tokens.iter().map(|token| async { ask(token).await.unwrap().0 })), is_let_in());
    codes.sort_unstable();
    assert!(scraper);
    assert_eq!(codes, [[401; 4].as_slice(), [429; 8].as_slice()].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_speak_is_hung_up_on_and_keeps_nobody_out() {
    let shop = Shop::open(&CLUSTER, "silent").await;
    let program = Program::start(&shop, &["--metrics-secure"]).await;
    let address = |url: &str| url.split_once("://").unwrap().1.to_owned();
    let (http, https_address) = (address(&program.http), address(&program.https));
    let from = |ip: &str, to: &str| {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(format!("{ip}:0").parse().unwrap()).unwrap();
        socket.connect(to.parse().unwrap())
    };
    // As many as there are places for one address, and more.
    let mut silent = Vec::new();
    for to in [&http, &https_address] {
        for _ in 0..30 {
            silent.push(from("127.0.0.9", to).await.unwrap());
        }
    }
    // One that has shaken hands, and then says nothing.
    let mut idle = tokio::process::Command::new("openssl")
        .args(["s_client", "-connect", &https_address, "-quiet"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    assert_eq!(program.get("livez").await.unwrap().0, 200);
    assert_eq!(https().get(format!("{}/metrics", program.https)).send().await.unwrap().status(), 401);
    let hung_up = async {
        for stream in &mut silent {
            // It is closed, or reset.
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
        idle.wait().await.unwrap();
    };
    assert!(tokio::time::timeout(Duration::from_secs(30), hung_up).await.is_ok(), "connections stay open");
    assert!(started.elapsed() > Duration::from_secs(8), "a client has ten seconds: {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_metrics_that_changes_is_taken_into_use() {
    let shop = Shop::open(&CLUSTER, "served").await;
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = (directory.path().join("tls.crt"), directory.path().join("tls.key"));
    let write = |name: &str| {
        let pem = openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], "");
        let subject = format!("/CN={name}");
        let request = [
            "req",
            "-x509",
            "-key",
            "/dev/stdin",
            "-days",
            "1",
            "-subj",
            &subject,
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ];
        let signed = openssl(&request, &pem);
        std::fs::write(&certificate, &signed).unwrap();
        std::fs::write(&key, pem).unwrap();
        reqwest::Certificate::from_pem(signed.as_bytes()).unwrap()
    };
    let first = write("first");
    let files = [format!("--metrics-cert-file={}", certificate.display()), format!("--metrics-key-file={}", key.display())];
    let program = Program::start(&shop, &["--metrics-secure", &files[0], &files[1]]).await;
    let trusts = async |root: reqwest::Certificate| {
        let client = reqwest::Client::builder().tls_certs_only([root]).build().unwrap();
        client.get(format!("{}/metrics", program.https)).send().await.map(|answer| answer.status().as_u16())
    };
    assert_eq!(trusts(first.clone()).await.unwrap(), 401);
    // A file that cannot be used leaves the former certificate in use.
    std::fs::write(&key, "no key").unwrap();
    let told = Instant::now();
    while !program.lines().iter().any(|line| message(line).contains("the former one is used")) {
        assert!(told.elapsed() < Duration::from_mins(1), "a key that cannot be used is told");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(trusts(first.clone()).await.unwrap(), 401);
    let second = write("second");
    let changed = Instant::now();
    while trusts(second.clone()).await.is_err() {
        assert!(changed.elapsed() < Duration::from_mins(1), "the new certificate is taken into use");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(trusts(first).await.is_err());
}
