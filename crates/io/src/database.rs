//! Doors to databases. Each kind has its own file; what they find is told in the words of `lifeboat_model::manifest`.

pub mod postgres;
pub mod sqlite;
