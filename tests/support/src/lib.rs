//! What the tests and the demo need around the operator: a stand-in for the Atlas Administration API, and a real Kubernetes
//! control plane on loopback, with a real node where one can run.

pub mod atlas;
pub mod control_plane;
pub mod evidence;
pub mod fault_proxy;
pub mod node;
pub mod openssl;
pub mod proxy;
pub mod webhook;
