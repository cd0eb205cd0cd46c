//! Whether what the clients of one key saw is linearizable (Herlihy and Wing), by the search of
//! Wing and Gong. The simulation and the tests of whole processes judge by it.
//!
//! The key is a register that begins absent. It guarantees a verdict on whatever was recorded,
//! provided that each write writes a value of its own. It never makes a history, nor cuts a long
//! one: the search is exponential at its worst.

mod register;

pub use register::{Record, Seen, Verdict, check, check_within};
