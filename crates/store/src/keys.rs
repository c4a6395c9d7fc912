//! Which requests over HTTP were asked under which `Idempotency-Key`, so that one that is sent again is not done twice, also
//! when the daemon was started anew in between. A key is on disk before its operation is, and names the plan: a key whose
//! plan never became an operation counts as none.

use std::path::{Path, PathBuf};

use lifeboat_io::{PathError, files};
use lifeboat_model::{OperationId, PlanId, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Keys that are remembered; the oldest goes first.
const KEYS_MAX: usize = 1_000;

/// A key as it is kept. What was asked is kept as a digest: it may hold anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptKey {
    /// Who asked.
    pub caller: String,
    /// The key.
    pub key: String,
    /// SHA-256 of the body, hex.
    pub body_sha256: String,
    /// The plan that was made of it.
    pub plan: PlanId,
    /// The operation that the plan became; nothing when the daemon ended before it could say so.
    pub operation: Option<OperationId>,
    /// Since when.
    pub at: Timestamp,
}

/// What the list of keys could not do.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum KeyError {
    #[error("the list of Idempotency-Keys cannot be used")]
    Path(#[from] PathError),
    #[error("the list of Idempotency-Keys {} cannot be read", path.display())]
    Json { path: PathBuf, source: serde_json::Error },
}

/// The list of keys.
#[derive(Clone, Debug)]
pub struct Keys {
    path: PathBuf,
}

impl Keys {
    /// The list in that file; it need not be there yet.
    pub fn at(path: &Path) -> Keys {
        Keys { path: path.to_owned() }
    }

    /// What a caller asked under a key.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn find(&self, caller: &str, key: &str) -> Result<Option<KeptKey>, KeyError> {
        Ok(self.list()?.into_iter().rev().find(|kept| kept.caller == caller && kept.key == key))
    }

    /// Remembers a key, in the place of what the caller asked under it before.
    ///
    /// # Errors
    /// When the list cannot be read or written.
    pub fn put(&self, kept: KeptKey) -> Result<(), KeyError> {
        let mut all = self.list()?;
        all.retain(|known| (&known.caller, &known.key) != (&kept.caller, &kept.key));
        all.push(kept);
        all.drain(..all.len().saturating_sub(KEYS_MAX));
        let body = serde_json::to_vec(&all).map_err(|source| KeyError::Json { path: self.path.clone(), source })?;
        Ok(files::write_with_mode(&self.path, &body, 0o600)?)
    }

    fn list(&self) -> Result<Vec<KeptKey>, KeyError> {
        if !files::exists(&self.path) {
            return Ok(Vec::new());
        }
        let body = files::read(&self.path)?;
        serde_json::from_slice(&body).map_err(|source| KeyError::Json { path: self.path.clone(), source })
    }
}

/// What is kept of a body.
pub fn digest_of(body: &[u8]) -> String {
    hex::encode(Sha256::digest(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_the_caller_s_own_and_the_oldest_goes_first() {
        let home = tempfile::tempdir().unwrap();
        let keys = Keys::at(&home.path().join("keys.json"));
        let kept = |caller: &str, key: &str, body: &str| KeptKey {
            caller: caller.to_owned(),
            key: key.to_owned(),
            body_sha256: digest_of(body.as_bytes()),
            plan: PlanId::parse("p-0123456789").unwrap(),
            operation: None,
            at: "2026-01-01T00:00:00Z".parse().unwrap(),
        };
        assert_eq!(keys.find("ops", "k").unwrap(), None);
        keys.put(kept("ops", "k", "secret")).unwrap();
        keys.put(kept("wall", "k", "other")).unwrap();
        assert_eq!(keys.find("ops", "k").unwrap(), Some(kept("ops", "k", "secret")));
        assert!(!files::read_text(&keys.path).unwrap().contains("secret"));
        keys.put(kept("ops", "k", "again")).unwrap();
        assert_eq!(keys.list().unwrap().len(), 2, "in its place");
        for number in 0..KEYS_MAX {
            keys.put(kept("ops", &number.to_string(), "")).unwrap();
        }
        assert_eq!(keys.list().unwrap().len(), KEYS_MAX);
        assert_eq!(keys.find("wall", "k").unwrap(), None);
        files::write(&keys.path, b"[").unwrap();
        assert!(matches!(keys.find("ops", "k"), Err(KeyError::Json { .. })), "what cannot be read is not empty");
    }
}
