//! Row-level security of a table on a server: which rows whom it shows, and what is done about it.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// How the names of policies begin that open a table for a while.
pub const OPEN: &str = "lifeboat: open until ";

/// The longest that a table may be open, in milliseconds: an hour.
pub const OPEN_MS_MAX: u64 = 3_600_000;

/// A policy, as `pg_policies` tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// For which command: `ALL`, `SELECT`, `INSERT`, `UPDATE` or `DELETE`.
    pub command: String,
    /// One of those of which any lets a row pass; else one of those of which all must.
    pub is_permissive: bool,
    /// For which roles; `public` is everybody.
    pub roles: Vec<String>,
    /// Which rows are seen, as SQL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub using: Option<String>,
    /// Which rows may be written, as SQL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<String>,
}

/// A table, and its policies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guarded {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// Whether row-level security is on.
    pub is_on: bool,
    /// Whether it holds for the table's owner, too.
    pub is_forced: bool,
    /// Its policies, by name.
    pub policies: Vec<Policy>,
}

/// What can be asked for about policies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum PolicyAsk {
    /// Put a policy in the place of the one of its name, or make it; row-level security is on afterwards.
    Replace {
        /// The new one. What is left open of it is as in the one that is there.
        change: PolicyChange,
    },
    /// Let everybody see and write every row for a while, by a policy that ends by itself.
    Open {
        /// For whom.
        roles: Vec<String>,
        /// For how long, in milliseconds.
        for_ms: u64,
        /// Why.
        why: String,
    },
    /// Take away what opens the table, and switch row-level security on.
    Close,
}

/// What is new about a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyChange {
    /// Its name.
    pub name: String,
    /// For which command.
    pub command: Option<String>,
    /// For which roles; as before when empty.
    pub roles: Vec<String>,
    /// Which rows are seen, as SQL.
    pub using: Option<String>,
    /// Which rows may be written, as SQL.
    pub check: Option<String>,
}

impl PolicyChange {
    /// The policy that comes of it where this one is there.
    pub fn applied_to(&self, before: Option<&Policy>) -> Policy {
        let kept = |pick: fn(&Policy) -> Option<String>| before.and_then(pick);
        Policy {
            name: self.name.clone(),
            command: self.command.clone().or(kept(|one| Some(one.command.clone()))).unwrap_or_else(|| "ALL".to_owned()),
            is_permissive: before.is_none_or(|one| one.is_permissive),
            roles: match (self.roles.is_empty(), before) {
                (false, _) => self.roles.clone(),
                (true, Some(before)) => before.roles.clone(),
                (true, None) => vec!["public".to_owned()],
            },
            using: self.using.clone().or(kept(|one| one.using.clone())),
            check: self.check.clone().or(kept(|one| one.check.clone())),
        }
    }
}

/// What somebody sees of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Rows that are theirs.
    pub own: u64,
    /// Rows that are theirs, and are seen.
    pub own_seen: u64,
    /// Rows of others.
    pub others: u64,
    /// Rows of others that are seen all the same.
    pub others_seen: u64,
    /// When it was looked.
    pub at: Timestamp,
}

/// Why a text is no single SQL expression; nothing when it may be one.
pub fn not_an_expression(text: &str) -> Option<&'static str> {
    let mut depth = 0_i32;
    let mut quote = None;
    let mut last = ' ';
    for letter in text.chars() {
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (Some(_), '\\') => return Some("it has a backslash in quotes"),
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(letter),
            (None, '(') => depth += 1,
            (None, ')') if depth == 0 => return Some("it closes a parenthesis that it did not open"),
            (None, ')') => depth -= 1,
            (None, ';') => return Some("it has more than one statement"),
            (None, '-') if last == '-' => return Some("it has a comment"),
            (None, '*') if last == '/' => return Some("it has a comment"),
            (None, '$') => return Some("it has dollar quotes"),
            (None, _) => {}
        }
        last = letter;
    }
    match (quote, depth, text.trim()) {
        (_, _, "") => Some("it is empty"),
        (Some(_), _, _) => Some("it does not close a quote"),
        (None, 0, _) => None,
        (None, _, _) => Some("it does not close a parenthesis"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_expression_and_nothing_behind_it() {
        for good in
            ["shop_id = auth.current_shop_id() OR auth.is_owner_or_admin()", "name = 'a;b'", "\"x)\" > (1)", "a - b"]
        {
            assert_eq!(not_an_expression(good), None, "{good}");
        }
        for bad in [
            "",
            " ",
            "true); DROP TABLE x; --",
            "true; SELECT 1",
            "(true",
            "true)",
            "a -- b",
            "a /* b",
            "'x",
            "$$a$$",
            "E'\\''",
        ] {
            assert!(not_an_expression(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn what_is_not_said_stays_as_it_was() {
        let before = Policy {
            name: "p".into(),
            command: "SELECT".into(),
            is_permissive: false,
            roles: vec!["authenticated".into()],
            using: Some("true".into()),
            check: None,
        };
        let change =
            PolicyChange { name: "p".into(), command: None, roles: vec![], using: Some("false".into()), check: None };
        assert_eq!(change.applied_to(Some(&before)), Policy { using: Some("false".into()), ..before });
        let fresh = change.applied_to(None);
        assert_eq!(
            (fresh.command.as_str(), fresh.roles, fresh.is_permissive),
            ("ALL", vec!["public".to_owned()], true)
        );
    }
}
