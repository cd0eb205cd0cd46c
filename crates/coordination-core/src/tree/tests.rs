use super::encoding::{Content, Record};
use super::load::MAX_PAGES;
use super::*;
use crate::acl::Perms;
use crate::stat::Owner;
use crate::{DecodeError, LoadError};

fn tree() -> Tree {
    Tree::new(7, &Acl::open())
}

fn add(tree: &mut Tree, parent: NodeId, name: &str, bytes: usize) -> NodeId {
    let acl = tree.acquire_acl(&Acl::open());
    let body = Body::new(name, Some(&vec![b'x'; bytes]));
    tree.insert(parent, body, acl, Fields::default())
}

fn remove(tree: &mut Tree, id: NodeId) {
    let node = tree.detach(id);
    tree.release_acl(node.acl);
}

fn page_of(tree: &Tree, id: NodeId) -> u32 {
    tree.node(id).page
}

fn changed(tree: &mut Tree, since: Zxid) -> Vec<PageId> {
    tree.start_checkpoint(Some(since));
    let pages = std::iter::from_fn(|| tree.next_page()).map(|write| write.page);
    let pages = pages.collect();
    tree.end_checkpoint();
    pages
}

#[test]
fn children_are_found_and_listed() {
    let mut tree = tree();
    let a = add(&mut tree, NodeId::ROOT, "a", 0);
    let ids: Vec<_> = (0..3)
        .map(|n| add(&mut tree, a, &n.to_string(), 0))
        .collect();
    let deep = add(&mut tree, ids[1], "1", 0);
    assert_eq!(tree.find("/a/1/1"), Ok(deep));
    assert_eq!(tree.path(deep), "/a/1/1");
    assert_eq!(tree.path(NodeId::ROOT), "/");
    let names = |tree: &Tree, id| -> Vec<String> {
        tree.children(id)
            .map(|id| tree.node(id).body.name().to_owned())
            .collect()
    };
    assert_eq!(names(&tree, a), ["2", "1", "0"]);
    assert_eq!(tree.descendants(a).count(), 4);
    remove(&mut tree, deep);
    remove(&mut tree, ids[1]);
    assert_eq!(names(&tree, a), ["2", "0"]);
    remove(&mut tree, ids[2]);
    assert_eq!(names(&tree, a), ["0"]);
    remove(&mut tree, ids[0]);
    assert_eq!(names(&tree, a), [""; 0]);
    assert_eq!(tree.find("/a/1"), Err(OpError::NoNode));
    assert_eq!(tree.node(a).children(), 0);
}

#[test]
fn the_lowest_free_id_is_taken() {
    let mut tree = tree();
    let ids: Vec<_> = (0..300)
        .map(|n| add(&mut tree, NodeId::ROOT, &n.to_string(), 0))
        .collect();
    assert_eq!(ids[299], NodeId::new(300));
    for id in [250, 5, 131] {
        remove(&mut tree, NodeId::new(id));
    }
    let next: Vec<_> = ["a", "b", "c", "d"]
        .map(|n| add(&mut tree, NodeId::ROOT, n, 0))
        .into();
    assert_eq!(next, [5, 131, 250, 301].map(NodeId::new));
    // A chunk without nodes gives its memory back, and its ids are used again.
    for id in 128..256 {
        remove(&mut tree, NodeId::new(id));
    }
    assert_eq!(add(&mut tree, NodeId::ROOT, "e", 0), NodeId::new(128));
}

#[test]
fn nodes_fill_the_first_page_with_room() {
    let mut tree = tree();
    let ids: Vec<_> = (0..1000)
        .map(|n| add(&mut tree, NodeId::ROOT, &n.to_string(), 100))
        .collect();
    let pages: Vec<_> = ids.iter().map(|&id| page_of(&tree, id)).collect();
    assert!(pages.is_sorted());
    let last = pages[999];
    assert!(
        (3..6).contains(&last),
        "{last} pages for 1000 nodes of about 220 bytes"
    );
    // Room in the first page is used first.
    for &id in &ids[10..20] {
        remove(&mut tree, id);
    }
    let id = add(&mut tree, NodeId::ROOT, "new", 100);
    assert_eq!(page_of(&tree, id), 0);
}

#[test]
fn a_change_dirties_the_pages_of_node_and_parent() {
    let mut tree = tree();
    let mut last = NodeId::ROOT;
    for n in 0..5000 {
        last = add(&mut tree, NodeId::ROOT, &n.to_string(), 100);
    }
    tree.begin(Zxid::new(1));
    assert_eq!(changed(&mut tree, Zxid::new(0)), []);
    tree.edit(last).version = 1;
    let page = PageId::Nodes(page_of(&tree, last));
    assert_eq!(changed(&mut tree, Zxid::new(0)), [page]);
    tree.edit(NodeId::ROOT).counter = 1;
    assert_eq!(changed(&mut tree, Zxid::new(0)), [PageId::Nodes(0), page]);
    assert_eq!(changed(&mut tree, Zxid::new(1)), []);
}

#[test]
fn a_growing_node_leaves_its_page() {
    let mut tree = tree();
    let ids: Vec<_> = (0..100)
        .map(|n| add(&mut tree, NodeId::ROOT, &n.to_string(), 100))
        .collect();
    let big = |name: &str| Body::new(name, Some(&[1; 60_000]));
    tree.replace_body(ids[0], big("0"));
    assert_eq!(page_of(&tree, ids[0]), 0, "there is room");
    tree.replace_body(ids[1], big("1"));
    assert_ne!(page_of(&tree, ids[1]), 0);
    let huge = add(&mut tree, NodeId::ROOT, "huge", 2_000_000);
    let small = add(&mut tree, NodeId::ROOT, "small", 0);
    let (huge_page, small_page) = (page_of(&tree, huge), page_of(&tree, small));
    assert_ne!(huge_page, small_page, "a large node has a page of its own");
    for page in 0..=huge_page.max(small_page) {
        let bytes = tree.encode_page(page).len();
        assert!(
            bytes < 150_000 || page == huge_page,
            "page {page} has {bytes} bytes"
        );
    }
    assert!(Part::split(&tree.encode_page(huge_page)).len() == 4);
}

#[test]
fn a_page_is_no_longer_than_its_records_are_said_to_be() {
    let mut tree = tree();
    let acl = [Acl::world(Perms::READ), Acl::world(Perms::WRITE)];
    for n in 0..200 {
        let acl = tree.acquire_acl(&acl[..n % 3]);
        let fields = Fields {
            owner: Owner::Ttl { ttl_ms: 1 },
            ..Fields::default()
        };
        let id = tree.insert(
            NodeId::ROOT,
            Body::new(&n.to_string(), Some(&[])),
            acl,
            fields,
        );
        assert_eq!(page_of(&tree, id), 0);
    }
    let bound: u64 = tree.ids().map(|id| tree.record_bytes(id)).sum();
    assert!(tree.encode_page(0).len() as u64 <= bound + 32);
}

#[test]
fn a_page_depends_on_its_nodes_alone() {
    let mut one = tree();
    let first = add(&mut one, NodeId::ROOT, "other", 0);
    add(&mut one, NodeId::ROOT, "b", 0);
    remove(&mut one, first);
    add(&mut one, NodeId::ROOT, "a", 0);
    let mut two = tree();
    add(&mut two, NodeId::ROOT, "a", 0);
    add(&mut two, NodeId::ROOT, "b", 0);
    assert_eq!(one.encode_page(0), two.encode_page(0));
}

#[test]
fn an_emptied_page_is_deleted_and_used_again() {
    let mut tree = tree();
    let huge = add(&mut tree, NodeId::ROOT, "huge", 100_000);
    let page = page_of(&tree, huge);
    assert_eq!(page, 1);
    tree.begin(Zxid::new(1));
    remove(&mut tree, huge);
    tree.start_checkpoint(Some(Zxid::new(0)));
    let write = tree.next_page().unwrap();
    assert_eq!((write.page, write.parts.len()), (PageId::Nodes(page), 0));
    assert_eq!(
        tree.next_page(),
        None,
        "the root's own fields did not change"
    );
    let again = add(&mut tree, NodeId::ROOT, "again", 100_000);
    assert_eq!(page_of(&tree, again), page);
}

fn record(id: u32, parent: NodeId, name: &str) -> Record<'_> {
    Record {
        id: NodeId::new(id),
        parent,
        acl: 0,
        fields: Fields::default(),
        name,
        data: None,
    }
}

fn content(records: Vec<Record<'_>>) -> Vec<u8> {
    let content = Content {
        page: PageId::Nodes(0),
        modified: Zxid::new(1),
        acls: vec![Acl::open().into()],
        records,
    };
    content.encode()
}

fn load(records: Vec<Record<'_>>) -> Result<Tree, LoadError> {
    let mut loader = TreeLoader::new(0);
    loader.add(0, &content(records)).unwrap();
    loader.finish()
}

#[test]
fn contradictory_pages_are_refused() {
    let root = || record(0, NodeId::NONE, "");
    let one = NodeId::new(1);
    let tree = load(vec![
        record(1, NodeId::ROOT, "a"),
        root(),
        record(2, one, "b"),
    ])
    .unwrap();
    assert_eq!(tree.find("/a/b"), Ok(NodeId::new(2)));
    let message = |records| match load(records) {
        Err(LoadError::Inconsistent(message)) => message,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        message(vec![record(1, NodeId::ROOT, "a")]),
        "a node without a parent"
    );
    assert_eq!(
        message(vec![root(), record(1, NodeId::new(9), "a")]),
        "a node without a parent"
    );
    assert_eq!(
        message(vec![root(), record(1, NodeId::NONE, "a")]),
        "a node without a parent"
    );
    assert_eq!(
        message(vec![root(), record(1, NodeId::ROOT, "")]),
        "a node without a parent"
    );
    assert_eq!(
        message(vec![record(0, NodeId::ROOT, "a")]),
        "a node without a parent"
    );
    let twice = vec![
        root(),
        record(1, NodeId::ROOT, "a"),
        record(2, NodeId::ROOT, "a"),
    ];
    assert_eq!(message(twice), "two nodes with one path");
    let cycle = vec![root(), record(1, NodeId::new(2), "a"), record(2, one, "a")];
    assert_eq!(message(cycle), "nodes that the root doesn't reach");
    assert_eq!(
        TreeLoader::new(0).finish().unwrap_err(),
        LoadError::Inconsistent("no root")
    );
}

#[test]
fn impossible_records_are_refused() {
    let add = |records, page| TreeLoader::new(0).add(page, &content(records)).unwrap_err();
    let root = || record(0, NodeId::NONE, "");
    assert_eq!(
        add(vec![root(), root()], 0),
        DecodeError::Invalid("node id")
    );
    assert_eq!(
        add(vec![record(u32::MAX, NodeId::ROOT, "a")], 0),
        DecodeError::Invalid("node id")
    );
    assert_eq!(add(vec![root()], 1), DecodeError::Invalid("page id"));
    assert_eq!(add(Vec::new(), 0), DecodeError::Invalid("page id"));
    let slash = add(vec![record(1, NodeId::ROOT, "a/b")], 0);
    assert_eq!(slash, DecodeError::Invalid("node name"));
    let unlisted = Record { acl: 1, ..root() };
    assert_eq!(add(vec![unlisted], 0), DecodeError::Invalid("acl"));
    let bytes = content(vec![root()]);
    for len in 0..bytes.len() {
        assert!(
            TreeLoader::new(0).add(0, &bytes[..len]).is_err(),
            "{len} bytes"
        );
    }
    for place in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[place] ^= 0xff;
        // The checksum is the part's. Without it, damage must not panic.
        let _ = TreeLoader::new(0).add(0, &damaged);
    }
}

#[test]
fn large_numbers_take_no_memory() {
    let mut loader = TreeLoader::new(0);
    let mut far = content(vec![record(0, NodeId::NONE, "")]);
    let last = MAX_PAGES - 1;
    // Behind the version and the kind of page.
    far[2..6].copy_from_slice(&last.to_le_bytes());
    loader.add(last, &far).unwrap();
    let mut tree = loader.finish().unwrap();
    assert_eq!(tree.pages.allocated(), 64);
    // New nodes go where they go on a pod that had all the pages.
    let a = add(&mut tree, NodeId::ROOT, "a", 100_000);
    assert_eq!(page_of(&tree, a), 0);
    assert_eq!(tree.pages.live().collect::<Vec<_>>().len(), 2);
    let b = add(&mut tree, a, "b", 10);
    assert_eq!(page_of(&tree, b), last, "the first with room");
}
