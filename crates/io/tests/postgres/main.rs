//! The door to PostgreSQL, against real servers of several versions.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests look at real files and start real programs")]

mod capture;
mod connect;
mod fence;
mod helpers;
mod look;
mod mirror;
mod plain;
mod proofs;
mod restore;
mod schema_swap;
mod supabase;
mod swap;
mod untouched;
// The floors do not let this crate know the testkit, so the file itself is shared.
#[path = "../../../testkit/src/postgres.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod servers;
