//! Whether what the clients of one key saw is linearizable (Herlihy and Wing), by the search of
//! Wing and Gong. The simulation and the tests of whole processes judge by it.
//!
//! Each key is a register that is empty at first. The crate guarantees a verdict on whatever was
//! recorded, provided that no two writes write the same value. It never makes a history, and never
//! cuts a long one: the worst case of the search is exponential.

mod register;

pub use register::{Record, Seen, Verdict, check, check_within};
