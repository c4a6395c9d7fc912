//! A throwaway world for tests, harnesses that break things on purpose, and the rules that hold the house together.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what went wrong by ending"
)]

pub mod app;
pub mod code;
pub mod databases;
pub mod delivered;
pub mod postgres;
pub mod prove;
pub mod proxy;
pub mod shim;
pub mod simulation;
pub mod tidy;
pub mod trouble;
pub mod world;

pub use prove::prove_plan;
pub use trouble::Trouble;
pub use world::World;
