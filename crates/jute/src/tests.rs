//! Tests of the encoding.

mod damage;
mod frames;
mod golden;
mod round_trip;
mod strategies;
