//! Rules about what the documents say, and about what no tracked file may say.

use lifeboat_model::ExitCode;

use super::manifests::crate_folders;
use super::{SourceFile, find};

/// Stands in ARCHITECTURE.md where an invariant's test is still to be written.
pub const TEST_TO_COME: &str = "<!-- test to come:";

/// No file names a place on somebody's machine, or where its packages came from.
pub fn machine_paths(tree: &[SourceFile]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in tree {
        for (number, line) in file.text.lines().enumerate() {
            for found in machine_path_in(line).into_iter().chain(package_source_in(&file.path, line)) {
                complaints.push(format!("{}:{}: names {found}; it belongs to one machine.", file.path, number + 1));
            }
        }
    }
    complaints
}

/// A path that begins in a folder of one machine. Paths that merely contain such a name (`site/work/`) are fine.
fn machine_path_in(line: &str) -> Option<String> {
    // Put together here, so that this file does not hold what it looks for.
    let beginnings = ["work/", "farm/", "root/", "tmp/wt", "tmp/target"].map(|folder| format!("/{folder}"));
    beginnings.into_iter().find(|beginning| {
        line.match_indices(beginning.as_str()).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            !before.is_some_and(|c| c.is_alphanumeric() || "./_-}>".contains(c))
        })
    })
}

/// A source of packages other than crates.io, or a setting that replaces it.
fn package_source_in(path: &str, line: &str) -> Option<String> {
    let public = concat!("registry+https", "://github.com/rust-lang/crates.io-index");
    if path.ends_with("Cargo.lock") {
        let source = line.strip_prefix("source = \"")?.trim_end_matches('"');
        return (source != public).then(|| source.to_owned());
    }
    let settings = ["replace-", "[regis", "[source", "sparse", "index.crates"];
    let endings = ["with", "tries", ".", "+", ".io"];
    let words = settings.iter().zip(endings).map(|(begin, end)| format!("{begin}{end}"));
    // In code a bracket before a name is an index or a list.
    let is_table = |word: &String| word.starts_with('[');
    words.into_iter().find(|word| line.contains(word.as_str()) && (path.ends_with(".toml") || !is_table(word)))
}

/// `docs/exit-codes.md` holds exactly the table that the code has.
pub fn exit_codes(tree: &[SourceFile]) -> Vec<String> {
    let path = "docs/exit-codes.md";
    let table = exit_code_table();
    let text = match find(tree, path) {
        Ok(file) => &file.text,
        Err(complaint) => return vec![complaint],
    };
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
    if lines == table.lines().collect::<Vec<_>>() {
        return Vec::new();
    }
    vec![format!("{path}: differs from ExitCode::TABLE; put this in the place of its table:\n{table}")]
}

/// The documentation's table of exit codes, as Markdown.
pub fn exit_code_table() -> String {
    let mut table = String::from("| code | name | meaning |\n|---|---|---|\n");
    for (code, name, meaning) in ExitCode::TABLE {
        table += &format!("| {} | {name} | {meaning} |\n", *code as u8);
    }
    table
}

/// The code map of ARCHITECTURE.md mentions every crate.
pub fn code_map(tree: &[SourceFile]) -> Vec<String> {
    let map = match section(tree, "ARCHITECTURE.md", "## Code map") {
        Ok(map) => map,
        Err(complaint) => return vec![complaint],
    };
    let folders = crate_folders(tree).into_iter();
    folders
        .filter(|folder| !map.contains(&format!("`crates/{folder}`")))
        .map(|folder| format!("ARCHITECTURE.md: the code map does not mention `crates/{folder}`."))
        .collect()
}

/// Every invariant of ARCHITECTURE.md says which tests hold it, and each of these tests is there.
pub fn invariants(tree: &[SourceFile]) -> Vec<String> {
    let section = match section(tree, "ARCHITECTURE.md", "## Invariants") {
        Ok(section) => section,
        Err(complaint) => return vec![complaint],
    };
    let mut complaints = Vec::new();
    let mut items = section.split("\n- ").skip(1).peekable();
    if items.peek().is_none() {
        complaints.push("ARCHITECTURE.md: lists no invariants.".into());
    }
    for item in items {
        let (what, held_by) = item.split_once("Held by:").unwrap_or((item, ""));
        let what = what.lines().next().unwrap_or_default();
        // The words of a marker are not names of tests.
        let named = held_by.split(TEST_TO_COME).next().unwrap_or_default();
        let tests: Vec<&str> = named.split('`').skip(1).step_by(2).collect();
        if tests.is_empty() && !held_by.contains(TEST_TO_COME) {
            complaints.push(format!("ARCHITECTURE.md: no test holds the invariant “{what}”; say `Held by:`."));
        }
        let missing = tests.iter().filter(|test| !has_test(tree, test));
        complaints.extend(missing.map(|test| format!("ARCHITECTURE.md: there is no test {test} (“{what}”).")));
    }
    complaints
}

/// Rows that docs/scenarios.md must have: the documents' own scenarios, and the fifteen rules.
const SCENARIOS: &str = "2-D 2-P0 2-P1 2-P2A 2-P2B 2-P2C 2-P3.1 2-P3.2 2-P3.3 2-P3.4 2-P3.5 2-P4 2-P5 2-P6 2-A1 2-A2 2-A3 2-A4 2-PR1 2-PR2 \
     2-PR3 2-RH 2-QD 2-E 2-D1 2-D2 2-D3 2-D4 2-D5 2-D6 2-D7 2-D8 2-D9 2-D10 2-D11 2-D12 2-D13 2-D14 2-D15 3-Q 3-C 3-1…7 3-T1 3-T2 3-T3 3-T4 \
     3-R1 3-R2 3-R3 3-R4 3-P 3-D";

/// Every scenario has a row in docs/scenarios.md, whose commands and tests are there.
pub fn scenarios(tree: &[SourceFile]) -> Vec<String> {
    let (text, commands) = match (find(tree, "docs/scenarios.md"), find(tree, "docs/cli-reference.md")) {
        (Ok(text), Ok(commands)) => (&text.text, &commands.text),
        (Err(complaint), _) | (_, Err(complaint)) => return vec![complaint],
    };
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| # "))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let mut complaints = Vec::new();
    for wanted in SCENARIOS.split_whitespace() {
        let found = rows.iter().filter(|row| row.first() == Some(&wanted)).count();
        if found != 1 {
            complaints.push(format!("docs/scenarios.md: has {found} rows of {wanted}, and one is wanted."));
        }
    }
    for row in &rows {
        let [number, _what, typed, shown_by] = row.as_slice() else {
            complaints.push(format!("docs/scenarios.md: the row {row:?} does not have four columns."));
            continue;
        };
        let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        let (typed, tests) = (quoted(typed), quoted(shown_by));
        let is_unknown =
            |command: &&String| !commands.lines().any(|line| line.trim_start_matches('#').trim() == **command);
        complaints.extend(
            typed
                .iter()
                .filter(is_unknown)
                .map(|one| format!("docs/scenarios.md: {number}: there is no command {one}.")),
        );
        if typed.is_empty() || (tests.is_empty() && *shown_by != "-") {
            complaints.push(format!("docs/scenarios.md: {number} names no command, or neither a test nor `-`."));
        }
        let missing = tests.iter().filter(|test| !has_test(tree, test));
        complaints.extend(missing.map(|test| format!("docs/scenarios.md: {number}: there is no test {test}.")));
    }
    complaints
}

fn has_test(tree: &[SourceFile], name: &str) -> bool {
    let head = format!("fn {name}(");
    tree.iter().any(|file| file.is_rust() && file.text.contains(&head))
}

/// What stands under a heading of a document, up to the next heading of the same level.
fn section<'a>(tree: &'a [SourceFile], path: &str, heading: &str) -> Result<&'a str, String> {
    let text = &find(tree, path)?.text;
    let begin = text.find(&format!("{heading}\n")).ok_or_else(|| format!("{path}: has no section “{heading}”."))?;
    let body = &text[begin + heading.len()..];
    Ok(body.find("\n## ").map_or(body, |end| &body[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> Vec<SourceFile> {
        files.iter().map(|(path, text)| SourceFile::new(path, text)).collect()
    }

    #[test]
    fn machine_paths_are_named() {
        let bad = |path: &str, line: &str| {
            let complaints = machine_paths(&tree(&[(path, line)]));
            assert_eq!(complaints.len(), 1, "{line}: {complaints:?}");
            assert!(complaints[0].starts_with(&format!("{path}:1: names ")), "{complaints:?}");
        };
        let good = |path: &str, line: &str| assert_eq!(machine_paths(&tree(&[(path, line)])), Vec::<String>::new());
        bad("docs/x.md", &format!("see `/{}shared`", "work/"));
        bad("src/x.rs", &format!("/{}.cargo", "root/"));
        bad("x.toml", &format!("target-dir = \"/tmp/{}-me\"", "target"));
        bad("Cargo.lock", "source = \"registry+https://packages.example.com/index\"");
        bad(".cargo/config.toml", &format!("replace-{} = \"mirror\"", "with"));
        bad("x.toml", &format!("[source{}crates-io]", "."));
        good("docs/x.md", &format!("https://example.com/{}x and ./{}y", "work/", "root/"));
        good("src/x.rs", &format!("format!(\"{{folder}}/{}\")", "work/"));
        good("Cargo.lock", concat!("source = \"registry+https", "://github.com/rust-lang/crates.io-index\""));
    }

    #[test]
    fn a_table_that_drifted_is_shown_anew() {
        let good = format!("# Exit codes\n\nWords.\n\n{}\nMore words.\n", exit_code_table());
        assert!(exit_codes(&tree(&[("docs/exit-codes.md", &good)])).is_empty());
        for (from, to) in [("| 5 |", "| 15 |"), ("| 11 |", "11"), ("damaged", "broken")] {
            let drifted = good.replacen(from, to, 1);
            let complaints = exit_codes(&tree(&[("docs/exit-codes.md", &drifted)]));
            assert!(complaints[0].contains(&exit_code_table()), "{complaints:?}");
        }
        assert_eq!(exit_codes(&[]), ["docs/exit-codes.md: this file is missing."]);
    }

    #[test]
    fn crates_missing_in_the_code_map_are_named() {
        let map = "# A\n`crates/io`\n## Code map\n\n`crates/model`: nouns\n\n## Next\n`crates/store`\n";
        let files = tree(&[("ARCHITECTURE.md", map), ("crates/model/Cargo.toml", ""), ("crates/store/Cargo.toml", "")]);
        assert_eq!(code_map(&files), ["ARCHITECTURE.md: the code map does not mention `crates/store`."]);
        assert!(code_map(&tree(&[("ARCHITECTURE.md", "# A\n")]))[0].contains("has no section"));
    }

    #[test]
    fn scenarios_without_a_test_are_named() {
        let row = |number: &str, rest: &str| format!("| {number} | what | {rest} |\n");
        let all: Vec<String> =
            SCENARIOS.split_whitespace().map(|number| row(number, "`lifeboat deploy` | `it_goes`")).collect();
        let check = |text: &str, expected: &[&str]| {
            let code = ("crates/a/tests/x.rs", "#[test]\nfn it_goes() {}\n");
            let reference = ("docs/cli-reference.md", "## lifeboat deploy\n");
            let complaints = scenarios(&tree(&[("docs/scenarios.md", text), code, reference]));
            assert_eq!(complaints.len(), expected.len(), "{complaints:?}");
            for (complaint, part) in complaints.iter().zip(expected) {
                assert!(complaint.contains(part), "{complaint}\nshould contain: {part}");
            }
        };
        let good = all.concat();
        check(&good, &[]);
        check(&all[1..].concat(), &["has 0 rows of 2-D,"]);
        check(&good.replacen("it_goes", "gone", 1), &["2-D: there is no test gone"]);
        check(&good.replacen("lifeboat deploy", "lifeboat fly", 1), &["there is no command lifeboat fly"]);
        check(&good.replacen("`it_goes`", "-", 1), &[]);
        check(&good.replacen("`it_goes`", "", 1), &["names no command, or neither"]);
        check(&good.replacen("| what ", "", 1), &["does not have four columns"]);
    }

    #[test]
    fn invariants_without_a_test_are_named() {
        let check = |items: &str, expected: &[&str]| {
            let text = format!("# A\n\n## Invariants\n\nWords.\n{items}\n\n## Next\n\n- not an invariant\n");
            let code = "#[test]\nfn nothing_is_lost() {}\n";
            let complaints = invariants(&tree(&[("ARCHITECTURE.md", &text), ("crates/a/tests/x.rs", code)]));
            assert_eq!(complaints.len(), expected.len(), "{items}: {complaints:?}");
            for (complaint, part) in complaints.iter().zip(expected) {
                assert!(complaint.contains(part), "{complaint}\nshould contain: {part}");
            }
        };
        check("\n- Nothing is lost.\n  Held by: `nothing_is_lost`.", &[]);
        check(&format!("\n- Nothing is lost.\n  Held by: {TEST_TO_COME} `kill` at each line -->"), &[]);
        check(
            "\n- Nothing is lost.\n- More.\n  Held by: `nothing_is_lost`",
            &["holds the invariant “Nothing is lost.”"],
        );
        check("\n- Nothing is lost.\n  Held by: hope.", &["no test holds"]);
        check("\n- Nothing is lost.\n  Held by: `nothing_is_lost`, `gone`.", &["there is no test gone"]);
        check("", &["lists no invariants"]);
    }
}
