//! `name-resolution`: whether the program of an image finds names in every way that a Pod needs, from inside of the image's files.
//!
//! It listens on the ports of a name server, so it belongs in a network namespace of its own:
//! `unshare --net sh -c 'ip link set lo up && name-resolution --root FOLDER'`.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use usercert_test_support::node::names;

/// Runs the operator's `check` as the image's user for each way to a name, and prints a table.
#[derive(Parser)]
struct Arguments {
    /// The image's files, as `image/root.sh` lays them out.
    #[arg(long)]
    root: PathBuf,
    /// The program in it, as an absolute path.
    #[arg(long, default_value = "/usercert-operator")]
    program: String,
}

/// Where the name server and the web server listen. No other address of the loopback network answers.
const SERVER: Ipv4Addr = Ipv4Addr::LOCALHOST;
const WEB_PORT: u16 = 8080;
/// The DNS has another address for it than `/etc/hosts`, at which nothing listens.
const IN_BOTH: &str = "both.test";
/// Answers by UDP are cut off, so that it has to be asked for by TCP.
const TRUNCATED: &str = "long.test";
const SERVICE: &str = "operator.usercert-system.svc.cluster.test";

struct Case {
    what: &'static str,
    hosts: &'static str,
    resolver: &'static str,
    name: &'static str,
    found: bool,
}

const HOSTS: &str = "127.0.0.1 localhost\n127.0.0.1 alias.test\n127.0.0.1 both.test\n";
/// As the kubelet writes it, with a short time limit.
const RESOLVER: &str =
    "nameserver 127.0.0.1\nsearch usercert-system.svc.cluster.test svc.cluster.test cluster.test\noptions ndots:5 timeout:1\n";

const CASES: [Case; 7] = [
    Case { what: "a name of /etc/hosts (hostAliases)", hosts: HOSTS, resolver: RESOLVER, name: "alias.test", found: true },
    Case { what: "/etc/hosts before the DNS", hosts: HOSTS, resolver: RESOLVER, name: IN_BOTH, found: true },
    Case { what: "a full name by the DNS", hosts: "", resolver: RESOLVER, name: SERVICE, found: true },
    Case {
        what: "a Service's short name, by search domains",
        hosts: "",
        resolver: RESOLVER,
        name: "operator.usercert-system.svc",
        found: true,
    },
    Case { what: "an answer that is cut off, then TCP", hosts: "", resolver: RESOLVER, name: TRUNCATED, found: true },
    Case {
        what: "a name server that is silent, then the next one",
        hosts: "",
        resolver: "nameserver 127.0.0.2\nnameserver 127.0.0.1\noptions timeout:1 attempts:2\n",
        name: SERVICE,
        found: true,
    },
    Case {
        what: "a name that nobody knows is not found",
        hosts: HOSTS,
        resolver: RESOLVER,
        name: "unknown.test",
        found: false,
    },
];

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    serve().context("could not serve in this network namespace")?;
    let mut wrong = 0;
    for case in &CASES {
        let outcome = try_case(&arguments, case)?;
        let answered = outcome.is_ok();
        let verdict = if answered == case.found { "ok" } else { "WRONG" };
        println!("  {verdict:<6} {:<48} {}", case.what, if answered { "answered" } else { "not answered" });
        if let (Err(message), true) = (outcome, verdict == "WRONG") {
            println!("{message}");
        }
        wrong += usize::from(answered != case.found);
    }
    ensure!(wrong == 0, "{wrong} of {} ways to a name are wrong", CASES.len());
    Ok(())
}

/// What the program says, as an error if it got no answer.
fn try_case(arguments: &Arguments, case: &Case) -> Result<Result<(), String>> {
    write_settings(&arguments.root, case)?;
    let url = format!("http://{}:{WEB_PORT}/", case.name);
    let output = Command::new("chroot")
        .args(["--userspec=65532:65532", "--groups="])
        .arg(&arguments.root)
        .args([&arguments.program, "check", &url, "--timeout", "1"])
        .output()
        .context("chroot could not be run")?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success() || said.contains("no answer within"), "the program did not run: {said}");
    Ok(if output.status.success() { Ok(()) } else { Err(said) })
}

fn write_settings(root: &Path, case: &Case) -> Result<()> {
    fs::write(root.join("etc/hosts"), case.hosts)?;
    Ok(fs::write(root.join("etc/resolv.conf"), case.resolver)?)
}

fn address_of(name: &str) -> Option<Ipv4Addr> {
    match name {
        SERVICE | TRUNCATED => Some(SERVER),
        IN_BOTH => Some(Ipv4Addr::new(127, 0, 0, 9)),
        _ => None,
    }
}

/// A name server by UDP and TCP and a web server, each in a thread that ends with the process.
fn serve() -> Result<()> {
    // Silent, and not closed: whoever asks gets no ICMP error either.
    let silent = UdpSocket::bind("127.0.0.2:53")?;
    let datagrams = UdpSocket::bind((SERVER, 53))?;
    let (streams, web) = (TcpListener::bind((SERVER, 53))?, TcpListener::bind((SERVER, WEB_PORT))?);
    thread::spawn(move || {
        let _silent = silent;
        let mut buffer = [0; 512];
        while let Ok((length, client)) = datagrams.recv_from(&mut buffer) {
            let message = &buffer[..length];
            let Some(mut answer) = names::answer(message, address_of) else { continue };
            if message.windows(5).any(|label| label == b"\x04long") {
                answer = cut_off(&answer, length);
            }
            // Who gets no answer asks again.
            let _ = datagrams.send_to(&answer, client);
        }
    });
    thread::spawn(move || streams.incoming().flatten().for_each(|stream| drop(answer_by_tcp(stream))));
    thread::spawn(move || {
        for mut stream in web.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nok\n");
        }
    });
    Ok(())
}

/// The header and the question with the bit TC, and no answer.
fn cut_off(answer: &[u8], question: usize) -> Vec<u8> {
    let mut cut = answer[..question.min(answer.len())].to_vec();
    cut[2] |= 0x02;
    cut[7] = 0;
    // Additional records of the question are not repeated.
    cut[11] = 0;
    cut
}

/// Messages have their length before them (RFC 1035, 4.2.2).
fn answer_by_tcp(mut stream: std::net::TcpStream) -> Result<()> {
    let mut length = [0; 2];
    while stream.read_exact(&mut length).is_ok() {
        let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut message)?;
        let Some(answer) = names::answer(&message, address_of) else { break };
        stream.write_all(&u16::try_from(answer.len())?.to_be_bytes())?;
        stream.write_all(&answer)?;
    }
    Ok(stream.shutdown(Shutdown::Both)?)
}
