//! Binds the sockets that URLs name. A service does so before it touches anything on disk.

use synod_rpc::{BindError, Listener, ServerTls, ServerUrl};

/// Binds the URLs, which [`check_url`](crate::config::value::check_url) returned. Those with TLS
/// get `tls`.
///
/// # Errors
/// The first one that can't be bound.
pub fn bind(urls: &[String], tls: Option<&ServerTls>) -> Result<Vec<Listener>, BindError> {
    urls.iter().map(|url| bind_one(url, tls)).collect()
}

fn bind_one(url: &str, tls: Option<&ServerTls>) -> Result<Listener, BindError> {
    let parsed = ServerUrl::parse(url).map_err(|error| BindError::BadAddress {
        address: url.to_owned(),
        reason: error.to_string(),
    })?;
    let listener = Listener::bind_url(&parsed)?;
    match (parsed.is_tls(), tls) {
        (false, _) => Ok(listener),
        (true, Some(tls)) => Ok(listener.with_tls(tls.clone())),
        // Rather no service than one in plaintext.
        (true, None) => Err(BindError::NoTls {
            address: url.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use synod_rpc::Protocol;

    use super::*;

    #[test]
    fn only_urls_with_tls_get_it() {
        let urls = ["http://localhost:0", "https://localhost:0"].map(str::to_owned);
        let error = bind(&urls, None).unwrap_err();
        assert!(matches!(error, BindError::NoTls { .. }), "{error:?}");
        let hosts = ["localhost".to_owned()];
        let tls = ServerTls::self_signed(&hosts, 1, &Protocol::default()).unwrap();
        let bound = bind(&urls, Some(&tls)).unwrap();
        let schemes: Vec<_> = bound
            .iter()
            .map(|listener| listener.url().split(':').next().map(str::to_owned))
            .collect();
        assert_eq!(schemes, [Some("http".to_owned()), Some("https".to_owned())]);
    }
}
