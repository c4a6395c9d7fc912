//! Names: near misses, and names made fit.

/// The candidate that somebody probably meant, when one is near enough.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let small = word.to_ascii_lowercase().replace('-', "_");
    let near = |candidate: &&str| {
        let distance = distance(&small, &candidate.to_ascii_lowercase().replace('-', "_"));
        (distance <= 2 && distance * 2 < candidate.len().max(2)).then_some(distance)
    };
    candidates.into_iter().filter_map(|candidate| Some((near(&candidate)?, candidate))).min().map(|(_, found)| found)
}

/// How many letters have to be added, taken away, changed or swapped with their neighbour.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut rows = vec![(0..=right.len()).collect::<Vec<usize>>()];
    for i in 1..=left.len() {
        let mut row = vec![i];
        for j in 1..=right.len() {
            let change = rows[i - 1][j - 1] + usize::from(left[i - 1] != right[j - 1]);
            let mut best = change.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[left.len()][right.len()]
}

/// A name for an app, an environment or a resource out of any text: letters, digits, `-`, `_`, `.`, at most 64 long.
pub fn made_fit(text: &str, when_nothing_is_left: &str) -> String {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() || "-_.".contains(letter) { letter } else { '-' };
    let mapped: String = text.chars().map(plain).collect();
    let trimmed: String = mapped.trim_matches(['-', '.']).chars().take(64).collect();
    if trimmed.is_empty() { when_nothing_is_left.to_owned() } else { trimmed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses_are_found_and_far_ones_are_not() {
        let known = ["location", "password", "prune_grace", "rpo", "env", "env_file", "file", "cmd"];
        for (word, meant) in [
            ("locaton", Some("location")),
            ("loaction", Some("location")),
            ("Password", Some("password")),
            ("prune-grace", Some("prune_grace")),
            ("rop", Some("rpo")),
            ("url", None),
            ("token", None),
        ] {
            assert_eq!(nearest(word, known), meant, "{word}");
        }
    }

    #[test]
    fn any_text_becomes_a_name() {
        for (text, name) in [
            ("shop", "shop"),
            (".env.production", "env.production"),
            ("my shop ☂", "my-shop"),
            ("☂", "data"),
            ("", "data"),
        ] {
            assert_eq!(made_fit(text, "data"), name);
            assert!(lifeboat_model::ResourceName::new(made_fit(text, "data")).is_ok());
        }
        assert!(lifeboat_model::ResourceName::new(made_fit(&"é".repeat(99), "data")).is_ok());
        assert!(lifeboat_model::ResourceName::new(made_fit(&"x".repeat(99), "data")).is_ok());
    }
}
