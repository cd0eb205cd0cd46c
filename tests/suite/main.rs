//! Whole-process tests. The contract suites run against stock etcd and against our consensus
//! service. Both must agree, except for the differences listed in `differences.rs`.

#[macro_use]
mod support;

mod api;
mod bad_input;
mod chaos;
mod cli;
mod contract;
mod coordination;
mod differences;
mod elect;
mod engines;
mod json;
mod membership;
mod memory;
mod secured;
mod users;
mod zk;
