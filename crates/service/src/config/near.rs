//! Suggestions for a mistyped flag.

/// Up to three of `names` that resemble `name`, the most similar first.
pub(super) fn near(name: &str, names: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
    let limit = (name.len() / 3).max(2);
    let mut close: Vec<(usize, &'static str)> = names
        .filter_map(|known| {
            let distance = if known.contains(name) && name.len() >= 4 {
                1
            } else {
                edit_distance(name, known)
            };
            (distance <= limit).then_some((distance, known))
        })
        .collect();
    close.sort_unstable();
    close.into_iter().take(3).map(|(_, name)| name).collect()
}

/// The Levenshtein distance.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_matches_are_few_and_close() {
        let names = ["listen-client-urls", "listen-peer-urls", "data-dir", "name"];
        let near = |name| near(name, names.into_iter());
        assert_eq!(near("listen-client-url")[0], "listen-client-urls");
        assert_eq!(near("datadir")[0], "data-dir");
        assert!(near("zzzzzzzzzzzz").is_empty());
        assert_eq!(edit_distance("kitten", "sitting"), 3);
    }
}
