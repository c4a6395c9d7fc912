//! A TOML document that knows which line each key stands in.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

use super::problem::Problem;

/// A document's values, each with its line.
#[derive(Clone, Debug)]
pub struct Document {
    /// The whole.
    pub root: Node,
    /// Offsets at which lines begin.
    lines: Vec<usize>,
}

/// A value and the line of its key.
#[derive(Clone, Debug)]
pub struct Node {
    /// The line its key stands in, from 1; for an element of a list, its own.
    pub line: usize,
    /// What it is.
    pub value: NodeValue,
}

/// What a value is.
#[derive(Clone, Debug)]
pub enum NodeValue {
    /// Text.
    Text(String),
    /// A whole number, when it fits.
    Number(Option<i64>),
    /// True or false.
    Flag(bool),
    /// A fraction, a date: nothing that any setting takes.
    Other(&'static str),
    /// A list.
    List(Vec<Node>),
    /// A table.
    Table(BTreeMap<String, Node>),
}

impl Document {
    /// Reads a document.
    ///
    /// # Errors
    /// Every place where it is no TOML.
    pub fn parse(text: &str) -> Result<Document, Vec<Problem>> {
        let begins = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let lines: Vec<usize> = std::iter::once(0).chain(begins).collect();
        let (table, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            let problem = |error: &toml::de::Error| {
                let line = error.span().map_or(1, |span| line_at(&lines, span.start));
                Problem::new(line, format!("this is not TOML: {}", error.message()))
            };
            return Err(errors.iter().map(problem).collect());
        }
        let root = Node { line: 1, value: NodeValue::Table(table_of(table.get_ref(), &lines)) };
        Ok(Document { root, lines })
    }

    /// The line of an offset in the text.
    pub fn line_at(&self, offset: usize) -> usize {
        line_at(&self.lines, offset)
    }

    /// The value of a key, level by level.
    pub fn find(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(&self.root, |node, key| match &node.value {
            NodeValue::Table(table) => table.get(*key),
            NodeValue::Text(_) | NodeValue::Number(_) | NodeValue::Flag(_) => None,
            NodeValue::Other(_) | NodeValue::List(_) => None,
        })
    }

    /// The line of a key, or of the nearest table around it that is there.
    pub fn line(&self, path: &[&str]) -> usize {
        (0..=path.len()).rev().find_map(|length| self.find(&path[..length])).map_or(1, |node| node.line)
    }

    /// Visits every text with the keys that lead to it.
    pub fn each_text(&self, visit: &mut dyn FnMut(&[&str], usize, &str)) {
        each_text(&self.root, &mut Vec::new(), visit);
    }
}

fn each_text<'a>(node: &'a Node, path: &mut Vec<&'a str>, visit: &mut dyn FnMut(&[&str], usize, &str)) {
    match &node.value {
        NodeValue::Text(text) => visit(path, node.line, text),
        NodeValue::Number(_) | NodeValue::Flag(_) | NodeValue::Other(_) => {}
        NodeValue::List(list) => list.iter().for_each(|child| each_text(child, path, visit)),
        NodeValue::Table(table) => {
            for (key, child) in table {
                path.push(key);
                each_text(child, path, visit);
                path.pop();
            }
        }
    }
}

fn line_at(lines: &[usize], offset: usize) -> usize {
    lines.partition_point(|begin| *begin <= offset).max(1)
}

fn table_of(table: &DeTable<'_>, lines: &[usize]) -> BTreeMap<String, Node> {
    let node = |(key, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
        let key: &toml::Spanned<std::borrow::Cow<'_, str>> = key;
        let node = Node { line: line_at(lines, key.span().start), value: value_of(value.get_ref(), lines) };
        (key.get_ref().to_string(), node)
    };
    table.iter().map(node).collect()
}

fn value_of(value: &DeValue<'_>, lines: &[usize]) -> NodeValue {
    match value {
        DeValue::String(text) => NodeValue::Text(text.to_string()),
        DeValue::Integer(number) => NodeValue::Number(i64::from_str_radix(number.as_str(), number.radix()).ok()),
        DeValue::Float(_) => NodeValue::Other("a fraction"),
        DeValue::Boolean(flag) => NodeValue::Flag(*flag),
        DeValue::Datetime(_) => NodeValue::Other("a date"),
        DeValue::Array(list) => NodeValue::List(
            list.iter()
                .map(|child| Node { line: line_at(lines, child.span().start), value: value_of(child.get_ref(), lines) })
                .collect(),
        ),
        DeValue::Table(table) => NodeValue::Table(table_of(table, lines)),
    }
}
