//! Checks whether the history of one key is linearizable (Herlihy and Wing), with the search of
//! Wing and Gong. The simulation and the whole-process tests use it.
//!
//! Each key is a register that is initially empty. The verdict is correct as long as no two writes
//! write the same value. The crate neither generates histories nor truncates long ones. In the
//! worst case the search is exponential.

mod register;

pub use register::{Record, Seen, Verdict, check, check_within};
