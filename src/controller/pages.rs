//! Lists of objects of others, page by page: pods, Jobs, and workloads of any kind.
//!
//! # Guarantees
//!
//! - One page is in memory at a time, whoever asks, until it was looked at. Each object may have 1.5 MB, and its author chooses. With what it is
//!   read into, a page may take 200 MB.
//! - Objects are read as JSON: one that is odd hides no other.

use kube::{Client, api::ListParams, core::Request};
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::kubernetes::{KubernetesError, request};

/// So many objects are in one answer.
const MOST_IN_PAGE: u32 = 50;

/// The place for the page that is in memory.
static PLACE: Semaphore = Semaphore::const_new(1);

/// Hands each page of a list to `each`.
///
/// # Errors
/// A page cannot be had. The pages before it were handed on.
pub(crate) async fn each_page(
    client: &Client,
    requests: &Request,
    operation: &'static str,
    parameters: &ListParams,
    mut each: impl FnMut(&[Value]),
) -> Result<(), KubernetesError> {
    let mut parameters = parameters.clone().limit(MOST_IN_PAGE);
    loop {
        let built = requests.list(&parameters).map_err(kube::Error::BuildRequest);
        let _place = PLACE.acquire().await;
        let list = request(operation, async { client.request::<Value>(built?).await }).await?;
        each(list["items"].as_array().map_or(&[], Vec::as_slice));
        match list["metadata"]["continue"].as_str().filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(token),
            None => return Ok(()),
        }
    }
}
