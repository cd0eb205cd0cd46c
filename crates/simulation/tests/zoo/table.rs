//! The table of docs/bug-zoo.md. It is generated from the test's results, the mutants'
//! documentation, and the places in the code that use them. `SYNOD_BLESS=1` rewrites it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Exhibit, Found, Hunt};

const BEGIN: &str = "<!-- begin: written by crates/simulation/tests/zoo.rs -->\n";
const END: &str = "<!-- end -->\n";
/// The crates that use mutants, and their names in the table. The core's paths are used as they
/// are.
const CRATES: [(&str, &str); 4] = [
    ("consensus-core", ""),
    ("log", "log: "),
    ("replica-core", "replica-core: "),
    ("simulation", "simulation: "),
];

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Number and description of each mutant, from its documentation.
fn descriptions() -> BTreeMap<String, (String, String)> {
    let source = fs::read_to_string(crates().join("consensus-core/src/mutants.rs")).unwrap();
    let mut descriptions = BTreeMap::new();
    let mut comment = String::new();
    for line in source.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("/// ") {
            comment = format!("{comment} {text}");
            continue;
        }
        if let Some(name) = line.strip_suffix(',')
            && let Some((number, text)) = comment.trim().split_once(": ")
        {
            let text = text.trim_end_matches('.').to_owned();
            descriptions.insert(name.to_owned(), (number.to_owned(), text));
        }
        comment.clear();
    }
    descriptions
}

/// Collects the Rust files below `dir`, by path.
fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut entries: Vec<PathBuf> = entries.collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The files that use each mutant.
fn places() -> BTreeMap<String, Vec<String>> {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, label) in CRATES {
        let root = crates().join(name).join("src");
        let mut files = Vec::new();
        sources(&root, &mut files);
        for file in files {
            let path = file.strip_prefix(&root).unwrap().display().to_string();
            if path == "mutants.rs" {
                continue;
            }
            let source = fs::read_to_string(&file).unwrap();
            let mut rest = source.as_str();
            while let Some((_, after)) = rest.split_once("Mutant::") {
                rest = after;
                let end = after.find(|letter: char| !letter.is_alphanumeric());
                let mutant = &after[..end.unwrap_or(after.len())];
                let list = places.entry(mutant.to_owned()).or_default();
                let place = format!("{label}{path}");
                if !list.contains(&place) {
                    list.push(place);
                }
            }
        }
    }
    places
}

fn table(exhibits: &[Exhibit], found: &[Found]) -> String {
    let (descriptions, places) = (descriptions(), places());
    let mut table = String::from(
        "| | Mutant | Where | Engine | Found by | Seeds | At most | Place |\n|---|---|---|---|---|---|---|---|\n",
    );
    for ((mutant, algorithm, hunt, _, within), found) in exhibits.iter().zip(found) {
        let name = format!("{mutant:?}");
        let (number, text) = &descriptions[&name];
        let places = places[&name].join(", ");
        let place = match hunt {
            Hunt::Storm(flavour) => flavour.to_string(),
            Hunt::Cut(topology, _) => format!("cut: {topology}"),
        };
        let (by, seeds) = (found.by, found.seeds);
        writeln!(
            table,
            "| {number} | `{name}`: {text} | {places} | {algorithm} | `{by}` | {seeds} | {within} | {place} |"
        )
        .unwrap();
    }
    table
}

/// Checks that the document shows the results.
pub(super) fn check(exhibits: &[Exhibit], found: &[Found]) {
    let file = crates().join("../docs/bug-zoo.md");
    let text = fs::read_to_string(&file).unwrap();
    let (before, rest) = text
        .split_once(BEGIN)
        .expect("docs/bug-zoo.md has no table");
    let (shown, after) = rest.split_once(END).expect("the table has no end");
    let table = table(exhibits, found);
    if std::env::var_os("SYNOD_BLESS").is_some() {
        fs::write(&file, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
        return;
    }
    assert!(
        shown == table,
        "docs/bug-zoo.md does not match the results: run this test with SYNOD_BLESS=1"
    );
}
