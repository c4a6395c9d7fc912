//! The quarterly tests of a hybrid app's recovery: what the documents want tried, where nothing is lost by it.

use serde::{Deserialize, Serialize};

use crate::resource::ResourceName;

/// One of the four tests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "drill", rename_all = "kebab-case")]
pub enum Drill {
    /// Hold changes, see that the file goes on taking and noting them, deliver again.
    Switch {
        /// Which link.
        link: ResourceName,
    },
    /// Save and clear a queue with changes of the test in it, and put it back.
    Queue {
        /// Which link.
        link: ResourceName,
    },
    /// Run the version before this one, see that it works, and run this one again.
    Rollback {
        /// Which target; the only one when none is named.
        target: Option<ResourceName>,
    },
    /// Bring the newest good backup to a place beside the database, look at it, and let it take writes.
    Restore {
        /// Which database.
        resource: ResourceName,
    },
}

impl Drill {
    /// The words of all four, in the order of the document.
    pub const WORDS: [&'static str; 4] = ["switch", "queue", "rollback", "restore"];

    /// One word, as people type it.
    pub fn word(&self) -> &'static str {
        match self {
            Drill::Switch { .. } => "switch",
            Drill::Queue { .. } => "queue",
            Drill::Rollback { .. } => "rollback",
            Drill::Restore { .. } => "restore",
        }
    }
}
