//! The official drivers of MongoDB, which log in with MONGODB-X509 at the stand-in.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};
use usercert_test_support::mongodb::{Login, Refusal, StandIn, StandInConfig};

use crate::{
    drivers::{Language, Program, Way},
    page::assert_documented,
    stage::{Entries, Refused, STRANGER, SUBJECT, Stage, serial_number},
    table::{Cell, Row},
};

/// So many milliseconds a driver looks for a server that lets it in. Those that are let in have them on a busy machine too.
const PATIENCE: &str = "10000";

/// The same for those that are refused, which wait for all of it.
const LITTLE_PATIENCE: &str = "2000";

pub async fn python(stage: &'static Stage) -> Result<(), String> {
    log_in(stage, Language::Python, Way::Plain, "Python").await
}

pub async fn node(stage: &'static Stage) -> Result<(), String> {
    log_in(stage, Language::Node, Way::Plain, "Node.js").await
}

pub async fn go(stage: &'static Stage) -> Result<(), String> {
    log_in(stage, Language::Go, Way::Plain, "Go").await
}

pub async fn go_rereading(stage: &'static Stage) -> Result<(), String> {
    log_in(stage, Language::Go, Way::Rereading, "Go, rereading").await
}

pub async fn rust(stage: &'static Stage) -> Result<(), String> {
    log_in(stage, Language::Rust, Way::Plain, "Rust").await
}

pub async fn java(stage: &'static Stage) -> Result<(), String> {
    log_in(stage, Language::Java, Way::Plain, "Java").await
}

pub async fn java_rereading(stage: &'static Stage) -> Result<(), String> {
    log_in(stage, Language::Java, Way::Rereading, "Java, rereading").await
}

/// A driver before the stand-in.
struct Place {
    mongod: StandIn,
    program: Program,
}

impl Place {
    async fn set(stage: &Stage, language: Language, way: Way, name: &str) -> Result<Self, String> {
        let program = Program::mongodb(stage, language, way, name).await?;
        let (listen, tls, ca) = ("127.0.0.1:0".parse().unwrap(), stage.server.clone(), stage.ca.clone());
        let mongod = StandIn::start(StandInConfig { listen, tls, ca }).await.unwrap();
        mongod.add_user(SUBJECT);
        Ok(Self { mongod, program })
    }

    /// The spec of the page, with this place for the database's.
    fn spec(&self) -> Value {
        let places = self.program.places((27017, self.mongod.address().port()));
        let object: Value = serde_saphyr::from_str(&places.block("README.md", "yaml tested")).unwrap();
        let mut spec = object["spec"].clone();
        assert_eq!(spec["subject"], SUBJECT);
        spec["connection"]["options"] = json!([{ "name": "serverSelectionTimeoutMS", "value": PATIENCE }]);
        spec["issuerRef"]["kind"] = json!("CertificateIssuer");
        spec
    }

    /// Closes the connections, and gives the client the time to notice.
    ///
    /// The driver for Node.js fails an operation that it begins in the millisecond of the loss, and does not repeat it.
    async fn drop_connections(&self) {
        self.mongod.drop_connections();
        tokio::time::sleep(Duration::from_secs(2)).await;
    }

    /// The logins since there were so many.
    fn logins_after(&self, count: usize) -> Vec<Login> {
        self.mongod.logins().split_off(count)
    }

    /// A program that starts now is refused, and for one of these reasons.
    async fn assert_refused(&self, entries: &Entries, good: &Entries, reasons: &[Refusal]) {
        let (logins, refusals) = (self.mongod.logins().len(), self.mongod.refusals().len());
        let mut entries = Refused::at_the_uri_of(entries, good);
        let uri = String::from_utf8(entries["uri"].clone()).unwrap();
        assert!(uri.contains(PATIENCE), "{uri}");
        entries.insert("uri".to_owned(), uri.replace(PATIENCE, LITTLE_PATIENCE).into_bytes());
        self.program.volume.update(&entries);
        let said = self.program.once().await;
        assert!(said.starts_with("failed"), "{said}");
        let refusals = self.mongod.refusals().split_off(refusals);
        let fits = refusals.iter().any(|refused| reasons.contains(&refused.refusal));
        assert!(fits, "none of {reasons:?} is in {refusals:?}: {said}");
        assert_eq!(self.logins_after(logins), []);
    }
}

async fn log_in(stage: &'static Stage, language: Language, way: Way, title: &str) -> Result<(), String> {
    let name = match way {
        Way::Plain => language.name().to_owned(),
        Way::Rereading => format!("{}-rereading", language.name()),
    };
    let name = name.as_str();
    let mut place = Place::set(stage, language, way, name).await?;
    let first = stage.certificate(name, place.spec()).await;
    place.program.volume.update(&first);
    let mut client = place.program.start();
    assert_eq!(client.answer().await, "ok");
    let logins = place.logins_after(0);
    let shown = |logins: &[Login], entries: &Entries| {
        assert!(!logins.is_empty(), "nobody logged in: {:?} {:?}", place.mongod.logins(), place.mongod.refusals());
        logins.iter().all(|login| login.subject == SUBJECT && login.serial_number == serial_number(entries))
    };
    assert!(shown(&logins, &first), "{logins:?}");

    // The client goes on while the file changes, and while it loses its connections.
    let second = stage.renewed(name).await;
    place.program.volume.update(&second);
    assert_eq!(client.ask("again").await, "ok");
    let before = place.mongod.logins().len();
    place.drop_connections().await;
    assert_eq!(client.ask("on a new connection").await, "ok");
    let anew = place.logins_after(before);
    let reads_once = shown(&anew, &first);
    assert!(reads_once || shown(&anew, &second), "{anew:?}");

    // When the first certificate has expired, a client that has read it once is locked out at its next connection.
    place.mongod.set_clock_offset(SignedDuration::from_hours(30));
    let before = place.mongod.logins().len();
    assert_eq!(client.ask("on the connection that is open").await, "ok");
    assert_eq!(place.logins_after(before), []);
    place.drop_connections().await;
    let said = client.ask("after the end of the first certificate").await;
    assert_eq!(said == "ok", !reads_once, "{said}");
    if reads_once {
        assert!(place.mongod.refusals().iter().any(|refused| refused.refusal == Refusal::Expired));
    }
    drop(client);
    let before = place.mongod.logins().len();
    assert_eq!(place.program.once().await, "ok");
    assert!(shown(&place.logins_after(before), &second), "a new process shows the new certificate");
    place.mongod.set_clock_offset(SignedDuration::ZERO);

    let stranger = Refusal::UnknownUser(STRANGER.to_owned());
    place.assert_refused(&stage.refused.wrong_user, &second, &[stranger]).await;
    place.assert_refused(&stage.refused.expired, &second, &[Refusal::Expired]).await;
    // The server names its CA, and some drivers show no certificate then, because theirs is of another.
    place.assert_refused(&stage.refused.other_ca, &second, &[Refusal::UnknownIssuer, Refusal::NoCertificate]).await;

    place.program.assert_needs_the_group(&second).await;

    let measured = if reads_once { "reads once" } else { "reads per connection" };
    assert_documented(title, measured);
    let format = if language == Language::Java { "keystore.p12, uri" } else { "tls-combined.pem, uri" };
    let client = format!("{}{}", logins[0].driver, if way == Way::Plain { "" } else { ", rereading" });
    stage.record(Row {
        client,
        format,
        login: Cell::Yes,
        renewed: Cell::Yes,
        refused: Cell::Yes,
        changed_file: Cell::Measured(measured),
    });
    Ok(())
}
