//! The four-letter words that an operator can send instead of a connect request.

/// Declares the words.
macro_rules! words {
    ($($(#[$attribute:meta])* $word:ident = $letters:literal,)+) => {
        /// A command of four letters, answered with text, after which the server closes the
        /// connection.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum FourLetterWord {
            $($(#[$attribute])* $word,)+
        }

        impl FourLetterWord {
            /// All words.
            pub const ALL: &'static [Self] = &[$(Self::$word,)+];

            /// Its letters.
            #[must_use]
            pub const fn letters(self) -> &'static str {
                match self {
                    $(Self::$word => $letters,)+
                }
            }
        }
    };
}

words! {
    /// The configuration.
    Conf = "conf",
    /// The connections in detail.
    Cons = "cons",
    /// Reset the statistics of connections.
    Crst = "crst",
    /// The sizes of the data and log directories.
    Dirs = "dirs",
    /// The sessions and their ephemeral nodes.
    Dump = "dump",
    /// The environment of the process.
    Envi = "envi",
    /// The trace mask.
    Gtmk = "gtmk",
    /// The latest digests of the tree.
    Hash = "hash",
    /// Whether the server is in read-only mode.
    Isro = "isro",
    /// Metrics.
    Mntr = "mntr",
    /// Whether the server runs.
    Ruok = "ruok",
    /// Reset the statistics of the server.
    Srst = "srst",
    /// Statistics of the server.
    Srvr = "srvr",
    /// Statistics of the server and its connections.
    Stat = "stat",
    /// Set the trace mask, which follows as eight bytes.
    Stmk = "stmk",
    /// The watches by session.
    Wchc = "wchc",
    /// The watches by path.
    Wchp = "wchp",
    /// The number of watches.
    Wchs = "wchs",
}

impl FourLetterWord {
    /// The word with these letters.
    #[must_use]
    pub fn from_bytes(letters: [u8; 4]) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|word| word.letters().as_bytes() == letters)
    }
}
