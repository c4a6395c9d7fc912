//! The state folder: everything Lifeboat keeps on this host outside vaults.
//!
//! ```text
//! state/
//!   operations/o-….ndjson     journals: the truth about what happened
//!   lifeboat.db               index over them; rebuilt when it is lost
//!   leases/shop.production    who works on what
//!   plans/p-….json            plans waiting for `apply`
//!   staging/o-…/              captured copies on their way into a vault
//!   sandbox/o-…/              restored copies being looked at
//!   tokens.json               who may use the HTTP API
//!   keys.json                 requests over HTTP that are not done twice
//!   sync/shop.production.db.db   what a mirror remembers; queues that were cleared
//!   pages/shop.production.db.1a2b3c4d.map   what the last backup of a SQLite database saw of its pages
//!   salvage/o-…/               rows that an operation took out of what is live
//!   forgotten/b-….snapshot    what brings a forgotten backup back
//! ```

use std::path::{Path, PathBuf};

use lifeboat_io::{PathError, files};
use lifeboat_model::{BackupId, Lease, OperationId, PlanId, ResourceName, Scope};

/// The folder, and the names in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateFolder {
    root: PathBuf,
}

impl StateFolder {
    /// Makes the folder and its parts; what is in it is for its owner's eyes only, since copies of data pass through it.
    ///
    /// # Errors
    /// When a folder cannot be made.
    pub fn open(root: &Path) -> Result<StateFolder, PathError> {
        let root = files::absolute(root)?;
        for part in ["", "operations", "leases", "plans", "staging", "sandbox", "forgotten", "salvage", "sync", "pages"]
        {
            files::create_private_folder(&root.join(part))?;
        }
        Ok(StateFolder { root })
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of all journals.
    pub fn operations(&self) -> PathBuf {
        self.root.join("operations")
    }

    /// The journal of one operation.
    pub fn journal(&self, operation: &OperationId) -> PathBuf {
        self.operations().join(format!("{operation}.ndjson"))
    }

    /// The index.
    pub fn catalog(&self) -> PathBuf {
        self.root.join("lifeboat.db")
    }

    /// The lock file of one of a scope's leases.
    pub fn lease(&self, scope: &Scope, lease: Lease) -> PathBuf {
        self.root.join("leases").join(format!("{}{}", scope_name(scope), lease.word()))
    }

    /// Who may use the HTTP API.
    pub fn tokens(&self) -> PathBuf {
        self.root.join("tokens.json")
    }

    /// Requests over HTTP that are not done twice.
    pub fn keys(&self) -> PathBuf {
        self.root.join("keys.json")
    }

    /// What a mirror remembers on this host besides what is in the two databases.
    pub fn mirror(&self, scope: &Scope, link: &ResourceName) -> PathBuf {
        self.root.join("sync").join(format!("{}.{}.db", scope_name(scope), file_name(link.as_str())))
    }

    /// Where the queues of a mirror are saved before they are cleared.
    pub fn queues(&self, scope: &Scope, link: &ResourceName) -> PathBuf {
        self.root.join("sync").join(format!("{}.{}.queues", scope_name(scope), file_name(link.as_str())))
    }

    /// What the last backup into a vault saw of a SQLite database's pages. It only saves time.
    pub fn page_map(&self, scope: &Scope, resource: &ResourceName, vault: &str) -> PathBuf {
        let vault: String = vault.chars().take(8).collect();
        let name = format!("{}.{}.{}.map", scope_name(scope), file_name(resource.as_str()), file_name(&vault));
        self.root.join("pages").join(name)
    }

    /// A plan that waits for `apply`.
    pub fn plan(&self, plan: &PlanId) -> PathBuf {
        self.root.join("plans").join(format!("{plan}.json"))
    }

    /// Where captured copies lie until they are stored; named in the plan, hence by the plan's id.
    pub fn staging(&self, plan: &PlanId) -> PathBuf {
        self.root.join("staging").join(plan.as_str())
    }

    /// Where restored copies are looked at.
    pub fn sandbox(&self, plan: &PlanId) -> PathBuf {
        self.root.join("sandbox").join(plan.as_str())
    }

    /// What an operation keeps of rows that it took out of what is live.
    pub fn salvage(&self, operation: &OperationId) -> PathBuf {
        self.root.join("salvage").join(operation.as_str())
    }

    /// What brings a forgotten backup back.
    pub fn forgotten(&self, backup: &BackupId) -> PathBuf {
        self.root.join("forgotten").join(format!("{backup}.snapshot"))
    }

    /// Whether a path lies in a part of the state folder whose content may be thrown away.
    pub fn may_remove(&self, path: &Path) -> bool {
        let inside =
            |part: &str| path.strip_prefix(self.root.join(part)).is_ok_and(|rest| rest.components().count() > 0);
        let plain = path.components().all(|part| part != std::path::Component::ParentDir);
        plain && (inside("staging") || inside("sandbox"))
    }
}

fn scope_name(scope: &Scope) -> String {
    format!("{}.{}", file_name(&scope.app), file_name(&scope.environment))
}

/// A scope's name as part of a file name: everything but letters, digits, `-` and `_` becomes its number, so that two
/// names never share a file.
fn file_name(name: &str) -> String {
    let mut out = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => out.push(byte as char),
            other => out.push_str(&format!("%{other:02x}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_be_thrown_away_may_be_removed() {
        let home = tempfile::tempdir().unwrap();
        let state = StateFolder::open(home.path()).unwrap();
        assert!(state.may_remove(&state.root().join("staging/p-1/db")));
        for path in ["staging", "operations/o-1.ndjson", "", "staging/../operations", "lifeboat.db"] {
            assert!(!state.may_remove(&state.root().join(path)), "{path}");
        }
    }

    #[test]
    fn two_scopes_never_share_a_lease() {
        let home = tempfile::tempdir().unwrap();
        let state = StateFolder::open(home.path()).unwrap();
        let scope = |app: &str, environment: &str| Scope { app: app.into(), environment: environment.into() };
        assert_ne!(
            state.lease(&scope("a.b", "c"), Lease::Environment),
            state.lease(&scope("a", "b.c"), Lease::Environment)
        );
        assert_ne!(state.lease(&scope("a", "b"), Lease::Sandbox), state.lease(&scope("a", "b"), Lease::Environment));
    }
}
