//! Parses `--initial-cluster`, the list of the first members.

use std::collections::BTreeMap;

use synod_service::config::value::check_url;

/// The peer URLs of each member, in the order of the members' names.
pub type InitialCluster = BTreeMap<String, Vec<String>>;

/// Parses `name=url,name=url,...`. A member with several URLs appears several times.
///
/// # Errors
/// Says what is wrong.
pub(super) fn parse(text: &str) -> Result<InitialCluster, String> {
    const EXPECTED: &str = "name=http://host:port,name=http://host:port,...";
    let mut cluster = InitialCluster::new();
    let parts = text.split(',').map(str::trim).filter(|p| !p.is_empty());
    for part in parts {
        let (name, url) = part.split_once('=').ok_or(EXPECTED)?;
        if name.is_empty() {
            return Err(EXPECTED.to_owned());
        }
        let url = check_url(url).map_err(|why| format!("{EXPECTED}; {why}"))?;
        if cluster.values().flatten().any(|known| *known == url) {
            return Err(format!("each URL once; {url} is listed twice"));
        }
        cluster.entry(name.to_owned()).or_default().push(url);
    }
    for urls in cluster.values_mut() {
        urls.sort();
    }
    Ok(cluster)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_list_groups_urls_by_name() {
        let cluster = parse("b=http://b:2,a=http://a:2,a=http://a:1").unwrap();
        assert_eq!(cluster["a"], ["http://a:1", "http://a:2"]);
        assert_eq!(cluster["b"], ["http://b:2"]);
        for bad in ["a", "=http://a:1", "a=http://a:1,b=http://a:1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
