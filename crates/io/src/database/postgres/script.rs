//! A file of SQL cut into what a server takes one by one: statements, and the rows of COPY that follow some of them. The
//! rules are those of `psql`: what ends a statement depends on quotes, comments, brackets and bodies of functions. Commands
//! of `psql` itself, which may run programs on this computer, are never carried out; they are handed over as text.

use std::io::{self, BufRead, Read};

/// A statement may have so many bytes: far more than anybody writes, and less than would harm us.
const STATEMENT_BYTES_MAX: usize = 256 << 20;

/// What comes next in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A statement, without its semicolon, and the line it begins in.
    Statement(String, u64),
    /// `COPY ... FROM stdin`; its rows must be read before the next piece.
    Copy(String, u64),
    /// A command of `psql`, with its backslash.
    Command(String, u64),
}

/// A file of SQL that is being read.
pub(super) struct Script<R> {
    from: R,
    /// The line that was read last.
    pub line: u64,
    /// What is left of it.
    rest: Vec<u8>,
    lexer: Lexer,
    /// How often a dump began, and ended as `pg_dump` ends it.
    pub headings: u32,
    pub trailers: u32,
    /// Bytes so far.
    pub bytes: u64,
}

/// Where in a statement we are.
#[derive(Debug, Default)]
struct Lexer {
    within: Within,
    brackets: u32,
    /// Words of the statement so far, the first few: what tells that the body of a function follows.
    words: Vec<String>,
    /// `BEGIN ATOMIC ... END`, and `CASE ... END` in it.
    bodies: u32,
    backslashes: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Within {
    #[default]
    Nothing,
    /// A text; whether backslashes stand for something in it.
    Text(bool),
    Name,
    /// `$tag$ ... $tag$`
    Dollars(Vec<u8>),
    /// So deep.
    Comment(u32),
}

fn bad(line: u64, found: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("line {line}: {found}"))
}

impl<R: BufRead> Script<R> {
    pub fn new(from: R) -> Script<R> {
        Script { from, line: 0, rest: Vec::new(), lexer: Lexer::default(), headings: 0, trailers: 0, bytes: 0 }
    }

    /// The next piece; none at the end.
    ///
    /// # Errors
    /// The file cannot be read; it ends within a statement; a statement is not UTF-8.
    pub fn next(&mut self) -> io::Result<Option<Piece>> {
        let mut statement: Vec<u8> = Vec::new();
        let mut begun = 0;
        loop {
            if self.rest.is_empty() && !self.read_line()? {
                if self.lexer.within != Within::Nothing || !is_blank(&statement) {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ends in the middle of a statement"));
                }
                return Ok(None);
            }
            let line = std::mem::take(&mut self.rest);
            if self.lexer.within == Within::Nothing && is_blank(&statement) {
                statement.clear();
                begun = self.line;
                if line.first() == Some(&b'\\') {
                    let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                    return Ok(Some(Piece::Command(text, self.line)));
                }
            }
            let end = self.lexer.take(&line, &mut statement).map_err(|found| bad(self.line, found))?;
            if statement.len() > STATEMENT_BYTES_MAX {
                return Err(bad(begun, "a statement begins that does not end; this is not SQL"));
            }
            let Some(end) = end else { continue };
            self.rest = line[end..].to_vec();
            self.lexer = Lexer { backslashes: self.lexer.backslashes, ..Lexer::default() };
            if is_blank(&statement) {
                continue;
            }
            let text = String::from_utf8(std::mem::take(&mut statement)).map_err(|_| {
                bad(begun, "it is not UTF-8; convert the file with iconv, and its SET client_encoding too")
            })?;
            let text = text.trim().to_owned();
            let small = text.get(..200.min(text.len())).unwrap_or(&text).to_ascii_lowercase();
            if small.starts_with("set standard_conforming_strings") {
                self.lexer.backslashes = small.contains("off");
            }
            return Ok(Some(match is_copy_from_stdin(&text) {
                // Its rows begin in the next line.
                true => {
                    self.rest.clear();
                    Piece::Copy(text, begun)
                }
                false => Piece::Statement(text, begun),
            }));
        }
    }

    /// The rows after a COPY, up to the line that ends them.
    pub fn rows(&mut self) -> Rows<'_, R> {
        Rows { script: self, row: Vec::new(), at: 0, ended: false }
    }

    fn read_line(&mut self) -> io::Result<bool> {
        self.rest.clear();
        let read = self.from.read_until(b'\n', &mut self.rest)?;
        self.line += 1;
        self.bytes += read as u64;
        if self.lexer.within == Within::Nothing && self.rest.starts_with(b"-- PostgreSQL database ") {
            let text = self.rest.trim_ascii_end();
            self.headings += u32::from(text == b"-- PostgreSQL database dump");
            self.trailers += u32::from(text == b"-- PostgreSQL database dump complete");
        }
        Ok(read > 0)
    }
}

fn is_blank(statement: &[u8]) -> bool {
    statement.iter().all(u8::is_ascii_whitespace)
}

/// Comments are left out of statements already, so that words are all there is.
fn is_copy_from_stdin(text: &str) -> bool {
    let begins =
        text.get(..5).is_some_and(|word| word.eq_ignore_ascii_case("copy ") || word.eq_ignore_ascii_case("copy\n"));
    begins && {
        let lower = text.to_ascii_lowercase();
        let words: Vec<&str> = lower.split_whitespace().collect();
        words.windows(2).any(|two| two[0] == "from" && two[1].trim_end_matches(';') == "stdin")
    }
}

impl Lexer {
    /// Takes a line into the statement, without comments; says where the statement ends in it, when it does.
    fn take(&mut self, line: &[u8], statement: &mut Vec<u8>) -> Result<Option<usize>, &'static str> {
        let mut at = 0;
        while at < line.len() {
            match &mut self.within {
                Within::Text(backslashes) => {
                    let step = if *backslashes && line[at] == b'\\' { 2 } else { 1 };
                    // Doubled quotes end it and begin it again.
                    if line[at] == b'\'' {
                        self.within = Within::Nothing;
                    }
                    let to = (at + step).min(line.len());
                    statement.extend_from_slice(&line[at..to]);
                    at = to;
                }
                Within::Name => {
                    if line[at] == b'"' {
                        self.within = Within::Nothing;
                    }
                    statement.push(line[at]);
                    at += 1;
                }
                Within::Dollars(tag) => {
                    let found = find(&line[at..], tag);
                    let to = found.map_or(line.len(), |end| at + end + tag.len());
                    statement.extend_from_slice(&line[at..to]);
                    if found.is_some() {
                        self.within = Within::Nothing;
                    }
                    at = to;
                }
                Within::Comment(depth) => {
                    let step = match &line[at..] {
                        [b'*', b'/', ..] => {
                            *depth -= 1;
                            2
                        }
                        [b'/', b'*', ..] => {
                            *depth += 1;
                            2
                        }
                        _ => 1,
                    };
                    if *depth == 0 {
                        self.within = Within::Nothing;
                        statement.push(b' ');
                    }
                    at += step;
                }
                Within::Nothing => {
                    if let Some(end) = self.plain(line, &mut at, statement)? {
                        return Ok(Some(end));
                    }
                }
            }
        }
        Ok(None)
    }

    /// One step outside of quotes and comments.
    fn plain(&mut self, line: &[u8], at: &mut usize, statement: &mut Vec<u8>) -> Result<Option<usize>, &'static str> {
        let rest = &line[*at..];
        let mut step = 1;
        match rest {
            [b'-', b'-', ..] => {
                *at = line.len();
                statement.push(b'\n');
                return Ok(None);
            }
            [b'/', b'*', ..] => {
                self.within = Within::Comment(1);
                *at += 2;
                return Ok(None);
            }
            [b'\'', ..] => {
                let escapes = matches!(statement.last(), Some(b'e' | b'E')) && !before_is_word(statement);
                self.within = Within::Text(self.backslashes || escapes);
            }
            [b'"', ..] => self.within = Within::Name,
            [b'$', ..] if !statement.last().copied().is_some_and(is_word) => {
                let tag = rest[1..].iter().position(|byte| *byte == b'$').map(|end| &rest[..end + 2]);
                let is_tag = |tag: &&[u8]| {
                    let inner = &tag[1..tag.len() - 1];
                    inner.iter().all(|byte| is_word(*byte) && *byte != b'$')
                        && !inner.first().is_some_and(u8::is_ascii_digit)
                };
                if let Some(tag) = tag.filter(is_tag) {
                    step = tag.len();
                    self.within = Within::Dollars(tag.to_vec());
                }
            }
            [b'(', ..] => self.brackets += 1,
            [b')', ..] => self.brackets = self.brackets.saturating_sub(1),
            [b';', ..] if self.brackets == 0 && self.bodies == 0 => return Ok(Some(*at + 1)),
            [b'\\', ..] => return Err("a command of psql stands within a statement"),
            [first, ..] if first.is_ascii_alphabetic() || *first == b'_' || *first >= 0x80 => {
                step = rest.iter().position(|byte| !is_word(*byte)).unwrap_or(rest.len());
                // A text's E belongs to the text.
                self.word(&rest[..step]);
            }
            _ => {}
        }
        statement.extend_from_slice(&rest[..step]);
        *at += step;
        Ok(None)
    }

    /// As `psqlscan.l`: only in a function's definition does BEGIN open something.
    fn word(&mut self, word: &[u8]) {
        let word = String::from_utf8_lossy(word).to_ascii_lowercase();
        if self.words.len() < 4 {
            self.words.push(word.clone());
        }
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        let makes = matches!(
            words.as_slice(),
            ["create", "function" | "procedure", ..] | ["create", "or", "replace", "function" | "procedure"]
        );
        if !makes || self.brackets > 0 {
            return;
        }
        match word.as_str() {
            "begin" => self.bodies += 1,
            "case" if self.bodies > 0 => self.bodies += 1,
            "end" => self.bodies = self.bodies.saturating_sub(1),
            _ => {}
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

/// Whether the last letter is the end of a longer word.
fn before_is_word(statement: &[u8]) -> bool {
    statement.len() >= 2 && is_word(statement[statement.len() - 2])
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

/// The rows after a COPY.
pub(super) struct Rows<'a, R> {
    script: &'a mut Script<R>,
    row: Vec<u8>,
    at: usize,
    ended: bool,
}

impl<R: BufRead> Read for Rows<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at == self.row.len() {
            self.row.clear();
            self.at = 0;
            // Many short rows at once.
            while self.row.len() < into.len() && !self.ended {
                let from = self.row.len();
                let read = self.script.from.read_until(b'\n', &mut self.row)?;
                if read == 0 {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "it ends in the middle of a table's rows",
                    ));
                }
                self.script.line += 1;
                self.script.bytes += read as u64;
                if matches!(&self.row[from..], b"\\.\n" | b"\\.\r\n" | b"\\.") {
                    self.row.truncate(from);
                    self.ended = true;
                }
            }
        }
        let length = into.len().min(self.row.len() - self.at);
        into[..length].copy_from_slice(&self.row[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str) -> Vec<String> {
        let mut script = Script::new(text.as_bytes());
        let mut all = Vec::new();
        while let Some(piece) = script.next().unwrap() {
            match piece {
                Piece::Statement(sql, line) => all.push(format!("{line}: {sql}")),
                Piece::Command(text, line) => all.push(format!("{line}: {text}")),
                Piece::Copy(sql, line) => {
                    let mut rows = String::new();
                    script.rows().read_to_string(&mut rows).unwrap();
                    all.push(format!("{line}: {sql} <- {rows:?}"));
                }
            }
        }
        all
    }

    #[test]
    fn statements_end_where_psql_ends_them() {
        for (text, expected) in [
            ("SELECT 1; SELECT 2;\nSELECT 3;\n", &["1: SELECT 1", "1: SELECT 2", "3: SELECT 3"][..2]),
            ("-- a; comment\nSELECT ';' /* ; /* ; */ ; */ , 1;", &["2: SELECT ';'   , 1"]),
            ("SELECT 'it''s;', E'a\\';b', \"a;\"\"b\";", &["1: SELECT 'it''s;', E'a\\';b', \"a;\"\"b\""]),
            ("SELECT 'ends with \\'; SELECT 2;", &["1: SELECT 'ends with \\'", "1: SELECT 2"]),
            ("DO $x$ BEGIN; $$ ; END $x$; SELECT a$1;", &["1: DO $x$ BEGIN; $$ ; END $x$", "1: SELECT a$1"]),
            ("CREATE RULE r AS ON INSERT TO t DO (a; b);", &["1: CREATE RULE r AS ON INSERT TO t DO (a; b)"]),
            (
                "CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END; BEGIN;",
                &[
                    "1: CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END",
                    "1: BEGIN",
                ],
            ),
            ("\\restrict abc\n\\connect shop\nSELECT 1;\n", &["1: \\restrict abc", "2: \\connect shop", "3: SELECT 1"]),
            (
                "COPY public.\"from stdin\" (a) FROM stdin;\n1\t;\n\\\\.\n\\.\n\nSELECT 1;",
                &["1: COPY public.\"from stdin\" (a) FROM stdin <- \"1\\t;\\n\\\\\\\\.\\n\"", "6: SELECT 1"],
            ),
            ("COPY (SELECT 1) TO stdout;", &["1: COPY (SELECT 1) TO stdout"]),
        ] {
            let found = pieces(text);
            assert_eq!(&found[..expected.len()], expected, "{text}");
        }
        let old = "SET standard_conforming_strings = off; SELECT 'it\\'s;'; SELECT 2;";
        assert_eq!(pieces(old)[1..], ["1: SELECT 'it\\'s;'", "1: SELECT 2"]);
    }

    #[test]
    fn what_is_cut_is_no_end() {
        for (text, said) in [
            ("SELECT 'a", "middle of a statement"),
            ("SELECT 1", "middle of a statement"),
            ("/* never closed", "middle of a statement"),
            ("COPY t FROM stdin;\n1\n2", "middle of a table's rows"),
        ] {
            let mut script = Script::new(text.as_bytes());
            let ended = match script.next() {
                Ok(Some(Piece::Copy(..))) => io::copy(&mut script.rows(), &mut io::sink()).map(drop),
                other => other.map(drop),
            };
            let error = ended.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{text}");
            assert!(error.to_string().contains(said), "{error}");
        }
        assert!(
            Script::new(&b"SELECT '\xe4';"[..]).next().unwrap_err().to_string().contains("line 1: it is not UTF-8")
        );
    }
}
