//! An endpoint of a tenant's choice, which speaks HTTP digest and lists what the tenant wants.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

/// What it answers to the request for a page of a list, whose path begins with the project: after how long, and what.
type Page = Arc<dyn Fn(&str) -> (Duration, Value) + Send + Sync>;

/// The endpoint. It ends when this is dropped.
pub struct OwnEndpoint {
    pub url: String,
    at_once: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Drop for OwnEndpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl OwnEndpoint {
    pub async fn start(page: impl Fn(&str) -> (Duration, Value) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (page, at_once): (Page, _) = (Arc::new(page), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&at_once);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&page), Arc::clone(&count)));
            }
        });
        Self { url, at_once, task: task.abort_handle() }
    }

    /// How many pages are being waited for.
    pub fn at_once(&self) -> usize {
        self.at_once.load(Ordering::SeqCst)
    }
}

async fn answer(mut stream: TcpStream, page: Page, at_once: Arc<AtomicUsize>) {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut part = [0; 4096];
        match stream.read(&mut part).await {
            Ok(read @ 1..) => request.extend_from_slice(&part[..read]),
            _ => return,
        }
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    if !request.to_ascii_lowercase().contains("\r\nauthorization:") {
        let challenge = "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", algorithm=MD5, qop=\"auth\"";
        let _ =
            stream.write_all(format!("HTTP/1.1 401 Unauthorized\r\n{challenge}\r\nContent-Length: 0\r\n\r\n").as_bytes()).await;
        return;
    }
    let (delay, body) = page(request.split(' ').nth(1).unwrap_or_default());
    at_once.fetch_add(1, Ordering::SeqCst);
    tokio::time::sleep(delay).await;
    at_once.fetch_sub(1, Ordering::SeqCst);
    let body = body.to_string();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(body.as_bytes()).await;
}

/// The number of the page that is asked for.
pub fn page_number(target: &str) -> usize {
    target.split_once("pageNum=").and_then(|(_, rest)| rest.split('&').next()?.parse().ok()).unwrap_or(1)
}

/// A page with these serial numbers, of a list with so many in all, each made two hours ago.
pub fn page_of(serial_numbers: impl Iterator<Item = usize>, total: usize) -> Value {
    let made = Timestamp::now() - SignedDuration::from_hours(2);
    let results: Vec<Value> =
        serial_numbers.map(|number| json!({ "_id": number, "createdAt": made, "notAfter": "2099-11-10T03:06:35Z" })).collect();
    json!({ "results": results, "totalCount": total })
}
