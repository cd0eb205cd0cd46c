//! A client of servers with ZooKeeper's protocol: our pods, or ZooKeeper itself.

mod client;
mod connection;
mod servers;
mod word;

pub(crate) use client::{Client, Credential, Failed};
pub(crate) use connection::Connection;
pub(crate) use servers::Servers;
pub(crate) use word::ask as ask_word;
