//! The real `etcdctl`, driven through transcripts and sessions: stock etcd and our server print the
//! same.

mod commands;
mod transcript;
