//! Webhooks, of which the API server learns by a watch.

use kube::{Client, Error};
use usercert_test_support::control_plane::config_of;

use super::{Shop, eventually};

/// The name that webhooks have in tests.
pub const WEBHOOK: &str = "deny.example.test";

/// Waits until the API server asks the webhook about such a request, or asks it no more. The request is a dry run.
pub async fn until_asked<T>(is_asked: bool, request: impl AsyncFn() -> Result<T, Error>) {
    eventually(&format!("whether the webhook is asked is {is_asked}"), || async {
        let is_refused = request().await.is_err_and(|error| format!("{error:?}").contains(WEBHOOK));
        (is_refused == is_asked).then_some(())
    })
    .await;
}

impl Shop {
    /// A client with all rights that asks only once, whatever the answer: by itself it would ask for minutes where the webhook says 429 or 503.
    pub async fn impatient_client(&self) -> Client {
        let mut config = config_of(&self.cluster.control_plane.kubeconfig()).await.unwrap();
        config.default_retry = false;
        Client::try_from(config).unwrap()
    }

    /// A client with the operator's rights, and of its name.
    pub fn client_of_operator(&self) -> Client {
        Client::try_from(self.cluster.operator_config()).unwrap()
    }
}
