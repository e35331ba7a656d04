//! Where the figures of objects come from. They are read at each scrape, so nothing is kept of them between two.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use super::CertificateSeries;
use crate::figures::{CertificateFigures, IssuerFigures};

/// What is left of the rate limit of an Atlas project, as its last answer said.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RateLimit {
    /// Scheme, host and port of the API.
    pub endpoint: String,
    /// The id of the project.
    pub project: String,
    /// How many requests are left.
    pub remaining: u32,
}

/// What the controllers of one scope know of their objects. Nothing here may wait or send a request.
pub trait Inventory: Send + Sync {
    /// The certificates that are known, with what these series need.
    fn certificates(&self, series: CertificateSeries) -> Vec<CertificateFigures>;
    /// The issuers.
    fn issuers(&self) -> Vec<IssuerFigures>;
    /// The rate limits that Atlas has told. Several scopes may know of the same.
    fn rate_limits(&self) -> Vec<RateLimit>;
    /// How many certificates of the scope wait for their turn to ask Atlas.
    fn queue_depth(&self) -> usize;
    /// How many certificates of the scope were made and are in memory alone.
    fn unsaved(&self) -> usize;
}

/// The inventories of all scopes. One whose controllers have ended is gone by itself.
#[derive(Default)]
pub(super) struct Inventories(Mutex<Vec<Weak<dyn Inventory>>>);

impl Inventories {
    pub(super) fn add(&self, inventory: Weak<dyn Inventory>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|known| known.strong_count() > 0);
        all.push(inventory);
    }

    pub(super) fn all(&self) -> Vec<Arc<dyn Inventory>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect()
    }
}

impl fmt::Debug for Inventories {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Inventories").finish_non_exhaustive()
    }
}
