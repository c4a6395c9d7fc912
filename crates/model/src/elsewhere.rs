//! Where plain files of a database go, beside the vault: readable by everybody who has SQLite, one a day.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// What stands for the day in the name.
pub const DAY: &str = "YYYYMMDD";

/// A place for a plain file a day: `s3://bucket/backups/shop-YYYYMMDD.sqlite`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elsewhere {
    /// The folder or the bucket, as the location of a vault is written.
    pub place: String,
    /// The name in it, in which `YYYYMMDD` stands for the day.
    pub name: String,
}

/// Why a place for plain files cannot be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadElsewhere {
    /// There is nothing before or after the last `/`.
    #[error("it needs a place and a name: s3://bucket/folder/NAME-YYYYMMDD.sqlite")]
    Incomplete,
    /// Each day would be written over the one before.
    #[error("its name has no day: YYYYMMDD is needed in it, once")]
    NoDay,
}

impl Elsewhere {
    /// Reads what stands in the settings.
    ///
    /// # Errors
    /// No place, no name, or none with a day.
    pub fn parse(text: &str) -> Result<Elsewhere, BadElsewhere> {
        let (place, name) = text.rsplit_once('/').ok_or(BadElsewhere::Incomplete)?;
        if place.is_empty() || place.ends_with('/') || place.ends_with(':') || name.is_empty() {
            return Err(BadElsewhere::Incomplete);
        }
        match name.matches(DAY).count() {
            1 => Ok(Elsewhere { place: place.to_owned(), name: name.to_owned() }),
            _ => Err(BadElsewhere::NoDay),
        }
    }

    /// The name on a day in UTC; from the second on of that day with its number before the ending.
    pub fn name_of(&self, at: Timestamp, number: u32) -> String {
        let name = self.name.replace(DAY, &at.strftime("%Y%m%d").to_string());
        match (number, name.rsplit_once('.')) {
            (0 | 1, _) => name,
            (number, Some((stem, end))) => format!("{stem}-{number}.{end}"),
            (number, None) => format!("{name}-{number}"),
        }
    }
}

impl std::fmt::Display for Elsewhere {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.place, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bkp_07_a_place_and_a_name_with_a_day() {
        let there = Elsewhere::parse("s3://bucket/backups/shop-YYYYMMDD.sqlite").unwrap();
        assert_eq!(there.place, "s3://bucket/backups");
        let at: Timestamp = "2026-11-27T23:59:59Z".parse().unwrap();
        assert_eq!(there.name_of(at, 1), "shop-20261127.sqlite");
        assert_eq!(there.name_of(at, 2), "shop-20261127-2.sqlite");
        for (text, why) in [
            ("shop-YYYYMMDD.sqlite", BadElsewhere::Incomplete),
            ("s3://bucket/", BadElsewhere::Incomplete),
            ("s3://YYYYMMDD", BadElsewhere::Incomplete),
            ("s3://bucket/shop.sqlite", BadElsewhere::NoDay),
            ("s3://bucket/YYYYMMDD/shop.sqlite", BadElsewhere::NoDay),
        ] {
            assert_eq!(Elsewhere::parse(text), Err(why), "{text}");
        }
    }
}
