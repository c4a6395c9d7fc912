//! Who may use the HTTP API: names, roles, and the SHA-256 of each token. A token is 256 bits of chance, so that its hash
//! needs no salt and no slowness; it is shown once and stored nowhere.

use std::path::{Path, PathBuf};

use lifeboat_io::{PathError, Random, files};
use lifeboat_model::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What somebody may do, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Look.
    Viewer,
    /// Switch and trigger.
    Operator,
    /// Everything, also what takes something away.
    Admin,
}

impl Role {
    /// The role of that name.
    pub fn of(word: &str) -> Option<Role> {
        match word {
            "viewer" => Some(Role::Viewer),
            "operator" => Some(Role::Operator),
            "admin" => Some(Role::Admin),
            _ => None,
        }
    }
}

/// A token as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptToken {
    /// Whose it is.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// SHA-256 of it, hex.
    pub sha256: String,
    /// Since when.
    pub created_at: Timestamp,
}

/// What the list of tokens could not do.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum TokenError {
    #[error("the list of tokens cannot be used")]
    Path(#[from] PathError),
    #[error("the list of tokens {} cannot be read", path.display())]
    Json { path: PathBuf, source: serde_json::Error },
    #[error("there is a token called {name} already")]
    Taken { name: String },
    #[error("there is no token called {name}")]
    Unknown { name: String },
}

/// The list of tokens.
#[derive(Clone, Debug)]
pub struct Tokens {
    path: PathBuf,
}

impl Tokens {
    /// The list in that file; it need not be there yet.
    pub fn at(path: &Path) -> Tokens {
        Tokens { path: path.to_owned() }
    }

    /// All of them.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn list(&self) -> Result<Vec<KeptToken>, TokenError> {
        if !files::exists(&self.path) {
            return Ok(Vec::new());
        }
        let body = files::read(&self.path)?;
        serde_json::from_slice(&body).map_err(|source| TokenError::Json { path: self.path.clone(), source })
    }

    /// Makes a token, and gives it away: it cannot be shown again.
    ///
    /// # Errors
    /// When there is one of that name, or the list cannot be written.
    pub fn add(&self, name: &str, role: Role, random: &dyn Random, at: Timestamp) -> Result<String, TokenError> {
        let mut all = self.list()?;
        if all.iter().any(|known| known.name == name) {
            return Err(TokenError::Taken { name: name.to_owned() });
        }
        let token =
            format!("lb_{:016x}{:016x}{:016x}{:016x}", random.bits(), random.bits(), random.bits(), random.bits());
        all.push(KeptToken { name: name.to_owned(), role, sha256: digest(&token), created_at: at });
        self.write(&all)?;
        Ok(token)
    }

    /// Makes a token worthless.
    ///
    /// # Errors
    /// When there is none of that name, or the list cannot be written.
    pub fn revoke(&self, name: &str) -> Result<(), TokenError> {
        let mut all = self.list()?;
        let before = all.len();
        all.retain(|known| known.name != name);
        if all.len() == before {
            return Err(TokenError::Unknown { name: name.to_owned() });
        }
        self.write(&all)
    }

    /// Whose token this is. Every hash is compared, and each to its end, so that time tells nothing.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn whose(&self, token: &str) -> Result<Option<KeptToken>, TokenError> {
        let wanted = digest(token);
        let mut found = None;
        for known in self.list()? {
            if same(known.sha256.as_bytes(), wanted.as_bytes()) {
                found = Some(known);
            }
        }
        Ok(found)
    }

    fn write(&self, all: &[KeptToken]) -> Result<(), TokenError> {
        let body =
            serde_json::to_vec_pretty(all).map_err(|source| TokenError::Json { path: self.path.clone(), source })?;
        Ok(files::write_with_mode(&self.path, &body, 0o600)?)
    }
}

fn digest(token: &str) -> String {
    hex::encode(Sha256::digest(token.as_bytes()))
}

/// Compares without stopping at the first difference.
fn same(one: &[u8], two: &[u8]) -> bool {
    one.len() == two.len() && one.iter().zip(two).fold(0, |differ, (one, two)| differ | (one ^ two)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_io::SystemRandom;

    #[test]
    fn a_token_is_known_by_its_hash_alone_and_until_it_is_revoked() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("tokens.json");
        let tokens = Tokens::at(&path);
        let at: Timestamp = "2026-11-26T10:00:00Z".parse().unwrap();
        let token = tokens.add("ops", Role::Admin, &SystemRandom, at).unwrap();
        assert!(matches!(tokens.add("ops", Role::Viewer, &SystemRandom, at), Err(TokenError::Taken { .. })));
        let other = tokens.add("wall", Role::Viewer, &SystemRandom, at).unwrap();
        assert_ne!(token, other);
        assert_eq!(tokens.whose(&token).unwrap().unwrap().role, Role::Admin);
        assert_eq!(tokens.whose("lb_0").unwrap(), None);
        assert!(!files::read_text(&path).unwrap().contains(&token));
        tokens.revoke("ops").unwrap();
        assert_eq!(tokens.whose(&token).unwrap(), None);
        assert!(matches!(tokens.revoke("ops"), Err(TokenError::Unknown { .. })));
    }
}
