//! The labels of a series that is about one object.

use prometheus_client::encoding::EncodeLabelSet;

use crate::api::ObjectKey;

/// Namespace and name of the object.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct ObjectLabels {
    namespace: String,
    name: String,
}

impl ObjectLabels {
    pub(super) fn of(object: &ObjectKey) -> Self {
        Self { namespace: object.namespace.clone(), name: object.name.clone() }
    }
}
