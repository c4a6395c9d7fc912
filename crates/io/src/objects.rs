//! Object storage: what a vault lies on. Objects are immutable once put; a driver moves bytes and knows nothing of
//! vaults.

pub mod folder;
pub mod location;
pub mod parts;
pub mod retry;
pub mod s3;

use std::ops::Range;

use bytes::Bytes;

/// A place that keeps named objects. Keys are `/`-separated, relative, plain ASCII.
///
/// Every driver passes the same suite. A driver must: make an object visible whole or not at all; have it durable when
/// `put` returns; report a failed listing as an error, never as a shorter list.
pub trait ObjectStore: Send + Sync + std::fmt::Debug {
    /// Where this is, for people: a path or a URL without secrets.
    fn place(&self) -> String;

    /// Stores an object. An existing one of that key is replaced.
    fn put(&self, key: &str, body: Bytes) -> Result<(), ObjectError>;

    /// Stores an object only if there is none of that key. Says whether it was stored.
    fn put_new(&self, key: &str, body: Bytes) -> Result<bool, ObjectError>;

    /// The whole object.
    fn get(&self, key: &str) -> Result<Bytes, ObjectError>;

    /// A part of the object. A range past its end is an error of kind `Damaged`.
    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, ObjectError>;

    /// The object's size in bytes.
    fn size(&self, key: &str) -> Result<u64, ObjectError>;

    /// All objects whose key begins with `prefix` (a folder, without `/` at its end), in no order.
    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, ObjectError>;

    /// Deletes the object; one that is not there is fine.
    fn delete(&self, key: &str) -> Result<(), ObjectError>;

    /// Whether everybody sees in a listing at once what was put. Only where the driver knows; a listing that may come out of
    /// somebody's memory does not count.
    fn lists_at_once(&self) -> bool {
        false
    }

    /// How an object comes here in parts. Where there is no such way, it comes as a whole.
    fn in_parts(&self) -> Option<&dyn parts::InParts> {
        None
    }

    /// What writers of ours that died left half-written: never listed, never read, of no use. A writer that lives has such
    /// files too, for moments. Only where the driver knows them by names that nobody else gives.
    fn half_written(&self) -> Result<Vec<HalfWritten>, ObjectError> {
        Ok(Vec::new())
    }
}

/// An object that was never finished.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HalfWritten {
    /// Its key; [`ObjectStore::delete`] takes it.
    pub key: String,
    /// Bytes there are of it.
    pub size: u64,
    /// How long ago it was last written to.
    pub age: std::time::Duration,
}

/// An entry of a listing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectInfo {
    /// The whole key.
    pub key: String,
    /// Bytes.
    pub size: u64,
}

/// What a driver could not do. Callers branch on `kind`, never on text.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {key} in {place}")]
pub struct ObjectError {
    /// What it means for the caller.
    pub kind: ObjectErrorKind,
    /// Where.
    pub place: String,
    /// Which object, or which prefix.
    pub key: String,
    /// The verb: `read`, `write`, `list`, `delete`.
    pub doing: &'static str,
    /// What the place said.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// What an object error means for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectErrorKind {
    /// There is no such object, or no such place.
    Missing,
    /// Trying again may help: the network, a busy server.
    Temporary,
    /// No space left.
    Full,
    /// Not allowed.
    Denied,
    /// The place gave something that cannot be right: a short read, a range past the end.
    Damaged,
    /// Anything else.
    Other,
}
