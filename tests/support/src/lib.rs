//! What the tests and the demo need around the operator: stand-ins for the Atlas Administration API and for mongod, and a real
//! Kubernetes control plane on loopback, with a real node where one can run.

pub mod atlas;
pub mod command;
pub mod control_plane;
pub mod evidence;
pub mod fault_proxy;
pub mod mongodb;
pub mod node;
pub mod openssl;
pub mod proxy;
pub mod tls;
pub mod webhook;
