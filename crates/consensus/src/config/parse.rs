//! Values of flags that are not plain numbers, names or URLs.

use std::time::Duration;

use synod_consensus_core::Algorithm;
use synod_service::Retention;
use synod_service::config::{ConfigError, value};

use super::{ClusterState, DEFAULT_QUOTA_BYTES, LinearizableRead};

pub(super) fn cluster_state(text: &str) -> Result<ClusterState, String> {
    match text {
        "new" => Ok(ClusterState::New),
        "existing" => Ok(ClusterState::Existing),
        _ => Err("new or existing".to_owned()),
    }
}

/// As in etcd, zero means the default, and a negative number no quota.
pub(super) fn quota(text: &str) -> Result<u64, String> {
    let bytes: i64 = value::number(text, i64::MIN)?;
    Ok(match bytes {
        0 => DEFAULT_QUOTA_BYTES,
        _ => u64::try_from(bytes).unwrap_or(u64::MAX),
    })
}

pub(super) fn algorithm(text: &str) -> Result<Algorithm, String> {
    text.parse()
        .map_err(|_| format!("{} or {}", Algorithm::Raft, Algorithm::MultiPaxos))
}

pub(super) fn read_mode(text: &str) -> Result<LinearizableRead, String> {
    match text {
        "read-index" => Ok(LinearizableRead::ReadIndex),
        "lease" => Ok(LinearizableRead::Lease),
        _ => Err("read-index or lease".to_owned()),
    }
}

/// A bare number for a periodic retention means hours.
pub(super) fn auto_compaction(mode: &str, retention: &str) -> Result<Retention, ConfigError> {
    const RETENTION: &str = "auto-compaction-retention";
    match mode {
        "revision" => {
            let revisions = value::number::<u64>(retention, 0)
                .map_err(|expected| ConfigError::invalid(RETENTION, retention, &expected))?;
            Ok(match revisions {
                0 => Retention::Everything,
                n => Retention::Last(n),
            })
        }
        "periodic" => {
            let period = match retention.parse::<u64>() {
                Ok(hours) => Duration::from_secs(hours.saturating_mul(3600)),
                Err(_) => value::duration(retention)
                    .map_err(|expected| ConfigError::invalid(RETENTION, retention, &expected))?,
            };
            Ok(match period {
                Duration::ZERO => Retention::Everything,
                period => Retention::Period(period),
            })
        }
        _ => Err(ConfigError::invalid(
            "auto-compaction-mode",
            mode,
            "periodic or revision",
        )),
    }
}
