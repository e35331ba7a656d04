#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::sync::Arc;

use bson::{Bson, Document, doc};
use jiff::SignedDuration;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rstest::rstest;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Refusal, StandIn, StandInConfig};
use crate::tls::TlsFiles;

const SUBJECT: &str = "CN=orders,OU=apps,O=Acme";

type Authority = CertifiedIssuer<'static, KeyPair>;

struct Place {
    mongod: StandIn,
    tls: TlsFiles,
    ca: Authority,
}

fn authority(name: &str) -> Authority {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap()
}

async fn place() -> Place {
    let (tls, ca) = (TlsFiles::new().unwrap(), authority("Users"));
    let config = StandInConfig { listen: "127.0.0.1:0".parse().unwrap(), tls: tls.clone(), ca: ca.pem() };
    let mongod = StandIn::start(config).await.unwrap();
    mongod.add_user(SUBJECT);
    Place { mongod, tls, ca }
}

/// A certificate of an application with this common name; it lasts a day.
fn certificate(ca: &Authority, common_name: &str, usage: ExtendedKeyUsagePurpose) -> (CertificateDer<'static>, KeyPair) {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::OrganizationName, "Acme");
    parameters.distinguished_name.push(DnType::OrganizationalUnitName, "apps");
    parameters.distinguished_name.push(DnType::CommonName, common_name);
    parameters.extended_key_usages = vec![usage];
    parameters.serial_number = Some(vec![0x0a, 0xbc].into());
    parameters.not_before = (std::time::SystemTime::now() - std::time::Duration::from_hours(1)).into();
    parameters.not_after = (std::time::SystemTime::now() + std::time::Duration::from_hours(24)).into();
    let key = KeyPair::generate().unwrap();
    let certificate = parameters.signed_by(&key, ca).unwrap();
    (certificate.der().clone(), key)
}

fn orders(ca: &Authority) -> (CertificateDer<'static>, KeyPair) {
    certificate(ca, "orders", ExtendedKeyUsagePurpose::ClientAuth)
}

struct Client(TlsStream<TcpStream>);

impl Place {
    async fn client(&self, shown: Option<(CertificateDer<'static>, KeyPair)>) -> Client {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.tls.ca_certificate().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots);
        let config = match shown {
            Some((certificate, key)) => {
                let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
                config.with_client_auth_cert(vec![certificate], key).unwrap()
            }
            None => config.with_no_client_auth(),
        };
        let stream = TcpStream::connect(self.mongod.address()).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        Client(TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap())
    }

    /// What the stand-in says of a client that only says hello.
    async fn refusal_of(&self, shown: Option<(CertificateDer<'static>, KeyPair)>) -> Refusal {
        let mut client = self.client(shown).await;
        assert_eq!(client.try_ask(&doc! { "hello": 1, "$db": "admin" }).await, None, "it is answered");
        self.mongod.refusals().pop().unwrap().refusal
    }
}

impl Client {
    async fn ask(&mut self, command: &Document) -> Document {
        self.try_ask(command).await.unwrap()
    }

    /// Sends a message; `None` if the connection ends instead of an answer.
    async fn try_ask(&mut self, command: &Document) -> Option<Document> {
        let mut body = vec![0; 5];
        command.to_writer(&mut body).unwrap();
        self.send(2013, &body).await.ok()?;
        let answer = self.receive(2013).await?;
        Some(Document::from_reader(&answer[5..]).unwrap())
    }

    async fn send(&mut self, operation: i32, body: &[u8]) -> std::io::Result<()> {
        let length = i32::try_from(16 + body.len()).unwrap();
        let header = [length, 7, 0, operation].map(i32::to_le_bytes).concat();
        self.0.write_all(&[&header, body].concat()).await?;
        self.0.flush().await
    }

    async fn receive(&mut self, operation: i32) -> Option<Vec<u8>> {
        let mut header = [0; 16];
        self.0.read_exact(&mut header).await.ok()?;
        let fields: Vec<i32> = header.chunks(4).map(|field| i32::from_le_bytes(field.try_into().unwrap())).collect();
        assert_eq!(fields[2..], [7, operation], "the answer names its request");
        let mut body = vec![0; usize::try_from(fields[0]).unwrap() - 16];
        self.0.read_exact(&mut body).await.unwrap();
        Some(body)
    }
}

fn login(database: &str) -> Document {
    doc! { "authenticate": 1, "mechanism": "MONGODB-X509", "$db": database }
}

#[rstest]
#[case::as_the_specification_says(doc! { "authenticate": 1, "mechanism": "MONGODB-X509", "db": "$external" })]
#[case::without_the_database(doc! { "authenticate": 1, "mechanism": "MONGODB-X509" })]
#[case::with_the_right_name(doc! { "authenticate": 1, "mechanism": "MONGODB-X509", "user": SUBJECT })]
#[tokio::test]
async fn a_known_subject_logs_in_within_its_hello_or_after_it(#[case] speculative: Document) {
    let place = place().await;
    let mut client = place.client(Some(orders(&place.ca))).await;
    let find = doc! { "find": "orders", "filter": {}, "$db": "shop" };
    assert_eq!(client.ask(&find).await.get("code"), Some(&Bson::from(13)), "nobody is logged in");
    let hello = doc! {
        "hello": 1, "client": { "driver": { "name": "a driver|a framework", "version": "1" } }, "$db": "admin",
        "speculativeAuthenticate": speculative,
    };
    let answer = client.ask(&hello).await;
    assert_eq!(answer.get_document("speculativeAuthenticate").unwrap().get("user"), Some(&Bson::from(SUBJECT)));
    assert_eq!(client.ask(&find).await.get_document("cursor").unwrap().get("ns"), Some(&Bson::from("shop.orders")));

    let mut client = place.client(Some(orders(&place.ca))).await;
    assert_eq!(client.ask(&login("$external")).await.get("user"), Some(&Bson::from(SUBJECT)));
    let status = client.ask(&doc! { "connectionStatus": 1, "$db": "admin" }).await;
    assert!(status.to_string().contains(SUBJECT));
    let logins = place.mongod.logins();
    assert_eq!(logins.iter().map(|login| login.serial_number).collect::<Vec<_>>(), [0x0abc, 0x0abc]);
    assert_eq!(logins.iter().map(|login| login.speculative).collect::<Vec<_>>(), [true, false]);
    assert_eq!(logins[0].driver, "a driver 1");
    assert_eq!(place.mongod.refusals(), []);
}

#[tokio::test]
async fn the_old_form_of_a_hello_is_answered_in_the_old_form() {
    let place = place().await;
    let mut client = place.client(Some(orders(&place.ca))).await;
    let mut body = [&[0; 4][..], b"admin.$cmd\0", &[0; 4], &(-1_i32).to_le_bytes()].concat();
    doc! { "isMaster": 1, "helloOk": true }.to_writer(&mut body).unwrap();
    client.send(2004, &body).await.unwrap();
    let answer = client.receive(1).await.unwrap();
    let answer = Document::from_reader(&answer[20..]).unwrap();
    assert_eq!((answer.get("ismaster"), answer.get("helloOk")), (Some(&Bson::from(true)), Some(&Bson::from(true))));
}

#[rstest]
#[case::a_stranger("reports", login("$external"), 11, Refusal::UnknownUser("CN=reports,OU=apps,O=Acme".to_owned()))]
#[case::another_name(
    "orders",
    doc! { "authenticate": 1, "mechanism": "MONGODB-X509", "user": "CN=orders", "$db": "$external" },
    18,
    Refusal::OtherUser("CN=orders".to_owned())
)]
#[case::another_database("orders", login("admin"), 17, Refusal::OtherDatabase("admin".to_owned()))]
#[case::another_mechanism(
    "orders",
    doc! { "authenticate": 1, "mechanism": "PLAIN", "$db": "$external" },
    18,
    Refusal::OtherMechanism("PLAIN".to_owned())
)]
#[tokio::test]
async fn nobody_else_logs_in(#[case] name: &str, #[case] asked: Document, #[case] code: i32, #[case] refusal: Refusal) {
    let place = place().await;
    let mut client = place.client(Some(certificate(&place.ca, name, ExtendedKeyUsagePurpose::ClientAuth))).await;
    let answer = client.ask(&asked).await;
    assert_eq!(answer.get("code"), Some(&Bson::from(code)));
    let find = client.ask(&doc! { "find": "orders", "$db": "shop" }).await;
    assert_eq!(find.get("code"), Some(&Bson::from(13)));
    assert_eq!(place.mongod.refusals().pop().unwrap().refusal, refusal);
    assert_eq!(place.mongod.logins(), []);
}

#[tokio::test]
async fn a_certificate_is_verified_before_anything_is_read() {
    let place = place().await;
    assert_eq!(place.refusal_of(None).await, Refusal::NoCertificate);
    assert_eq!(place.refusal_of(Some(orders(&authority("Others")))).await, Refusal::UnknownIssuer);
    let for_servers = certificate(&place.ca, "orders", ExtendedKeyUsagePurpose::ServerAuth);
    let refusal = place.refusal_of(Some(for_servers)).await;
    assert!(matches!(&refusal, Refusal::Handshake(words) if words.contains("extended key usage")), "{refusal:?}");
    place.mongod.set_clock_offset(SignedDuration::from_hours(25));
    assert_eq!(place.refusal_of(Some(orders(&place.ca))).await, Refusal::Expired);
}

#[tokio::test]
async fn dropped_connections_are_closed_and_new_ones_are_served() {
    let place = place().await;
    let mut client = place.client(Some(orders(&place.ca))).await;
    client.ask(&login("$external")).await;
    place.mongod.drop_connections();
    assert_eq!(client.try_ask(&doc! { "ping": 1, "$db": "admin" }).await, None);
    let mut client = place.client(Some(orders(&place.ca))).await;
    assert_eq!(client.ask(&doc! { "ping": 1, "$db": "admin" }).await.get("ok"), Some(&Bson::from(1.0)));
}

#[tokio::test]
async fn what_is_no_message_ends_its_connection_alone() {
    let place = place().await;
    for body in [&[][..], &[0; 4], &[0; 3], &[0, 0, 0, 0, 0, 255, 255, 255, 127], &[0, 0, 0, 0, 9, 5, 0, 0, 0, 0]] {
        let mut client = place.client(Some(orders(&place.ca))).await;
        client.send(2013, body).await.unwrap();
        assert_eq!(client.receive(2013).await, None, "{body:?}");
    }
    let mut client = place.client(Some(orders(&place.ca))).await;
    assert_eq!(client.ask(&doc! { "unheard": 1, "$db": "admin" }).await.get("code"), Some(&Bson::from(59)));
}
