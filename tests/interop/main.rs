//! Real clients, unmodified, against stock etcd and both engines of our server: the same programs
//! with the same checks, so that a wrong check fails on stock etcd too.
//!
//! `cargo xtask interop` runs them. They need Go, Python, Node, Java with Maven, and curl.

mod clients;
mod clusters;
mod curl;
mod etcdctl;
mod output;
mod program;
mod programs;
