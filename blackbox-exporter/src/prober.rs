//! The probers, one file each.

pub(crate) mod dialogue;
pub(crate) mod dns;
pub(crate) mod grpc;
pub(crate) mod http;
pub(crate) mod icmp;
pub(crate) mod tcp;
pub(crate) mod unix;
pub(crate) mod websocket;
