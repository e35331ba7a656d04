//! Parsers of connection strings that know nothing of how ours are made.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use percent_encoding::percent_decode_str;
use serde::Deserialize;
use url::Url;

/// What a client reads in a connection string.
#[derive(Debug, Deserialize, PartialEq)]
pub struct Parsed {
    pub scheme: String,
    pub user: Option<String>,
    /// As `host` or `host:port`.
    pub hosts: Vec<String>,
    pub database: Option<String>,
    pub options: Vec<(String, String)>,
}

impl Parsed {
    /// With each default port, options in lower case and in no order: what programs tell that forget how it was written.
    pub fn normalised(mut self) -> Self {
        let port = if self.scheme == "mongodb" { 27017 } else { 5432 };
        for host in &mut self.hosts {
            if host.ends_with(']') || !host.contains(':') {
                *host = format!("{host}:{port}");
            }
        }
        for (name, _) in &mut self.options {
            *name = name.to_ascii_lowercase();
        }
        self.options.sort();
        self
    }
}

/// Reads a connection string. Several hosts with ports are no URI (RFC 3986), so that the `url` crate is given all but the hosts.
pub fn parsed(uri: &str) -> Parsed {
    assert!(
        uri.is_ascii() && !uri.contains([' ', '"', '<', '>', '\\', '^', '`', '{', '|', '}']),
        "RFC 3986 has no such characters: {uri}"
    );
    let (scheme, rest) = uri.split_once("://").unwrap();
    let (authority, rest) = rest.split_at(rest.find('/').unwrap());
    let (user, hosts) = authority.split_once('@').map_or((None, authority), |(user, hosts)| (Some(user), hosts));
    if !hosts.contains(',') {
        let url = Url::parse(uri).unwrap();
        assert_eq!(url.port(), hosts.rsplit_once(':').and_then(|(_, port)| port.parse().ok()), "{uri}");
        assert_eq!(url.password(), None);
    }
    let url = Url::parse(&format!("{scheme}://{}host{rest}", user.map(|user| format!("{user}@")).unwrap_or_default())).unwrap();
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().unwrap().into_owned();
    Parsed {
        scheme: scheme.to_owned(),
        user: user.map(|_| decoded(url.username())),
        hosts: hosts.split(',').map(ToOwned::to_owned).collect(),
        database: Some(decoded(&url.path()[1..])).filter(|database| !database.is_empty()),
        options: url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect(),
    }
}

/// What `PQconninfoParse` of libpq reads; `None` where libpq or Python is missing.
pub fn libpq<'a>(uris: impl Iterator<Item = &'a str>) -> Option<Vec<Parsed>> {
    python("Python and libpq", LIBPQ, uris)
}

/// What PyMongo reads, one of MongoDB's own drivers; `None` where it is missing.
pub fn mongodb_driver<'a>(uris: impl Iterator<Item = &'a str>) -> Option<Vec<Parsed>> {
    python("Python and PyMongo", PYMONGO, uris)
}

/// Both programs begin with what they need and end with status 77 without it. `python3` may be another one, of the variable `PYTHON`.
fn python<'a>(needs: &str, program: &str, uris: impl Iterator<Item = &'a str>) -> Option<Vec<Parsed>> {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let program = format!("{BEGINNING}{program}");
    let started = Command::new(python).args(["-c", &program]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let missing = || {
        // Past the test harness, which would keep it back.
        let _ = writeln!(std::io::stderr(), "skipped: needs {needs}");
    };
    let Ok(mut child) = started else {
        missing();
        return None;
    };
    let uris: Vec<&str> = uris.collect();
    let written = child.stdin.take().unwrap().write_all(serde_json::to_string(&uris).unwrap().as_bytes());
    let output = child.wait_with_output().unwrap();
    if output.status.code() == Some(77) {
        missing();
        return None;
    }
    written.unwrap();
    assert!(output.status.success(), "{needs}: {}", output.status);
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

const BEGINNING: &str = r#"
import json, sys
def address(host, port): return (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
def answer(read): json.dump([dict(read(uri), scheme=uri.split("://")[0]) for uri in json.load(sys.stdin)], sys.stdout)
"#;

const LIBPQ: &str = r#"
import ctypes, ctypes.util
library = ctypes.util.find_library("pq")
if not library: sys.exit(77)
pq = ctypes.CDLL(library)
class Option(ctypes.Structure):
    _fields_ = [(name, ctypes.c_char_p) for name in ["keyword", "envvar", "compiled", "val", "label", "dispchar"]] + [("dispsize", ctypes.c_int)]
pq.PQconninfoParse.restype = ctypes.POINTER(Option)
pq.PQconninfoParse.argtypes = [ctypes.c_char_p, ctypes.POINTER(ctypes.c_char_p)]
def read(uri):
    error = ctypes.c_char_p()
    found = pq.PQconninfoParse(uri.encode(), ctypes.byref(error))
    if not found: sys.exit(f"{uri}: {error.value}")
    given, index = {}, 0
    while found[index].keyword:
        if found[index].val is not None: given[found[index].keyword.decode()] = found[index].val.decode()
        index += 1
    hosts = given.pop("host").split(",")
    ports = given.pop("port", "," * (len(hosts) - 1)).split(",")
    user, database = given.pop("user", None), given.pop("dbname", None)
    return dict(hosts=list(map(address, hosts, ports)), user=user, database=database, options=list(given.items()))
answer(read)
"#;

const PYMONGO: &str = r#"
try: from pymongo.uri_parser import parse_uri
except ImportError: sys.exit(77)
def read(uri):
    given = parse_uri(uri, validate=False, warn=False, normalize=False)
    hosts = [address(host, port) for host, port in given["nodelist"]]
    return dict(hosts=hosts, user=given["username"], database=given["database"], options=[(name, str(value)) for name, value in given["options"].items()])
answer(read)
"#;
