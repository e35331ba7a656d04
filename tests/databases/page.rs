//! The snippets of the pages in `docs/clients`: what a page shows is what the tests run.

use std::path::Path;

use usercert_test_support::control_plane::repository;

/// Where the pages mount the Secret, the CA of the database server, and the database.
const SECRET: &str = "/var/run/usercert";
const SERVER_CA: &str = "/var/run/server-ca/ca.crt";
const SERVER: &str = "db.example.com";

/// Where the tests have them.
pub struct Places<'a> {
    pub secret: &'a Path,
    pub server_ca: &'a Path,
    /// The port that the page tells, and the test's.
    pub ports: (u16, u16),
}

impl Places<'_> {
    /// The block of a page that is marked as `LANGUAGE tested`, with these places in it.
    pub fn block(&self, page: &str, mark: &str) -> String {
        let (told, port) = self.ports;
        block(page, mark)
            .replace(SECRET, &self.secret.display().to_string())
            .replace(SERVER_CA, &self.server_ca.display().to_string())
            .replace(&told.to_string(), &port.to_string())
            .replace(SERVER, "127.0.0.1")
    }
}

/// The block of a page with this mark, `LANGUAGE tested` and perhaps a further word, as it stands there.
pub fn block(page: &str, mark: &str) -> String {
    let file = repository().join("docs/clients").join(page);
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let fence = format!("```{mark}\n");
    let mut parts = text.split(&fence);
    let code = parts.nth(1).unwrap_or_else(|| panic!("{page} has no block that begins with {}", fence.trim()));
    assert!(parts.next().is_none(), "{page} has more than one block with the mark {mark}");
    code.split("\n```").next().unwrap().to_owned() + "\n"
}

/// Asserts that the table of `docs/clients/README.md` says of a client what was measured when its file had changed.
pub fn assert_documented(client: &str, measured: &str) {
    let file = repository().join("docs/clients/README.md");
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let row = text.lines().find(|line| line.starts_with(&format!("| [{client}](")));
    let told = row.and_then(|row| row.split('|').nth(3)).unwrap_or_default().trim();
    assert!(told.starts_with(measured), "docs/clients/README.md says {told:?} of {client}, and {measured:?} was measured");
}
