//! What Lifeboat keeps: the vault that backups lie in.

pub mod vault;
