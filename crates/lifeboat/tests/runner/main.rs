//! The whole program, run as a person or a script would: one file per command.
#![allow(clippy::disallowed_methods, reason = "tests make the world that the program then finds")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up ends")]

mod adopt;
mod advise;
mod backup;
mod backups;
mod bad_input;
mod card;
mod copies;
mod daemon;
mod decide;
mod document;
mod exits;
mod export;
mod faults;
mod history;
mod home;
mod journal;
mod manual;
mod plans;
mod postgres;
mod postgres_in;
mod postgres_out;
mod postgres_to;
mod postgres_verify;
mod postgres_without;
mod prove;
mod records;
mod reference;
mod rehearsal;
mod restore;
mod retention;
mod salvage;
mod scripts;
mod secrets;
mod serve;
mod service_center;
mod shell;
mod status;
mod strays;
mod sync;
mod undo;
mod unfinished;
mod vault;
mod verify;
mod watch;
