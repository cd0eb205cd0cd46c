//! Runs the real `etcdctl` with transcripts and sessions: stock etcd and our server must print the
//! same.

mod commands;
mod locks;
mod transcript;
