//! Watches: a JSON object a line, each of which may be held back, repeated, dropped, or be the last.

use std::{collections::VecDeque, time::Duration};

use axum::body::{Body, Bytes};
use hyper::Response;
use serde_json::Value;
use tokio::sync::mpsc::{self, Sender};

use super::{Happened, Shared, WatchFault, server};

/// How often it is looked whether fewer events are to be held back.
const PERIOD: Duration = Duration::from_millis(20);

const GONE: &[u8] =
    b"{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\",\
\"message\":\"too old resource version\",\"reason\":\"Expired\",\"code\":410}}\n";

/// Passes the watch on.
pub(super) fn answer(shared: &Shared, response: reqwest::Response) -> Response<Body> {
    let (sender, receiver) = mpsc::channel(64);
    let answer = server::streaming(response.status(), response.headers(), receiver);
    tokio::spawn(pass_on(shared.clone(), response, sender));
    answer
}

async fn pass_on(shared: Shared, mut response: reqwest::Response, client: Sender<Bytes>) {
    let (mut unread, mut held): (Vec<u8>, VecDeque<Bytes>) = (Vec::new(), VecDeque::new());
    let mut ticks = tokio::time::interval(PERIOD);
    loop {
        tokio::select! {
            chunk = response.chunk() => match chunk {
                Ok(Some(chunk)) => unread.extend_from_slice(&chunk),
                Ok(None) | Err(_) => return,
            },
            _ = ticks.tick() => {}
            () = client.closed() => return,
        }
        while let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = unread.drain(..=end).collect();
            match note(&shared, &line) {
                None => held.push_back(Bytes::from(line)),
                Some(WatchFault::Drop) => {}
                Some(WatchFault::Repeat) => held.extend([Bytes::from(line.clone()), Bytes::from(line)]),
                Some(WatchFault::Gone) => {
                    held.push_back(Bytes::from_static(GONE));
                    while let Some(line) = held.pop_front() {
                        // A client that is gone needs no end.
                        let _ = client.send(line).await;
                    }
                    return;
                }
            }
        }
        while held.len() > shared.lock().lag {
            let Some(line) = held.pop_front() else { break };
            if client.send(line).await.is_err() {
                return;
            }
        }
    }
}

/// Notes the event, and asks the plan about it.
fn note(shared: &Shared, line: &[u8]) -> Option<WatchFault> {
    let event: Value = serde_json::from_slice(line).ok()?;
    let type_ = event["type"].as_str().filter(|type_| *type_ != "BOOKMARK" && *type_ != "ERROR")?;
    let object = &event["object"];
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let kind = object["kind"].as_str().unwrap_or_default();
    let mut state = shared.lock();
    let happened = Happened {
        number: state.happened.len(),
        type_: type_.to_owned(),
        object: format!("{kind} {name}"),
        resource_version: object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned(),
    };
    let fault = state.watch_plan.as_ref().and_then(|plan| plan(&happened));
    state.happened.push(happened);
    if let Some(fault) = fault {
        *state.played.entry(format!("{fault:?}")).or_default() += 1;
    }
    fault
}
