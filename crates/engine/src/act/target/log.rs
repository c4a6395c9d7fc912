//! New lines of the app's log that tell of trouble. All of them are read, a piece at a time; what cannot be read has not
//! passed.

use std::{
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    path::Path,
};

use lifeboat_io::{Stop, files};
use lifeboat_model::{Failure, FailureKind, Target};
use serde_json::{Value, json};

use crate::act::path_failure;

/// So much of a line is looked at at once.
const PIECE_BYTES_MAX: u64 = 64 << 10;
/// So many lines of trouble are told.
const LINES_MAX: usize = 5;
/// Words that a line of trouble has.
const TROUBLE: [&str; 6] = ["error", "fatal", "panic", "unhandled", "uncaught", "traceback"];
/// So much of a piece is looked at again with the next one: the longest word, without its last letter.
const OVERLAP_BYTES: usize = 9;

/// What stands in the new lines.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    lines: u64,
    trouble: u64,
    /// The first of them, counted from 1.
    at: Vec<u64>,
}

/// Only lines that are new: what stood there before is another story.
pub(super) fn scan(
    target: &Target,
    file: &Path,
    from: u64,
    identity: Option<(u64, u64)>,
    stop: &Stop,
) -> Result<Value, Failure> {
    let size = files::size(file).map_err(|error| path_failure(&error))?;
    let is_other = identity.is_some() && files::identity(file).map_err(|error| path_failure(&error))? != identity;
    // A log that is another file, or shorter than before, was begun anew. It may grow for ever: it is read up to here.
    let begin = if is_other || size < from { 0 } else { from };
    let mut opened = files::open(file).map_err(|error| cannot_tell(target, file, error.to_string()))?;
    let found =
        opened.seek(SeekFrom::Start(begin)).and_then(|_| troubles(BufReader::new(opened.take(size - begin)), stop));
    let found = found.map_err(|error| cannot_tell(target, file, error.to_string()))?;
    if found.trouble == 0 {
        return Ok(json!({ "lines": found.lines, "bytes": size - begin }));
    }
    // How many there are; what they say may hold anything, and stays in the log.
    let message = format!("{} new lines of {} tell of errors", found.trouble, file.display());
    let at: Vec<String> = found.at.iter().map(u64::to_string).collect();
    let failure = Failure::new(FailureKind::Refused, message);
    Err(failure.because(format!("new lines {} since {} was changed", at.join(", "), target.name)))
}

/// A log that says nothing, because nobody can read it.
pub(super) fn cannot_tell(target: &Target, file: &Path, why: String) -> Failure {
    let message = format!("nobody can tell whether {} writes of errors in {}", target.name, file.display());
    let failure = Failure::new(FailureKind::Refused, message).because(why);
    failure.hint(format!("correct log of {} in lifeboat.toml, or take it out", target.name))
}

fn troubles(mut log: impl BufRead, stop: &Stop) -> io::Result<Found> {
    let (mut found, mut piece) = (Found::default(), Vec::new());
    let (mut is_new_line, mut is_trouble) = (true, false);
    loop {
        // What is left of the line's last piece stands in front, so that no word is cut in two.
        let kept = piece.len();
        if log.by_ref().take(PIECE_BYTES_MAX).read_until(b'\n', &mut piece)? == 0 {
            return Ok(found);
        }
        if stop.wanted() {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "broken off on request"));
        }
        piece[kept..].make_ascii_lowercase();
        found.lines += u64::from(is_new_line);
        let text = String::from_utf8_lossy(&piece);
        if !is_trouble && TROUBLE.iter().any(|word| text.contains(word)) {
            is_trouble = true;
            found.trouble += 1;
            if found.at.len() < LINES_MAX {
                found.at.push(found.lines);
            }
        }
        is_new_line = piece.ends_with(b"\n");
        if is_new_line {
            is_trouble = false;
            piece.clear();
        } else {
            piece.drain(..piece.len().saturating_sub(OVERLAP_BYTES));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(log: &[u8], lines: u64, at: &[u64], trouble: u64) {
        let found = troubles(log, &Stop::default()).unwrap();
        assert_eq!(found, Found { lines, trouble, at: at.to_vec() });
    }

    #[test]
    fn lines_of_trouble_are_counted_wherever_they_are() {
        check(b"", 0, &[], 0);
        check(b"all is well\nno end of line", 2, &[], 0);
        check(b"one\nan Error\nthree\nFATAL error", 4, &[2, 4], 2);
        check(&b"panic\n".repeat(9), 9, &[1, 2, 3, 4, 5], 9);
        // More than a piece: before, across, and behind the place where it is cut.
        let piece = PIECE_BYTES_MAX as usize;
        for word in TROUBLE {
            for before in [0, piece - word.len(), piece - word.len() + 1, piece - 1, piece, 3 * piece - 2] {
                let log = [b"well\n".to_vec(), vec![b'.'; before], word.into(), vec![b'.'; piece], b"\nwell".to_vec()];
                check(&log.concat(), 3, &[2], 1);
            }
        }
        // Much more than a mebibyte, and the trouble at its very beginning.
        check(&[b"uncaught\n".to_vec(), b"a line that is well\n".repeat(200_000)].concat(), 200_001, &[1], 1);
    }

    #[test]
    fn who_breaks_it_off_does_not_hear_that_all_is_well() {
        let stop = Stop::default();
        stop.at_safe_point();
        assert!(troubles(&b"well"[..], &stop).is_err());
    }
}
