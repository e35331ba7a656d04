//! What a whole run of the tests leaves behind, if `TEST_EVIDENCE` names a folder: all that the operator said, and all that it must
//! not have said. `secrecy-check` compares them.

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A secret in each line.
    Secrets,
    /// The operator's log.
    Log,
    /// Its metrics, again and again.
    Metrics,
    /// The API server's audit log, with the bodies of Events and statuses.
    Audit,
}

impl Kind {
    /// The beginning of the names of its files.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Secrets => "secrets-",
            Self::Log => "log-",
            Self::Metrics => "metrics-",
            Self::Audit => "audit-",
        }
    }
}

/// The file of this process for this kind; `None` if no evidence is wanted.
#[must_use]
pub fn file(kind: Kind) -> Option<PathBuf> {
    let folder = PathBuf::from(env::var_os("TEST_EVIDENCE")?);
    fs::create_dir_all(&folder).ok()?;
    let program = env::current_exe().ok()?;
    let program = program.file_stem().map(Path::new)?.display().to_string();
    Some(folder.join(format!("{}{program}-{}.txt", kind.prefix(), std::process::id())))
}

/// Appends to the file. What cannot be written is missed by the check, which then fails.
pub fn append(kind: Kind, text: &[u8]) {
    static FILES: OnceLock<[Option<Mutex<File>>; 4]> = OnceLock::new();
    let files = FILES.get_or_init(|| {
        [Kind::Secrets, Kind::Log, Kind::Metrics, Kind::Audit]
            .map(|kind| OpenOptions::new().create(true).append(true).open(file(kind)?).ok().map(Mutex::new))
    });
    if let Some(file) = &files[kind as usize] {
        let _ = file.lock().unwrap_or_else(PoisonError::into_inner).write_all(text);
    }
}

/// Ends a program of the operator, and keeps what it said: before its end its metrics, from `/metrics` at this address, and after it its log. One
/// that does not answer has no metrics to keep.
pub fn ended(http_address: &str, log: &Path, end: impl FnOnce()) {
    append(Kind::Metrics, &scraped(http_address).unwrap_or_default());
    end();
    append(Kind::Log, &fs::read(log).unwrap_or_default());
}

fn scraped(address: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

/// Notes a secret: the lines of a PEM text, else the text itself, also as it would look in base64.
pub fn secret(text: &str) {
    let lines: Vec<String> = if text.starts_with("-----BEGIN") {
        // The first lines of certificates are alike; those in the middle are their own.
        text.lines().filter(|line| !line.starts_with("-----") && line.len() == 64).skip(3).map(ToOwned::to_owned).collect()
    } else {
        vec![text.to_owned(), STANDARD.encode(text)]
    };
    append(Kind::Secrets, (lines.join("\n") + "\n").as_bytes());
}
