//! The program itself: its exit codes, and what goes to standard output and what to standard error.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fs,
    io::Read,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread::JoinHandle,
};

fn run(arguments: &[&str]) -> Output {
    run_with(arguments, &[])
}

fn run_with(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-usercert"));
    command.args(arguments).env_remove("KUBECONFIG").env("HOME", "/nonexistent");
    for variable in ["HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"] {
        command.env_remove(variable);
    }
    command.envs(environment.iter().copied()).output().unwrap()
}

/// A kubeconfig for this server. `more`: further fields of its cluster.
fn kubeconfig(folder: &Path, server: &str, more: &str) -> PathBuf {
    let path = folder.join("config");
    let text = format!(
        "{{apiVersion: v1, kind: Config, current-context: c, contexts: [{{name: c, context: {{cluster: k, user: u}}}}], \
         clusters: [{{name: k, cluster: {{server: '{server}'{more}}}}}], users: [{{name: u, user: {{token: a-token}}}}]}}"
    );
    fs::write(&path, text).unwrap();
    path
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
    let mut command = Command::new("script");
    command.args(["-qec", &format!("{} {line}", env!("CARGO_BIN_EXE_kubectl-usercert")), "/dev/null"]);
    command.env_remove("NO_COLOR").env_remove("COLUMNS").env("TERM", "xterm").envs(environment.iter().copied());
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
    let coloured = on_terminal(&inspect, &[]);
    assert!(coloured.contains('\u{1b}'), "{coloured:?}");
    for plain in [[("NO_COLOR", "1")], [("TERM", "dumb")]] {
        let said = on_terminal(&inspect, &plain);
        assert!(said.contains("Certificate: ") && !said.contains('\u{1b}'), "{said:?}");
    }
    let narrow = on_terminal(&inspect, &[("COLUMNS", "40"), ("NO_COLOR", "1")]);
    assert!(narrow.lines().all(|line| line.trim_end().chars().count() <= 40 || !line.trim().contains(' ')), "{narrow}");

    // An API server that takes the connection and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let kubeconfig = kubeconfig(folder.path(), &format!("http://{}", silent.local_addr().unwrap()), "");
    let status = format!("--kubeconfig {} --request-timeout 3s status", kubeconfig.display());
    let told = on_terminal(&status, &[]);
    assert!(told.contains("... still trying to list certificates") && told.contains("within 3 seconds"), "{told}");
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
    assert!(completed(&["st"]).starts_with("status\tWho expires when"), "{}", completed(&["st"]));
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
    for verb in [&["status"][..], &["why", "orders"], &["check"], &["renew", "orders"]] {
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
