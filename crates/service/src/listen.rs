//! Binds the ports that URLs name. A service does so before it touches anything on disk.

use synod_rpc::{BindError, Listener};

use crate::config::value::authority;

/// Binds the ports of URLs that [`check_url`](crate::config::value::check_url) returned.
/// `localhost` always is 127.0.0.1, whatever a resolver says.
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
