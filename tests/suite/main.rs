//! Tests of whole processes. The contract suites run against stock etcd and against our consensus
//! service; both must agree, except where `differences.rs` says so and why.

#[macro_use]
mod support;

mod api;
mod bad_input;
mod chaos;
mod cli;
mod contract;
mod differences;
mod engines;
mod membership;
mod memory;
mod secured;
