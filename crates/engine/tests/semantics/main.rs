//! What the engine promises when things go wrong: deaths at every journal line, people who interrupt, facts that change,
//! disks that fill up, and secrets that must not leak.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test says what went wrong by ending")]

mod disasters;
mod facts;
mod flight;
mod hands;
mod incidents;
mod leases;
mod losses;
mod people;
mod prefixes;
mod secrets;
