//! Access control lists as `zkCli.sh` writes them: `world:anyone:r,digest:USER:HASH:cdrwa`.

use synod_jute::{Acl, permission};

/// The letters of the permissions, in ZooKeeper's order.
const LETTERS: [(char, i32); 5] = [
    ('c', permission::CREATE),
    ('d', permission::DELETE),
    ('r', permission::READ),
    ('w', permission::WRITE),
    ('a', permission::ADMIN),
];

/// Entries, separated by commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct List(pub(super) Vec<Acl>);

impl std::str::FromStr for List {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',')
            .map(entry)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

fn entry(text: &str) -> Result<Acl, String> {
    let wrong = || format!("`{text}` is not SCHEME:ID:PERMISSIONS");
    let (scheme, rest) = text.split_once(':').ok_or_else(wrong)?;
    let (id, letters) = rest.rsplit_once(':').ok_or_else(wrong)?;
    let mut permissions = 0;
    for letter in letters.chars() {
        let found = LETTERS.iter().find(|(known, _)| *known == letter);
        let (_, bit) = found.ok_or_else(|| {
            format!("`{text}`: the permissions are letters of `cdrwa`, not `{letter}`")
        })?;
        permissions |= bit;
    }
    Ok(Acl::new(permissions, scheme, id))
}

/// An entry in the same form.
pub(super) fn print(acl: &Acl) -> String {
    let scheme = acl.id.scheme.as_deref().unwrap_or_default();
    let id = acl.id.id.as_deref().unwrap_or_default();
    format!("{scheme}:{id}:{}", letters(acl.perms))
}

/// The letters of permissions.
pub(super) fn letters(permissions: i32) -> String {
    let granted = LETTERS.iter().filter(|(_, bit)| permissions & bit != 0);
    granted.map(|(letter, _)| letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_written_as_they_are_read() {
        let text = "world:anyone:r,digest:joe:a+/=:cdrwa,ip:::1:cw,auth::d";
        let list: List = text.parse().unwrap();
        let printed: Vec<String> = list.0.iter().map(print).collect();
        assert_eq!(printed.join(","), text);
        assert_eq!(list.0[0], Acl::new(permission::READ, "world", "anyone"));
        assert_eq!(list.0[2].id, synod_jute::Id::new("ip", "::1"));
        for wrong in ["", "world", "world:anyone", "world:anyone:x", "a:b:r,"] {
            assert!(wrong.parse::<List>().is_err(), "{wrong}");
        }
    }
}
