use super::*;

fn grant(perms: Perms, scheme: &str, id: &str) -> Acl {
    let id = Id::new(scheme, id);
    Acl { perms, id }
}

fn may(list: &[Acl], perms: Perms, caller: &[Id]) -> bool {
    check(list, perms, caller).is_ok()
}

#[test]
fn the_digest_is_that_of_zookeeper() {
    // From ZooKeeper's own documentation of DigestAuthenticationProvider.
    assert_eq!(
        digest("super:test"),
        Id::new("digest", "super:D/InIHSb7yEEbrWz8b9l71RjZJU=")
    );
}

#[test]
fn only_granted_permissions_count() {
    let list = [
        Acl::world(Perms::READ),
        grant(Perms::WRITE, "digest", "u:h"),
    ];
    let user = [Id::new("digest", "u:h")];
    assert!(may(&list, Perms::READ, &[]));
    assert!(!may(&list, Perms::WRITE, &[]));
    assert!(may(&list, Perms::WRITE, &user));
    assert!(!may(&list, Perms::ADMIN, &user));
    assert!(!may(&list, Perms::WRITE, &[Id::new("digest", "u:other")]));
    assert!(!may(&list, Perms::WRITE, &[Id::new("x509", "u:h")]));
    assert!(may(&list, Perms::ADMIN, &[Id::new("super", "")]));
    assert!(may(&[], Perms::ADMIN, &[]), "no list, no limits");
}

#[test]
fn an_address_matches_its_network() {
    let matches = |granted: &str, client: &str| {
        let list = [grant(Perms::ALL, "ip", granted)];
        may(&list, Perms::READ, &[Id::new("ip", client)])
    };
    assert!(matches("10.0.0.1", "10.0.0.1"));
    assert!(!matches("10.0.0.1", "10.0.0.2"));
    assert!(matches("10.0.0.0/8", "10.1.2.3"));
    assert!(!matches("10.0.0.0/8", "11.1.2.3"));
    assert!(matches("10.128.0.0/9", "10.129.2.3"));
    assert!(!matches("10.128.0.0/9", "10.127.2.3"));
    assert!(matches("1.2.3.4/0", "9.9.9.9"));
    assert!(matches("::1", "0:0:0:0:0:0:0:1"));
    assert!(matches("fe80::/10", "fe80::1"));
    assert!(!matches("fe80::/10", "ff80::1"));
    assert!(!matches("::/0", "1.2.3.4"), "of the other kind");
}

#[test]
fn sasl_super_is_everyone() {
    let list = [grant(Perms::READ, "sasl", "alice")];
    assert!(may(&list, Perms::READ, &[Id::new("sasl", "alice")]));
    assert!(may(&list, Perms::READ, &[Id::new("sasl", "super")]));
    assert!(!may(&list, Perms::WRITE, &[Id::new("sasl", "super")]));
    assert!(!may(&list, Perms::READ, &[Id::new("sasl", "bob")]));
}

#[test]
fn invalid_ids_are_refused() {
    let is_valid = |scheme, id| expand(&[grant(Perms::ALL, scheme, id)], &[]).is_ok();
    for (scheme, id) in [
        ("world", "anyone"),
        ("digest", "u:h"),
        ("digest", ":h"),
        ("digest", "u:h::"),
        ("ip", "1.2.3.4"),
        ("ip", "1.2.3.4/0"),
        ("ip", "1.2.3.4/32"),
        ("ip", "::1/128"),
        ("sasl", "alice"),
        ("sasl", "zk/host@REALM"),
        ("sasl", "a/b/c"),
        ("x509", "CN=a,O=\"b, c\""),
        ("x509", "CN=a\\,b+OU=c"),
        ("x509", ""),
    ] {
        assert!(is_valid(scheme, id), "{scheme}:{id}");
    }
    for (scheme, id) in [
        ("world", "someone"),
        ("super", ""),
        ("nobody", "x"),
        ("", ""),
        ("digest", ""),
        ("digest", "u"),
        ("digest", "u:"),
        ("digest", "u:h:x"),
        ("ip", "1.2.3"),
        ("ip", "1.2.3.256"),
        ("ip", "1.2.3.4/33"),
        ("ip", "1.2.3.4/-1"),
        ("ip", "1.2.3.4/"),
        ("ip", "::1/129"),
        ("ip", "::1.2.3.4"),
        ("ip", "host"),
        ("sasl", "a/b/c@R"),
        ("sasl", "a@b@c"),
        ("x509", "alice"),
        ("x509", "CN=a,b"),
        ("x509", "CN=\"a"),
        ("x509", "CN=a\\"),
    ] {
        assert!(!is_valid(scheme, id), "{scheme}:{id}");
    }
    assert_eq!(expand(&[], &[]), Err(OpError::InvalidAcl));
}

#[test]
fn auth_stands_for_all_that_the_caller_proved() {
    let caller = [
        Id::new("ip", "1.2.3.4"),
        Id::new("digest", "u:h"),
        Id::new("super", ""),
        Id::new("sasl", "alice"),
    ];
    let list = [grant(Perms::READ, "auth", "")];
    assert_eq!(
        expand(&list, &caller),
        Ok(vec![
            grant(Perms::READ, "digest", "u:h"),
            grant(Perms::READ, "sasl", "alice"),
        ])
    );
    assert_eq!(expand(&list, &caller[..1]), Err(OpError::InvalidAcl));
}

#[test]
fn duplicates_are_dropped() {
    let list = [
        Acl::world(Perms::READ),
        Acl::world(Perms::WRITE),
        Acl::world(Perms::READ),
    ];
    assert_eq!(expand(&list, &[]), Ok(list[..2].to_vec()));
}

#[test]
fn hashes_are_hidden_from_those_without_admin() {
    let list = [
        grant(Perms::ADMIN, "digest", "u:h"),
        Acl::world(Perms::READ),
    ];
    let admin = [Id::new("digest", "u:h")];
    assert_eq!(visible(&list, &admin), Ok(list.to_vec()));
    let hidden = [grant(Perms::ADMIN, "digest", "u:x"), list[1].clone()];
    assert_eq!(visible(&list, &[]), Ok(hidden.to_vec()));
    assert_eq!(visible(&list[..1], &[]), Err(OpError::NoAuth));
}

#[test]
fn a_list_is_stored_once_and_forgotten_with_its_last_node() {
    let mut cache = AclCache::default();
    let open = cache.acquire(&Acl::open());
    assert_eq!(cache.acquire(&Acl::open()), open);
    let other = cache.acquire(&[Acl::world(Perms::READ)]);
    assert_eq!(cache.len(), 2);
    cache.release(open);
    assert_eq!(cache.len(), 2);
    cache.release(open);
    assert_eq!(cache.len(), 1);
    assert_eq!(**cache.get(other), [Acl::world(Perms::READ)]);
    assert_eq!(cache.acquire(&Acl::open()), open, "the place is used again");
}

#[test]
fn a_list_is_bounded_after_its_expansion() {
    let user = |n: usize| Id::new("digest", &format!("u{n}:h"));
    let users = |count| -> Vec<Id> { (0..count).map(user).collect() };
    let list = |count| -> Vec<Acl> {
        let perms = Perms::READ;
        users(count)
            .into_iter()
            .map(|id| Acl { perms, id })
            .collect()
    };
    let most = MAX_ACL_ENTRIES;
    assert_eq!(expand(&list(most), &[]), Ok(list(most)));
    assert_eq!(expand(&list(most + 1), &[]), Err(OpError::InvalidAcl));
    let twice = [list(most), list(most)].concat();
    assert_eq!(expand(&twice, &[]), Ok(list(most)), "without duplicates");

    let auth = |count: i32| -> Vec<Acl> {
        let perms = (0..count).map(Perms::new);
        perms.map(|perms| grant(perms, "auth", "")).collect()
    };
    assert_eq!(expand(&auth(16), &users(16)).unwrap().len(), 256);
    assert_eq!(expand(&auth(17), &users(16)), Err(OpError::InvalidAcl));

    let long = |bytes| [grant(Perms::READ, "sasl", &"x".repeat(bytes))];
    let room = MAX_ACL_BYTES - long(0)[0].encoded_bytes();
    expand(&long(room), &[]).unwrap();
    assert_eq!(expand(&long(room + 1), &[]), Err(OpError::InvalidAcl));
}
