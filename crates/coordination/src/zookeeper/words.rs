//! Four-letter words: short questions of operators, answered as ZooKeeper does.

mod text;

use std::collections::BTreeSet;

use synod_jute::FourLetterWord;

use super::Operators;

/// What ZooKeeper says while it has no quorum.
const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests\n";

/// The words that are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whitelist(BTreeSet<&'static str>);

/// ZooKeeper's default.
impl Default for Whitelist {
    fn default() -> Self {
        Self([FourLetterWord::Srvr.letters()].into())
    }
}

impl Whitelist {
    /// Words separated by commas; `*` is all of them.
    ///
    /// # Errors
    /// Says what was expected.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let words = text.split(',').map(str::trim);
        let mut allowed = BTreeSet::new();
        for word in words.filter(|word| !word.is_empty()) {
            let known = FourLetterWord::ALL.iter().map(|word| word.letters());
            match word {
                "*" => allowed.extend(known),
                _ => {
                    let mut known = known;
                    let found = known.find(|known| *known == word);
                    let expected = || format!("four-letter words, or *; {word} is none");
                    allowed.insert(found.ok_or_else(expected)?);
                }
            }
        }
        Ok(Self(allowed))
    }

    fn has(&self, word: FourLetterWord) -> bool {
        self.0.contains(word.letters())
    }
}

/// The answer to a word.
pub(super) fn answer(word: FourLetterWord, operators: &Operators) -> String {
    let hub = &operators.hub;
    let letters = word.letters();
    if !operators.words.has(word) {
        return format!("{letters} is not executed because it is not in the whitelist.\n");
    }
    match word {
        FourLetterWord::Ruok => "imok".to_owned(),
        FourLetterWord::Isro => "rw".to_owned(),
        FourLetterWord::Conf => text::configuration(operators),
        FourLetterWord::Envi => text::environment(),
        // A pod keeps nothing on disk.
        FourLetterWord::Dirs => "datadir_size: 0\nlogdir_size: 0\n".to_owned(),
        FourLetterWord::Gtmk | FourLetterWord::Stmk | FourLetterWord::Hash => {
            format!("{letters} is not supported by Synod.\n")
        }
        _ if !hub.is_serving() => NOT_SERVING.to_owned(),
        FourLetterWord::Srvr => text::server(operators),
        FourLetterWord::Stat => text::server_and_connections(operators),
        FourLetterWord::Cons => text::connections(hub),
        FourLetterWord::Dump => text::sessions(hub),
        FourLetterWord::Mntr => text::metrics(operators),
        FourLetterWord::Wchs => text::watch_summary(hub),
        FourLetterWord::Wchc => text::watches_by_session(hub),
        FourLetterWord::Wchp => text::watches_by_path(hub),
        FourLetterWord::Srst => {
            hub.reset_statistics();
            "Server stats reset.\n".to_owned()
        }
        FourLetterWord::Crst => {
            hub.reset_connection_statistics();
            "Connection stats reset.\n".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_allowed_by_name_or_all_at_once() {
        let default = Whitelist::default();
        assert!(default.has(FourLetterWord::Srvr) && !default.has(FourLetterWord::Ruok));
        let some = Whitelist::parse("ruok, mntr").unwrap();
        assert!(some.has(FourLetterWord::Mntr) && !some.has(FourLetterWord::Srvr));
        let all = Whitelist::parse("*").unwrap();
        assert!(FourLetterWord::ALL.iter().all(|word| all.has(*word)));
        assert_eq!(Whitelist::parse("").unwrap(), Whitelist([].into()));
        assert!(Whitelist::parse("ruok,nope").unwrap_err().contains("nope"));
    }
}
