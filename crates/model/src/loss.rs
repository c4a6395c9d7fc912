//! What is lost when a backup takes the place of what is live, and whether a person has agreed to that.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{resource::ResourceName, time::Timestamp};

/// What will be gone from where it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Which resource.
    pub resource: ResourceName,
    /// Written after this instant.
    pub since: Timestamp,
    /// What exactly, as far as it can be known: `orders 212 rows more than the backup`.
    pub what: Vec<LossLine>,
    /// Where it is kept.
    pub kept: String,
}

/// A line of a loss: one table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossLine {
    /// The table.
    pub table: String,
    /// Rows in the backup; nothing when the table is not in it.
    pub rows_backup: Option<u64>,
    /// Rows now; nothing when the table is gone.
    pub rows_now: Option<u64>,
    /// Whether the content differs at all.
    pub differs: bool,
    /// Rows that came since; before the backup is at hand, at least so many. Nothing: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<u64>,
    /// Rows whose values changed since; nothing: not known before the backup is at hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<u64>,
    /// Rows that went since, and come back; nothing: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<u64>,
    /// The greatest value now of columns such as `created_at` and `updated_at`, as text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub newest: BTreeMap<String, String>,
    /// Columns that what comes back does not have: their values leave with them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns_leaving: Vec<String>,
    /// Digest of the rows as they were when this was written, as in [`crate::TableFacts::digest`]; nothing when the
    /// database was too large for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest_now: Option<String>,
}

impl LossLine {
    /// Rows whose content would be gone: those that came and those that changed, as far as both are known.
    pub fn rows_lost(&self) -> u64 {
        let more = self.rows_now.unwrap_or(0).saturating_sub(self.rows_backup.unwrap_or(0));
        self.created.unwrap_or(more) + self.changed.unwrap_or(0)
    }

    /// Whether values changed in rows that cannot be counted before the backup is at hand.
    pub fn is_uncounted(&self) -> bool {
        self.created.is_some() && self.changed.is_none() && self.rows_backup.is_some() && self.rows_now.is_some()
    }
}

/// How much somebody has agreed to lose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AcceptLoss {
    /// What the plan showed, and nothing that was written since.
    #[default]
    Shown,
    /// So many rows in all.
    Rows(u64),
    /// Whatever it is.
    Any,
}

impl AcceptLoss {
    /// Whether nothing was said about it.
    pub fn is_shown(&self) -> bool {
        *self == AcceptLoss::Shown
    }
}

/// The lines of `found` that nobody has agreed to; empty when everything may go. `is_as_shown` says of a table with more
/// than was shown whether it holds what it held then: nothing was written to it, so there was nothing more to see.
pub fn not_accepted<'a>(
    shown: &[LossLine],
    found: &'a [LossLine],
    accepted: AcceptLoss,
    is_as_shown: &dyn Fn(&LossLine) -> bool,
) -> Vec<&'a LossLine> {
    match accepted {
        AcceptLoss::Any => Vec::new(),
        AcceptLoss::Rows(most) => {
            let lost: u64 = found.iter().map(LossLine::rows_lost).sum();
            found.iter().filter(|line| lost > most && line.rows_lost() > 0).collect()
        }
        AcceptLoss::Shown => {
            let nothing = LossLine { created: Some(0), changed: Some(0), ..LossLine::default() };
            let grown = |line: &&LossLine| {
                let before = shown.iter().find(|before| before.table == line.table);
                let known = before.unwrap_or(&nothing);
                let more = line.created > known.created.or(Some(0)) || line.changed > known.changed.or(Some(0));
                let unseen = before.is_some_and(is_as_shown);
                line.rows_lost() > 0 && more && !unseen
            };
            found.iter().filter(grown).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(table: &str, created: Option<u64>, changed: Option<u64>) -> LossLine {
        LossLine { table: table.to_owned(), created, changed, differs: true, ..LossLine::default() }
    }

    #[test]
    fn what_was_shown_is_accepted_and_nothing_more() {
        let shown = [line("orders", Some(7), Some(2)), line("notes", Some(0), None)];
        let found = |orders: (u64, u64), notes: (u64, u64), new: u64| {
            vec![
                line("orders", Some(orders.0), Some(orders.1)),
                line("notes", Some(notes.0), Some(notes.1)),
                line("new", Some(new), Some(0)),
            ]
        };
        type Case = ((u64, u64), (u64, u64), u64, &'static [&'static str]);
        let cases: &[Case] = &[
            ((7, 2), (0, 0), 0, &[]),
            ((6, 1), (0, 0), 0, &[]),
            ((8, 2), (0, 0), 0, &["orders"]),
            ((7, 3), (0, 0), 0, &["orders"]),
            ((7, 2), (0, 3), 0, &["notes"]),
            ((7, 2), (0, 0), 1, &["new"]),
        ];
        for (orders, notes, new, wanted) in cases {
            let found = found(*orders, *notes, *new);
            let refused = not_accepted(&shown, &found, AcceptLoss::Shown, &|_| false);
            assert_eq!(refused.iter().map(|line| line.table.as_str()).collect::<Vec<_>>(), *wanted);
            // What has not been written to since was there to be seen.
            let refused = not_accepted(&shown, &found, AcceptLoss::Shown, &|_| true);
            assert_eq!(refused.len() as u64, *new, "a table that was not shown at all is new");
        }
    }

    #[test]
    fn a_number_holds_for_all_tables_together() {
        let found = [line("a", Some(3), Some(1)), line("b", Some(0), Some(0)), line("c", Some(1), None)];
        for (accepted, refused) in
            [(AcceptLoss::Rows(5), 0), (AcceptLoss::Rows(6), 0), (AcceptLoss::Rows(4), 2), (AcceptLoss::Any, 0)]
        {
            assert_eq!(not_accepted(&[], &found, accepted, &|_| false).len(), refused, "{accepted:?}");
        }
    }
}
