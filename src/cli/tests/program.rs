//! The program itself: its exit codes, and what goes to standard output and what to standard error.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod server;

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use usercert_test_support::command::command_alone;

use self::server::{Response, WITH_TOKEN, program, serve};

fn run(arguments: &[&str]) -> Output {
    run_with(arguments, &[])
}

fn run_with(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    program().args(arguments).envs(environment.iter().copied()).output().unwrap()
}

/// A kubeconfig for this server. `more`: further fields of its cluster.
fn kubeconfig(folder: &Path, server: &str, more: &str) -> PathBuf {
    server::kubeconfig(folder, server, more, WITH_TOKEN)
}

/// Listens on loopback, and ends each connection after its first bytes. The first bytes of the first connection are handed back.
fn listener() -> (String, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let first = std::thread::spawn(move || {
        let mut bytes = vec![0; 256];
        let read = listener.accept().unwrap().0.read(&mut bytes).unwrap();
        bytes.truncate(read);
        bytes
    });
    (address, first)
}

#[test]
fn a_proxy_of_the_kubeconfig_or_of_the_environment_is_used_and_no_proxy_is_heeded() {
    let folder = tempfile::tempdir().unwrap();
    let status = |server: &str, more: &str, environment: &[(&str, &str)]| {
        let config = kubeconfig(folder.path(), server, more);
        let said = run_with(&["--kubeconfig", config.to_str().unwrap(), "status"], environment);
        assert_eq!(said.status.code(), Some(3), "nobody answers: {}", text(&said.stderr));
        assert!(!text(&said.stderr).contains("feature"), "{}", text(&said.stderr));
    };
    let (proxy, asked) = listener();
    status("https://api.example.test:6443", &format!(", proxy-url: 'http://{proxy}'"), &[]);
    assert!(text(&asked.join().unwrap()).starts_with("CONNECT api.example.test:6443 "));

    let (proxy, asked) = listener();
    status("https://api.example.test:6443", &format!(", proxy-url: 'socks5://{proxy}'"), &[]);
    assert_eq!(asked.join().unwrap().first(), Some(&5), "the version of SOCKS (RFC 1928 section 3)");

    let (proxy, asked) = listener();
    status("https://api.example.test:6443", "", &[("HTTPS_PROXY", &format!("http://{proxy}"))]);
    assert!(text(&asked.join().unwrap()).starts_with("CONNECT api.example.test:6443 "));

    let (server, asked) = listener();
    status(&format!("http://{server}"), "", &[("HTTPS_PROXY", "http://127.0.0.1:1"), ("NO_PROXY", "127.0.0.1")]);
    assert!(text(&asked.join().unwrap()).starts_with("GET /apis/usercert.dev/"));
}

/// What the program writes to a terminal, by `script` of util-linux.
fn on_terminal(line: &str, environment: &[(&str, &str)]) -> String {
    let mut command = command_alone("script");
    command.args(["-qec", &format!("{} {line}", env!("CARGO_BIN_EXE_kubectl-usercert")), "/dev/null"]);
    // The program `script` has its line run by this shell.
    command.env("SHELL", "/bin/sh").env("TERM", "xterm").envs(environment.iter().copied());
    let said = command.output().unwrap_or_else(|error| unreachable!("this test needs `script` of util-linux: {error}"));
    text(&said.stdout)
}

#[test]
fn a_terminal_gets_colours_and_short_lines_and_is_told_of_what_takes_long() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("client.pem");
    let key = rcgen::KeyPair::generate().unwrap();
    fs::write(&file, rcgen::CertificateParams::default().self_signed(&key).unwrap().pem()).unwrap();
    let inspect = format!("inspect --file {}", file.display());
    for coloured in [&[][..], &[("CI", "true")], &[("TERM", "dumb"), ("CLICOLOR_FORCE", "1")]] {
        let said = on_terminal(&inspect, coloured);
        assert!(said.contains('\u{1b}'), "{coloured:?}: {said:?}");
    }
    // A build server sets `CI`, and a profile of a shell may set `CLICOLOR`, whatever the terminal is.
    for plain in [
        &[("NO_COLOR", "1")][..],
        &[("TERM", "dumb")],
        &[("TERM", "dumb"), ("CI", "true")],
        &[("TERM", "dumb"), ("CLICOLOR", "1")],
    ] {
        for (line, answer) in [(inspect.as_str(), "Certificate: "), ("--help", "Usage: "), ("status --unknown", "Usage: ")] {
            let said = on_terminal(line, plain);
            assert!(said.contains(answer) && !said.contains('\u{1b}'), "{plain:?}: {said:?}");
        }
    }
    let narrow = on_terminal(&inspect, &[("COLUMNS", "40"), ("NO_COLOR", "1")]);
    assert!(narrow.lines().all(|line| line.trim_end().chars().count() <= 40 || !line.trim().contains(' ')), "{narrow}");

    // A pipe gets whole lines, whatever width the shell has.
    let whole = run_with(&inspect.split(' ').collect::<Vec<_>>(), &[("COLUMNS", "40")]);
    assert_eq!(text(&whole.stdout), text(&run(&inspect.split(' ').collect::<Vec<_>>()).stdout));

    // An API server that takes the connection and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let kubeconfig = kubeconfig(folder.path(), &format!("http://{}", silent.local_addr().unwrap()), "");
    let status = format!("--kubeconfig {} --request-timeout 10s status", kubeconfig.display());
    let told = on_terminal(&status, &[]);
    assert!(told.contains("... still trying to list certificates") && told.contains("within 10 seconds"), "{told}");
    let said = run(&status.split(' ').collect::<Vec<_>>());
    assert_eq!(said.status.code(), Some(3));
    assert!(!text(&said.stderr).contains("..."), "nobody sees progress there: {}", text(&said.stderr));
}

/// A shell asks kubectl what may follow, and kubectl asks the program that `print kubectl-completion` writes.
#[test]
fn kubectl_completes_the_verbs_of_the_plugin() {
    let kubectl = usercert_test_support::control_plane::tool("kubectl").unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_kubectl-usercert"), folder.path().join("kubectl-usercert")).unwrap();
    assert_eq!(run(&["print", "kubectl-completion", folder.path().to_str().unwrap()]).status.code(), Some(0));
    let path = format!("{}:/usr/bin:/bin", folder.path().display());
    let completed = |words: &[&str]| {
        let mut command = Command::new(&kubectl);
        let said =
            command.args(["__complete", "usercert"]).args(words).env("PATH", &path).env("KUBECONFIG", "/dev/null").output();
        text(&said.unwrap().stdout)
    };
    assert!(completed(&["st"]).starts_with("status\tShow which certificates expire when"), "{}", completed(&["st"]));
    assert!(completed(&["renew", "--dr"]).starts_with("--dry-run\t"));
    assert!(completed(&["status", "-o", "y"]).starts_with("yaml\t") && completed(&["status", "-o", "y"]).contains("\n:4"));
    // Without a cluster there are no names, and nothing is said between the words of a shell.
    assert_eq!(completed(&["why", ""]).lines().filter(|line| !line.starts_with('-') && !line.starts_with(':')).count(), 0);
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn help_is_an_answer_and_a_wrong_command_line_is_told_on_standard_error() {
    let help = run(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(text(&help.stdout).contains("kubectl usercert status -A") && text(&help.stdout).contains("Exit codes"));
    for wrong in [&["status", "--unknown"][..], &["unknown"], &["renew"], &[]] {
        let said = run(wrong);
        assert_eq!((said.status.code(), text(&said.stdout)), (Some(2), String::new()), "{wrong:?}");
        assert!(text(&said.stderr).contains("Usage: "), "{}", text(&said.stderr));
    }
}

#[test]
fn an_api_server_that_cannot_be_reached_is_told_with_its_address_and_what_to_change() {
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = kubeconfig(folder.path(), "https://127.0.0.1:1", "");
    let create = ["create", "orders", "--username", "orders", "--issuer", "atlas"];
    for verb in [&["status"][..], &["why", "orders"], &["check"], &["renew", "orders"], &create] {
        let said = run(&[&["--kubeconfig", kubeconfig.to_str().unwrap()], verb].concat());
        let error = text(&said.stderr);
        assert_eq!((said.status.code(), text(&said.stdout)), (Some(3), String::new()), "{verb:?}: {error}");
        assert!(error.contains("https://127.0.0.1:1/ cannot be reached: see the network"), "{error}");
        assert!(error.starts_with("error: could not ") && !error.contains("a-token") && !error.contains("panicked"), "{error}");
    }
    let nowhere = run(&["status"]);
    assert_eq!(nowhere.status.code(), Some(3));
    assert!(text(&nowhere.stderr).contains("could not find a cluster: give --kubeconfig"), "{}", text(&nowhere.stderr));
}

#[test]
fn a_file_is_inspected_without_a_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("client.pem");
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
    fs::write(&file, certificate.pem() + &key.serialize_pem()).unwrap();
    let said = run(&["inspect", "--file", file.to_str().unwrap()]);
    assert_eq!(said.status.code(), Some(1), "it is not for clients: {}", text(&said.stderr));
    assert!(text(&said.stdout).contains("Key: fits the certificate") && !text(&said.stdout).contains("PRIVATE"));
    assert!(!text(&said.stdout).contains('\u{1b}'), "there is no terminal, so there is no colour");
    let missing = run(&["inspect", "--file", "/nonexistent"]);
    assert_eq!(missing.status.code(), Some(3));
    assert!(text(&missing.stderr).contains("could not read /nonexistent"), "{}", text(&missing.stderr));
}

/// A kubeconfig whose user has a credential plugin: this script of the shell. `more`: further fields of the plugin.
fn kubeconfig_with_plugin(folder: &Path, script: &str, more: &str) -> PathBuf {
    let plugin = folder.join("log-in");
    fs::write(&plugin, format!("#!/bin/sh\n{script}\n")).unwrap();
    #[cfg(unix)]
    fs::set_permissions(&plugin, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let user = format!(
        "exec: {{apiVersion: client.authentication.k8s.io/v1, interactiveMode: IfAvailable, command: '{}'{more}}}",
        plugin.display()
    );
    server::kubeconfig(folder, "http://127.0.0.1:1", "", &user)
}

#[test]
fn a_credential_plugin_that_fails_is_told_without_what_it_was_given_and_what_it_answered() {
    let folder = tempfile::tempdir().unwrap();
    let given = ", args: ['--password', 'hunter3'], env: [{name: CLIENT_SECRET, value: hunter2}]";
    for (script, expected) in [
        (
            "echo '{\"token\": \"hunter4\"}'; echo 'token=hunter5' >&2; echo 'the session has ended' >&2; exit 3",
            "the session has ended",
        ),
        ("echo '{\"token\": \"hunter4\"}'; echo 'password: hunter5' >&2; exit 3", "exit status: 3"),
        ("echo 'token: [hunter4'", "log-in"),
        ("echo '{\"status\": {\"token\": \"hunter4\", \"expirationTimestamp\": \"hunter5\"}}'", "log-in"),
    ] {
        let config = kubeconfig_with_plugin(folder.path(), script, given);
        let said = run(&["--kubeconfig", config.to_str().unwrap(), "status"]);
        let error = text(&said.stderr);
        assert_eq!((said.status.code(), text(&said.stdout)), (Some(3), String::new()), "{error}");
        assert!(!error.contains("hunter"), "{error}");
        assert!(error.contains("could not log in") && error.contains("log-in") && error.contains(expected), "{error}");
    }
}

#[test]
fn what_cannot_be_read_of_a_kubeconfig_is_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config");
    for wrong in ["users: [{name: u, user: {token: [hunter2}}]", "users:\n- name: u\n  user:\n    token: {hunter2: 1}\n"] {
        fs::write(&config, wrong).unwrap();
        for said in [
            run(&["--kubeconfig", config.to_str().unwrap(), "status"]),
            run_with(&["status"], &[("KUBECONFIG", config.to_str().unwrap())]),
        ] {
            let error = text(&said.stderr);
            assert!(said.status.code() == Some(3) && !error.contains("hunter"), "{error}");
            assert!(error.contains("kubeconfig") && error.contains("line"), "{error}");
        }
    }
}

#[test]
fn a_credential_plugin_has_the_time_of_a_request_and_reads_nothing_that_is_not_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let config = kubeconfig_with_plugin(folder.path(), "echo 'please log in' >&2; exec sleep 60", "");
    let began = Instant::now();
    let said = run(&["--kubeconfig", config.to_str().unwrap(), "--request-timeout", "1s", "status"]);
    assert_eq!(said.status.code(), Some(3));
    assert!(text(&said.stderr).contains("log-in gave no credentials within 1 second"), "{}", text(&said.stderr));
    let said = run(&["__complete", "--kubeconfig", config.to_str().unwrap(), "why", ""]);
    assert_eq!((said.status.code(), text(&said.stderr)), (Some(0), String::new()));
    assert!(began.elapsed() < Duration::from_secs(30), "they took {:?}", began.elapsed());

    // Somebody at a terminal is told what is waited for, and sees what the plugin asks.
    let config = kubeconfig_with_plugin(folder.path(), "echo 'please log in' >&2; exec sleep 15", "");
    let told = on_terminal(&format!("--kubeconfig {} --request-timeout 10s status", config.display()), &[]);
    assert!(told.contains("please log in") && told.contains("... still waiting for the credential plugin"), "{told}");
    assert!(told.contains("gave no credentials within 10 seconds"), "{told}");

    // A loop of the shell may read names from standard input: `while read name; do kubectl usercert renew $name; done`.
    let seen = folder.path().join("seen");
    let script = format!("cat > {0}; printf %s \"$KUBERNETES_EXEC_INFO\" >> {0}; exit 1", seen.display());
    let config = kubeconfig_with_plugin(folder.path(), &script, "");
    let mut command = program();
    command.args(["--kubeconfig", config.to_str().unwrap(), "status"]).stdin(Stdio::piped()).stderr(Stdio::null());
    let mut running = command.spawn().unwrap();
    // The program may end before it is written.
    _ = running.stdin.take().unwrap().write_all(b"bills\n");
    assert_eq!(running.wait().unwrap().code(), Some(3));
    let seen = fs::read_to_string(seen).unwrap();
    assert!(seen.starts_with('{') && seen.contains("\"interactive\":false"), "{seen}");
}

/// kube runs a plugin again for a request if its token expires within a minute.
#[test]
fn a_credential_plugin_that_hangs_when_it_is_run_again_has_the_time_of_the_request() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    let expiry = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(30);
    let credentials = format!(
        r#"{{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {{"token": "a-token", "expirationTimestamp": "{expiry}"}}}}"#
    );
    // To log in, kube runs it three times: for a token, for a client certificate, and for its expiry.
    let script = format!("echo >> {0}; [ $(wc -l < {0}) -le 3 ] || exec sleep 60; echo '{credentials}'", runs.display());
    let config = kubeconfig_with_plugin(folder.path(), &script, "");
    let unanswered =
        "could not list certificates within 5 seconds: see that the API server can be reached, and that the credential plugin";
    for (arguments, code, expected) in [
        (&["--request-timeout", "5s", "status"][..], 3, unanswered),
        (&["__complete", "--request-timeout", "5s", "why", ""], 0, ""),
    ] {
        fs::write(&runs, "").unwrap();
        let began = Instant::now();
        let said = run_with(arguments, &[("KUBECONFIG", config.to_str().unwrap())]);
        assert!(began.elapsed() < Duration::from_secs(30), "{arguments:?} took {:?}", began.elapsed());
        let error = text(&said.stderr);
        assert_eq!(said.status.code(), Some(code), "{error}");
        assert!(error.contains(expected) && error.contains("log-in") == (code == 3), "{error}");
    }
}

/// An API server that answers each request like this.
fn server(status: u16, content_type: &'static str, body: &str) -> String {
    let response = Response { status, content_type, body: body.to_owned() };
    serve(move |_, _, _| response.clone())
}

#[test]
fn a_cluster_without_the_definitions_is_told_with_what_to_install() {
    let folder = tempfile::tempdir().unwrap();
    let config = kubeconfig(folder.path(), &server(404, "text/plain", "404 page not found\n"), "");
    for verb in
        [&["status"][..], &["why", "orders"], &["renew", "orders"], &["suspend", "orders"], &["plan", "--request-timeout=0"]]
    {
        let said = run(&[&["--kubeconfig", config.to_str().unwrap()], verb].concat());
        let error = text(&said.stderr);
        assert_eq!(said.status.code(), Some(3), "{verb:?}: {error}");
        assert!(error.contains("the cluster does not serve usercert.dev: install the operator's chart"), "{verb:?}: {error}");
    }
}

#[test]
fn nothing_that_a_terminal_acts_on_is_in_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let body = r#"{"kind":"Status","status":"Failure","code":500,"reason":"a","message":"a\u001b[31m\u001b]0;title\u0007\nb"}"#;
    let config = kubeconfig(folder.path(), &server(500, "application/json", body), "");
    let said = run(&["--kubeconfig", config.to_str().unwrap(), "status"]);
    let error = text(&said.stderr);
    assert!(error.contains("a[31m]0;title b"), "{error:?}");
    assert!(!error.contains(['\u{1b}', '\u{7}']) && error.lines().count() == 1, "{error:?}");
}

#[test]
fn an_error_that_nobody_reads_changes_no_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let config = kubeconfig(folder.path(), "https://127.0.0.1:1", "");
    let program = env!("CARGO_BIN_EXE_kubectl-usercert");
    for (arguments, expected) in [(format!("--kubeconfig {} status", config.display()), 3), ("--unknown".to_owned(), 2)] {
        // The reader has ended before anything is written: `|` begins both, and the program waits for the end of the other.
        let line =
            format!("{{ sleep 1; {program} {arguments} 2>&1; echo $? >&3; }} 3>{0}/code | true", folder.path().display());
        assert!(Command::new("sh").args(["-c", &line]).status().unwrap().success());
        let code = fs::read_to_string(folder.path().join("code")).unwrap();
        assert_eq!(code.trim(), expected.to_string(), "{arguments}");
    }
}
