//! `docs/cli-reference.md` is what the code says.

#[test]
fn the_reference_is_that_of_the_code() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli-reference.md");
    let made = lifeboat::cli::reference::reference();
    if std::env::var_os("LIFEBOAT_UPDATE_REFERENCE").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == made,
        "docs/cli-reference.md is not up to date: LIFEBOAT_UPDATE_REFERENCE=1 cargo test -p lifeboat --test runner reference"
    );
}

/// Every command that its texts name, and every option in them, is understood.
#[test]
fn every_example_is_understood() {
    use clap::Parser;
    let text = lifeboat::cli::reference::reference();
    let examples: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("  lifeboat ")).collect();
    assert!(examples.len() > 40, "{}", examples.len());
    for example in examples {
        let command = example.split("    ").next().unwrap().split([';', '>', '|']).next().unwrap();
        let words = words(command);
        let all = std::iter::once("lifeboat".to_owned()).chain(words);
        if let Err(error) = lifeboat::cli::Cli::try_parse_from(all) {
            panic!("lifeboat {example}: {error}");
        }
    }
}

/// Words as a shell splits them, as far as the examples need it: single quotes.
fn words(text: &str) -> Vec<String> {
    let parts = text.split('\'').enumerate();
    let words = parts.flat_map(|(at, part)| match at % 2 {
        0 => part.split_whitespace().map(str::to_owned).collect::<Vec<_>>(),
        _ => vec![part.to_owned()],
    });
    words.collect()
}
