//! gRPC and HTTP servers and gRPC channels: the only crate that knows tonic's transport.
//!
//! A [`Server`] holds gRPC services and HTTP routes. It is started on one or several [`Listener`]s,
//! and every port speaks gRPC, HTTP/2 and HTTP/1.1 at once. Connections are spread over the
//! current-thread runtimes of an [`Executor`](synod_runtime::executor::Executor) and stay where
//! they were put, so a call costs no cross-thread wake-up on its way in and out. A gRPC call passes
//! no generic layer stack: a service is found by its name, called, and its response body counted on
//! the way out.
//!
//! With a [`JsonMapping`] the methods can also be called with JSON over HTTP, as grpc-gateway maps
//! them for etcd, and [`AccessControl`] limits what browsers may do.
//!
//! What it guarantees: a dead or silent peer does not hold a connection for ever, the number of
//! connections and of calls on one is bounded, a response that [holds](Hold) something ends when
//! its receiver stops reading, and [`Running::drain`] lets calls in flight finish.
//!
//! What it never does: limit message sizes by itself. That is
//! `XServer::new(..).max_decoding_message_size(..)` on the generated service (tonic's default is 4
//! MiB).

mod balance;
mod channel;
mod config;
mod connector;
mod health;
mod hold;
mod listener;
mod look;
mod metrics;
mod server;
mod stream;
mod timeout;
mod tls;
mod trace;
mod url;

pub use balance::BalancedChannel;
pub use channel::{ChannelConfig, ChannelError};
pub use config::ServerConfig;
pub use health::Health;
pub use hold::{Hold, Keep};
pub use listener::{BindError, BoundTo, Listener};
pub use look::{Look, look};
pub use metrics::RpcMetrics;
pub use server::{
    AccessControl, Allowed, Drained, GrpcFuture, GrpcService, JsonMapping, RequestBody, Running,
    Server, StartError,
};
pub use stream::Remote;
pub use timeout::split_timeout;
pub use tls::{
    CertificateFiles, CertificateStatus, CipherName, ClientCertificate, ClientTls, ClientTlsConfig,
    Protocol, ServerTls, ServerTlsConfig, ServerTrust, TlsError, TlsVersion, Trust,
};
pub use trace::inject;
pub use url::{ServerUrl, UrlError};
