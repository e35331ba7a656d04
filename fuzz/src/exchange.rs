//! Whole exchanges with Atlas over HTTP, by the client that the operator has: challenges, tokens, errors, certificates.
//!
//! This process is the server too, in one thread, so that an input always does the same.

use std::{cell::RefCell, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};
use usercert_operator::{
    api::Reason,
    issuer::{
        Deadline, IssueError, MintPermit, Minted,
        atlas::{AtlasClient, AtlasIssuer},
    },
};

use crate::{
    Outcome,
    atlas::{API_KEY, Credentials, assert_is_fit_for_status, client, issuer},
    ca::mint_request,
    certificate::assert_is_pair,
    now,
    oracle::assert_keeps_secret_beside,
};

/// A service account.
const CLIENT_ID: &[u8] = b"mdb_sa_id_5efda6aea3f2ed2e7dd6ce05";

/// What its secret begins with. Each input has one of its own: a client remembers the token, or the refusal, of one that it knows, and
/// nothing would be asked for then.
const CLIENT_SECRET: &str = "mdb_sa_sk_Zq8vN3xW5tB7yK2mR9pL4sD6";

/// What stands between the answers in an input.
const SEPARATOR: &[u8] = b"\n=====\n";

/// A new port and a new client after so many inputs, before the connections that linger use up the ports and the tokens the memory.
const INPUTS_PER_PORT: u32 = 500;

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// What is asked for, by its first letter in the input; a capital one for a service account.
#[derive(Clone, Copy)]
enum Question {
    User,
    List,
    Certificate,
}

struct World {
    runtime: Runtime,
    listener: TcpListener,
    client: AtlasClient,
    left: u32,
}

/// A request as the server saw it.
struct Seen {
    asks_for_certificate: bool,
    mints: bool,
    answered: bool,
}

/// A letter that says what is asked for, then the bytes that the server sends on each connection. It was read if there was one.
pub fn atlas_exchange(data: &[u8]) -> Outcome {
    let Some((first, rest)) = data.split_first() else { return Outcome::Unread };
    let question = match first.to_ascii_lowercase() % 3 {
        0 => Question::Certificate,
        1 => Question::List,
        _ => Question::User,
    };
    WORLD.with_borrow_mut(|world| {
        let used_up = world.as_ref().is_none_or(|world| world.left == 0);
        if used_up {
            *world = Some(World::new());
        }
        let world = world.as_mut().expect("it was just made");
        world.left -= 1;
        let client_secret = format!("{CLIENT_SECRET}{:03}", world.left);
        let service_account = [("clientId", CLIENT_ID), ("clientSecret", client_secret.as_bytes())];
        world.exchange(question, if first.is_ascii_uppercase() { service_account } else { API_KEY }, &parts(rest))
    })
}

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        Self { runtime, listener, client: client(), left: INPUTS_PER_PORT }
    }

    fn exchange(&self, question: Question, credentials: Credentials<'_>, answers: &[&[u8]]) -> Outcome {
        let endpoint = format!("http://{}", self.listener.local_addr().expect("a port"));
        let issuer = issuer(self.client.clone(), &endpoint, credentials);
        let mut seen = Vec::new();
        let error = self.runtime.block_on(async {
            tokio::select! {
                error = ask(&issuer, question) => error,
                () = serve(&self.listener, answers, &mut seen) => None,
            }
        });
        let outcome = if seen.is_empty() { Outcome::Unread } else { Outcome::Read };
        let Some(error) = error else { return outcome };
        assert_is_fit_for_status(&error);
        let text = format!("{error} {error:?}");
        let [_, (_, secret)] = credentials;
        assert_keeps_secret_beside(&text, secret, &String::from_utf8_lossy(&answers.concat()));
        if error.minted == Minted::Possibly {
            // A proxy may have credentials of its own, so a success counts without ours; a failure needs them.
            let is_success = error.reason == Reason::AtlasAnswerUnusable;
            let could_mint = |request: &Seen| request.mints || is_success && request.asks_for_certificate;
            assert!(seen.iter().any(could_mint), "nothing was sent that mints: {error:?}");
        }
        if seen.iter().any(|request| request.mints && !request.answered) {
            assert_eq!(error.minted, Minted::Possibly, "it was sent and not answered: {error:?}");
        }
        outcome
    }
}

async fn ask(atlas: &AtlasIssuer, question: Question) -> Option<IssueError> {
    let deadline = Deadline::after(Duration::from_mins(1));
    match question {
        Question::User => atlas.check_user("orders", now(), deadline).await.err(),
        Question::List => atlas.list("orders", now(), deadline).await.err(),
        Question::Certificate => match atlas.issue(&mint_request(), &MintPermit::new(|| true, deadline)).await {
            Ok(issued) => {
                assert_is_pair(&issued.pair, &[]);
                None
            }
            Err(error) => Some(error),
        },
    }
}

/// Answers one connection after the other, until whoever asks has gone.
async fn serve(listener: &TcpListener, answers: &[&[u8]], seen: &mut Vec<Seen>) {
    let mut answers = answers.iter();
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { return };
        let Some(head) = read_request(&mut stream).await else { continue };
        let answer = answers.next().copied().unwrap_or_default();
        let is_authorized = head.to_ascii_lowercase().contains("\r\nauthorization: ");
        let asks_for_certificate = head.starts_with("POST ") && head.contains("/certs ");
        seen.push(Seen { asks_for_certificate, mints: asks_for_certificate && is_authorized, answered: !answer.is_empty() });
        // Whoever has heard enough closes the connection.
        let _ = stream.write_all(answer).await;
        let _ = stream.shutdown().await;
    }
}

/// The head of a request, after its body was read too: what is left unread would break the connection before its answer is read.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .to_ascii_lowercase()
                .split_once("content-length: ")
                .and_then(|(_, rest)| rest.lines().next().and_then(|digits| digits.parse::<usize>().ok()));
            if body.len() >= length.unwrap_or_default() {
                return Some(format!("{head}\r\n"));
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

fn parts(mut data: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    while let Some(at) = data.windows(SEPARATOR.len()).position(|window| window == SEPARATOR) {
        parts.push(&data[..at]);
        data = &data[at + SEPARATOR.len()..];
    }
    parts.push(data);
    parts
}
