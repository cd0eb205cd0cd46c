//! Ports by the URLs that name them. Bind all of them before anything on disk is touched.

use synod_rpc::{BindError, Listener};

use crate::config::value::authority;

/// Binds each URL, which [`check_url`](crate::config::value::check_url) accepted. `localhost` is
/// 127.0.0.1, whatever a resolver would say.
///
/// # Errors
/// The first port that can't be bound.
pub fn bind(urls: &[String]) -> Result<Vec<Listener>, BindError> {
    let bind = |url: &String| Listener::bind(&bindable(url));
    urls.iter().map(bind).collect()
}

fn bindable(url: &str) -> String {
    match authority(url).strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => authority(url).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_is_ipv4s() {
        let urls = ["http://localhost:0".to_owned(), "http://[::]:0".to_owned()];
        let bound = bind(&urls).unwrap();
        let addresses: Vec<_> = bound.iter().map(Listener::local_addr).collect();
        assert!(addresses[0].ip().is_loopback() && addresses[0].is_ipv4());
        assert!(addresses[1].is_ipv6());
        let taken = [format!("http://{}", addresses[0])];
        assert!(matches!(bind(&taken), Err(BindError::InUse { .. })));
    }
}
