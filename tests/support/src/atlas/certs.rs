//! The certificates of a database user: one is made, or those that are not expired are listed.

use std::{convert::Infallible, sync::Mutex, time::Duration};

use anyhow::Result;
use axum::body::{Body, Bytes};
use futures::{StreamExt, stream};
use hyper::{Response, StatusCode, header};
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{
    Fault, Mint, Point, Refusal, X509Type,
    answer::{Answer, Closed, json_response, refuse, with_header},
    certificate::{self, Order},
    server::reached,
    state::{State, lock},
};

/// A certificate is asked for.
pub(super) async fn mint(state: &Mutex<State>, project: &str, username: &str, body: &Bytes, media_type: &str) -> Answer {
    reached(state, Point::Asked, username);
    let fault = lock(state).take_fault(username);
    match &fault {
        Some(Fault::Refuse(refusal)) => return Ok(refuse(refusal)),
        Some(Fault::ResetUnminted) => return Err(Closed),
        Some(Fault::DelayMint(delay)) => tokio::time::sleep(*delay).await,
        Some(Fault::StaleNonce) => return Ok(stale(state)),
        Some(Fault::Redirect(to)) => return Ok(with_header(StatusCode::TEMPORARY_REDIRECT, "Location", to)),
        Some(Fault::HugeHeader) => return Ok(with_header(StatusCode::CREATED, "X-Huge", &"x".repeat(1 << 20))),
        _ => {}
    }
    let months = match check_order(state, project, username, body) {
        Ok(months) => months,
        Err(refusal) => return Ok(refuse(&refusal)),
    };
    let mint = match record(state, project, username, months, fault.as_ref()) {
        Ok(mint) => mint,
        Err(error) => return Ok(refuse(&Refusal::new(500, "UNEXPECTED_ERROR").body(&error.to_string()))),
    };
    reached(state, Point::Made, username);
    let answer = play(state, fault, &mint, media_type).await;
    reached(state, Point::Answered, username);
    answer
}

/// The page of the list that the query asks for.
pub(super) fn list(state: &Mutex<State>, project: &str, username: &str, query: &str) -> Response<Body> {
    let number = |name: &str, default: usize| {
        let fields = query.split('&').filter_map(|field| field.split_once('='));
        fields.filter(|(key, _)| *key == name).find_map(|(_, value)| value.parse().ok()).unwrap_or(default)
    };
    let (per_page, page) = (number("itemsPerPage", 100).clamp(1, 500), number("pageNum", 1).max(1));
    let all = lock(state).unexpired(project, username);
    let results: Vec<Value> = all
        .iter()
        .skip((page - 1) * per_page)
        .take(per_page)
        .map(|mint| {
            json!({
                "_id": mint.serial,
                "createdAt": seconds(mint.not_before),
                "groupId": project,
                "notAfter": seconds(mint.not_after),
                "subject": format!("CN={}", common_name(username)),
            })
        })
        .collect();
    json_response(StatusCode::OK, &json!({ "links": [], "results": results, "totalCount": all.len() }))
}

fn stale(state: &Mutex<State>) -> Response<Body> {
    let mut state = lock(state);
    let now = state.now();
    let challenge = state.nonces.challenge(true, now);
    with_header(StatusCode::UNAUTHORIZED, "WWW-Authenticate", &challenge)
}

fn check_order(state: &Mutex<State>, project: &str, username: &str, body: &Bytes) -> Result<i64, Refusal> {
    let order: Value = serde_json::from_slice(body).map_err(|_| Refusal::new(400, "MALFORMED_JSON"))?;
    let state = lock(state);
    match state.projects.get(project).and_then(|users| users.get(username)) {
        None => return Err(Refusal::new(404, "USERNAME_NOT_FOUND")),
        Some(X509Type::Customer | X509Type::None) => return Err(Refusal::new(400, "USER_NOT_MANAGED_X509")),
        Some(X509Type::Managed) => {}
    }
    if username.starts_with("CN=") && username.contains(',') {
        return Err(Refusal::new(400, "ATLAS_MANAGED_X509_NAME_INVALID"));
    }
    if state.certificate_limit.is_some_and(|limit| state.unexpired(project, username).len() >= limit) {
        return Err(Refusal::new(400, "ATLAS_GENERATED_CERTS_LIMIT_EXCEEDED"));
    }
    match order.get("monthsUntilExpiration").and_then(Value::as_i64) {
        Some(months @ 1..=24) => Ok(months),
        Some(25..) => Err(Refusal::new(400, "CERT_EXPIRY_CANNOT_EXCEED_TWO_YEARS")),
        _ => Err(Refusal::new(400, "VALIDATION_ERROR")),
    }
}

/// Makes the certificate and enters it into the ledger.
fn record(state: &Mutex<State>, project: &str, username: &str, months: i64, fault: Option<&Fault>) -> Result<Mint> {
    let mut state = lock(state);
    let (serial, mut now) = (state.take_serial(), state.now());
    let mut user = common_name(username).to_owned();
    match fault {
        Some(Fault::ExpiredCertificate) => now -= SignedDuration::from_hours(24 * 800),
        Some(Fault::OtherUser) => user.push_str("-other"),
        _ => {}
    }
    let order = Order { project_id: project, username, common_name: &user, months, not_after: None, serial, now };
    let mint = certificate::mint(&state.pool, &order)?;
    state.mints.push(mint.clone());
    Ok(mint)
}

/// The user's name as it stands in the certificate.
pub(super) fn common_name(username: &str) -> &str {
    username.strip_prefix("CN=").unwrap_or(username)
}

async fn play(state: &Mutex<State>, fault: Option<Fault>, mint: &Mint, media_type: &str) -> Answer {
    let pem = format!("{}{}", mint.certificate_pem, mint.key_pem);
    let body = match fault {
        None | Some(Fault::ExpiredCertificate | Fault::OtherUser | Fault::DelayMint(_)) => Body::from(pem),
        Some(Fault::CutBody) => {
            let half = Bytes::from(pem[..pem.len() / 2].to_owned());
            Body::from_stream(stream::iter([Ok(half), Err(Closed)]))
        }
        Some(Fault::Delay(delay)) => {
            tokio::time::sleep(delay).await;
            Body::from(pem)
        }
        Some(Fault::HtmlBody) => Body::from("<html><body>Service temporarily something</body></html>"),
        Some(Fault::EmptyBody) => Body::empty(),
        Some(Fault::TruncatedPem) => Body::from(pem[..pem.len() - 900].to_owned()),
        Some(Fault::WrongKey) => {
            let other = usize::try_from(mint.serial.rem_euclid(1000)).unwrap_or_default() + 1;
            Body::from(format!("{}{}", mint.certificate_pem, lock(state).pool.key_pem(other).unwrap_or_default()))
        }
        Some(Fault::TwoCertificates) => Body::from(format!("{}{pem}", mint.certificate_pem)),
        Some(Fault::FiveMegabytes) => Body::from(format!("{pem}{}", "x".repeat(5 << 20))),
        Some(Fault::NeverEnds) => {
            let begin = stream::once(async move { Ok::<_, Infallible>(Bytes::from(pem)) });
            Body::from_stream(begin.chain(stream::pending()))
        }
        Some(Fault::NeverAnswers) => loop {
            tokio::time::sleep(Duration::from_hours(1)).await;
        },
        Some(Fault::RefuseAfterMint(refusal)) => return Ok(refuse(&refusal)),
        Some(
            Fault::Reset
            | Fault::Refuse(_)
            | Fault::RefuseChallenge(_)
            | Fault::DelayChallenge(_)
            | Fault::ResetUnminted
            | Fault::ResetChallenge
            | Fault::StaleNonce
            | Fault::Redirect(_)
            | Fault::HugeHeader,
        ) => return Err(Closed),
    };
    let response = Response::builder()
        .status(StatusCode::CREATED)
        .header(header::CONTENT_TYPE, format!("{media_type};charset=utf-8"))
        .header("X-Java-Method", "ApiDatabaseUserCertsResource::generateCert")
        .body(body);
    response.map_err(|_| Closed)
}

fn seconds(time: jiff::Timestamp) -> String {
    jiff::Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}
