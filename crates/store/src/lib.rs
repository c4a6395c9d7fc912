//! What we keep: backups in vaults, operations in journals, and an index over both.

pub mod catalog;
pub mod journal;
pub mod keys;
pub mod mirror;
pub mod state;
pub mod tokens;
pub mod vault;

pub use catalog::{Catalog, CatalogError};
pub use journal::{Journal, JournalError, JournalFile};
pub use keys::{KeptKey, KeyError, Keys};
pub use mirror::{MirrorError, MirrorMemory, NewLetter};
pub use state::StateFolder;
pub use tokens::{KeptToken, Role, TokenError, Tokens};
