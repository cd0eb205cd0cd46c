//! The gRPC API: whole pods in this process over a real consensus service.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]

#[path = "grpc/discovery.rs"]
mod discovery;
#[path = "grpc/elections.rs"]
mod elections;
#[path = "grpc/files.rs"]
mod files;
#[path = "grpc/locks.rs"]
mod locks;
#[path = "grpc/service.rs"]
mod service;
#[path = "grpc/sessions.rs"]
mod sessions;
