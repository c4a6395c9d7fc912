//! Settings, passwords, and the three commands around them: init, doctor, config.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests make their worlds out of real files")]

mod config;
mod doctor;
mod examples;
mod init;
mod problems;
mod resolving;
mod secrecy;
mod world;
