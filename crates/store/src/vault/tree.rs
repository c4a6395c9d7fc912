//! Trees: a folder's entries as JSON, byte for byte as restic would write them, so that a rewritten tree keeps its name.

use std::{ffi::OsString, os::unix::ffi::OsStringExt};

use base64::{Engine, prelude::BASE64_STANDARD as BASE64};
use lifeboat_model::Timestamp;
use serde::{Deserialize, Deserializer};

use super::Id;

/// Bits of Go's file modes, which restic stores.
const GO_FOLDER: u32 = 1 << 31;
const GO_LINK: u32 = 1 << 27;
const GO_SETUID: u32 = 1 << 23;
const GO_SETGID: u32 = 1 << 22;
const GO_STICKY: u32 = 1 << 20;

/// What is known of an entry besides its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryMeta {
    /// Unix permission bits, with setuid, setgid and sticky: `0o7777` at most.
    pub mode: u32,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Last read; the same as `mtime` where nobody knows.
    pub atime: Timestamp,
    /// Last change of anything; the same as `mtime` where nobody knows.
    pub ctime: Timestamp,
    /// Number of the owner.
    pub uid: u32,
    /// Number of the group.
    pub gid: u32,
    /// Name of the owner, may be empty.
    pub user: String,
    /// Name of the group, may be empty.
    pub group: String,
}

impl EntryMeta {
    /// An entry that belongs to whoever makes the backup.
    pub fn new(mode: u32, mtime: Timestamp) -> EntryMeta {
        let (uid, gid) = lifeboat_io::process::owner();
        EntryMeta { mode, mtime, atime: mtime, ctime: mtime, uid, gid, user: String::new(), group: String::new() }
    }
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A file, with the blobs that make it up.
    File {
        /// Bytes.
        size: u64,
        /// Ids of its blobs in order.
        content: Vec<Id>,
    },
    /// A folder.
    Folder {
        /// Id of its tree.
        tree: Id,
    },
    /// A symbolic link.
    Link {
        /// What it points to.
        target: OsString,
    },
    /// Something that restic keeps and we do not: a device, a pipe, a socket. restic's word for it.
    Other(String),
}

/// An entry of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub name: OsString,
    pub meta: EntryMeta,
    pub kind: EntryKind,
}

/// A folder's JSON. Nodes must be sorted by the bytes of their names.
pub(crate) struct TreeWriter {
    json: Vec<u8>,
}

impl TreeWriter {
    pub fn new() -> TreeWriter {
        TreeWriter { json: b"{\"nodes\":[".to_vec() }
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.json.extend_from_slice(b"]}\n");
        self.json
    }

    /// Adds an entry. The order of fields is that of restic's structure.
    pub fn add(&mut self, name: &str, meta: &EntryMeta, kind: &EntryKind) {
        if self.json.last() != Some(&b'[') {
            self.json.push(b',');
        }
        self.field("{\"name\":", |json| go_json(json, &go_quote(name)));
        let (word, mode) = match kind {
            EntryKind::File { .. } => ("file", go_mode(meta.mode)),
            EntryKind::Folder { .. } => ("dir", go_mode(meta.mode) | GO_FOLDER),
            EntryKind::Link { .. } => ("symlink", go_mode(meta.mode) | GO_LINK),
            EntryKind::Other(word) => (word.as_str(), go_mode(meta.mode)),
        };
        self.field(",\"type\":", |json| go_json(json, word));
        if mode != 0 {
            self.field(",\"mode\":", |json| number(json, mode.into()));
        }
        for (key, time) in [(",\"mtime\":", meta.mtime), (",\"atime\":", meta.atime), (",\"ctime\":", meta.ctime)] {
            self.field(key, |json| go_json(json, &time.to_string()));
        }
        self.field(",\"uid\":", |json| number(json, meta.uid.into()));
        self.field(",\"gid\":", |json| number(json, meta.gid.into()));
        for (key, name) in [(",\"user\":", &meta.user), (",\"group\":", &meta.group)] {
            if !name.is_empty() {
                self.field(key, |json| go_json(json, name));
            }
        }
        self.add_kind(kind);
        self.json.push(b'}');
    }

    fn add_kind(&mut self, kind: &EntryKind) {
        match kind {
            EntryKind::File { size, content } => {
                if *size != 0 {
                    self.field(",\"size\":", |json| number(json, *size));
                }
                self.field(",\"content\":[", |json| list_of_ids(json, content));
                self.json.push(b']');
            }
            EntryKind::Folder { tree } => {
                self.field(",\"content\":null,\"subtree\":", |json| go_json(json, &tree.hex()));
            }
            EntryKind::Link { target } => {
                self.field(",\"linktarget\":", |json| go_json(json, &target.to_string_lossy()));
                if target.to_str().is_none() {
                    let raw = BASE64.encode(target.as_encoded_bytes());
                    self.field(",\"linktarget_raw\":", |json| go_json(json, &raw));
                }
                self.json.extend_from_slice(b",\"content\":null");
            }
            EntryKind::Other(_) => self.json.extend_from_slice(b",\"content\":null"),
        }
    }

    fn field(&mut self, key: &str, value: impl FnOnce(&mut Vec<u8>)) {
        self.json.extend_from_slice(key.as_bytes());
        value(&mut self.json);
    }
}

fn number(json: &mut Vec<u8>, number: u64) {
    json.extend_from_slice(number.to_string().as_bytes());
}

fn list_of_ids(json: &mut Vec<u8>, ids: &[Id]) {
    json.reserve(ids.len() * 67);
    for (place, id) in ids.iter().enumerate() {
        if place > 0 {
            json.push(b',');
        }
        json.push(b'"');
        json.extend_from_slice(id.hex().as_bytes());
        json.push(b'"');
    }
}

fn go_mode(mode: u32) -> u32 {
    let special = [(0o4000, GO_SETUID), (0o2000, GO_SETGID), (0o1000, GO_STICKY)];
    special.iter().fold(mode & 0o777, |go, (unix, bit)| if mode & unix != 0 { go | bit } else { go })
}

fn unix_mode(mode: u32) -> u32 {
    let special = [(0o4000, GO_SETUID), (0o2000, GO_SETGID), (0o1000, GO_STICKY)];
    special.iter().fold(mode & 0o777, |unix, (bit, go)| if mode & go != 0 { unix | bit } else { unix })
}

/// A JSON string as Go writes it: also what could be mistaken for HTML is escaped.
fn go_json(json: &mut Vec<u8>, text: &str) {
    json.push(b'"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => json.extend_from_slice(&[b'\\', letter as u8]),
            '\n' => json.extend_from_slice(b"\\n"),
            '\r' => json.extend_from_slice(b"\\r"),
            '\t' => json.extend_from_slice(b"\\t"),
            '\0'..='\x1f' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                json.extend_from_slice(format!("\\u{:04x}", letter as u32).as_bytes());
            }
            _ => json.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    json.push(b'"');
}

/// restic stores names as Go's quoted strings without their quotes, so that names that are not UTF-8 survive.
fn go_quote(name: &str) -> String {
    let mut quoted = String::with_capacity(name.len());
    for letter in name.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0c' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x0b' => quoted.push_str("\\v"),
            '\0'..='\x1f' | '\x7f' => quoted.push_str(&format!("\\x{:02x}", letter as u32)),
            _ if is_printable(letter) => quoted.push(letter),
            '\0'..='\u{ffff}' => quoted.push_str(&format!("\\u{:04x}", letter as u32)),
            _ => quoted.push_str(&format!("\\U{:08x}", letter as u32)),
        }
    }
    quoted
}

/// Go's notion of a printable character, for those that names really have: no controls, no invisible formatting, no
/// spaces but the common one. Where it errs a name still reads back the same; only the tree's own name would differ.
fn is_printable(letter: char) -> bool {
    !matches!(letter,
        '\u{80}'..='\u{a0}' | '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{1680}'
        | '\u{180e}' | '\u{2000}'..='\u{200f}' | '\u{2028}'..='\u{202f}' | '\u{205f}'..='\u{206f}' | '\u{3000}'
        | '\u{e000}'..='\u{f8ff}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}'
        | '\u{e0000}'..='\u{e0fff}' | '\u{f0000}'..='\u{10ffff}')
}

/// Undoes [`go_quote`]; nothing when the text is not such a string.
fn go_unquote(quoted: &str) -> Option<Vec<u8>> {
    let mut name = Vec::with_capacity(quoted.len());
    let mut rest = quoted;
    while let Some(place) = rest.find('\\') {
        name.extend_from_slice(&rest.as_bytes()[..place]);
        let code = *rest.as_bytes().get(place + 1)?;
        rest = rest.get(place + 2..)?;
        let plain = match code {
            b'a' => 7,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            b'\\' | b'\'' | b'"' => code,
            b'x' | b'u' | b'U' => {
                let digits = rest.get(..[2, 4, 8][usize::from(code == b'u') + 2 * usize::from(code == b'U')])?;
                rest = &rest[digits.len()..];
                let value = u32::from_str_radix(digits, 16).ok()?;
                if code == b'x' {
                    name.push(value as u8);
                } else {
                    name.extend_from_slice(char::from_u32(value)?.encode_utf8(&mut [0; 4]).as_bytes());
                }
                continue;
            }
            _ => return None,
        };
        name.push(plain);
    }
    name.extend_from_slice(rest.as_bytes());
    Some(name)
}

/// A tree as restic writes it.
#[derive(Deserialize)]
struct TreeJson {
    nodes: Vec<NodeJson>,
}

#[derive(Deserialize)]
struct NodeJson {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    mode: u32,
    #[serde(default, deserialize_with = "lenient_time")]
    mtime: Timestamp,
    #[serde(default, deserialize_with = "lenient_time")]
    atime: Timestamp,
    #[serde(default, deserialize_with = "lenient_time")]
    ctime: Timestamp,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
    #[serde(default)]
    user: String,
    #[serde(default)]
    group: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    linktarget: String,
    #[serde(default)]
    linktarget_raw: Option<String>,
    #[serde(default)]
    content: Option<Vec<Id>>,
    #[serde(default)]
    subtree: Option<Id>,
}

/// A time that makes no sense must not keep a file from being restored.
fn lenient_time<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
    Ok(String::deserialize(from)?.parse().unwrap_or(Timestamp::UNIX_EPOCH))
}

/// Reads a tree's JSON.
pub(crate) fn parse(json: &[u8]) -> Result<Vec<Node>, String> {
    let tree: TreeJson = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    tree.nodes.into_iter().map(node).collect()
}

fn node(json: NodeJson) -> Result<Node, String> {
    let name = go_unquote(&json.name).filter(|name| is_plain_name(name));
    // A name that leads elsewhere would let a restore write where it likes.
    let name = name.ok_or_else(|| format!("an entry has the impossible name {:?}", json.name))?;
    let kind = match json.kind.as_str() {
        "file" => EntryKind::File { size: json.size, content: json.content.unwrap_or_default() },
        "dir" => {
            let tree = json.subtree.ok_or_else(|| format!("the folder {:?} has no tree", json.name))?;
            EntryKind::Folder { tree }
        }
        "symlink" => {
            let raw = json.linktarget_raw.and_then(|raw| BASE64.decode(raw).ok());
            EntryKind::Link { target: raw.map_or_else(|| json.linktarget.into(), OsString::from_vec) }
        }
        _ => EntryKind::Other(json.kind),
    };
    let meta = EntryMeta {
        mode: unix_mode(json.mode),
        mtime: json.mtime,
        atime: json.atime,
        ctime: json.ctime,
        uid: json.uid,
        gid: json.gid,
        user: json.user,
        group: json.group,
    };
    Ok(Node { name: OsString::from_vec(name), meta, kind })
}

/// Whether this can be one folder entry's name.
pub(crate) fn is_plain_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.contains(&b'/') && !name.contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_as_go_does_and_come_back() {
        for (name, quoted) in [
            ("plain.txt", "plain.txt"),
            ("a \"quoted\" \\ name", "a \\\"quoted\\\" \\\\ name"),
            ("two\nlines\tand\u{7}", "two\\nlines\\tand\\a"),
            ("\u{1}\u{7f}", "\\x01\\x7f"),
            ("größe ☂ 🛟", "größe ☂ 🛟"),
            ("👩\u{200d}🚀", "👩\\u200d🚀"),
            ("no-break\u{a0}space", "no-break\\u00a0space"),
            ("\u{e0041}", "\\U000e0041"),
        ] {
            assert_eq!(go_quote(name), quoted);
            assert_eq!(go_unquote(quoted).unwrap(), name.as_bytes(), "{quoted}");
        }
        assert_eq!(go_unquote("\\xff\\xfe").unwrap(), [0xff, 0xfe], "a name that is not UTF-8");
        for broken in ["\\", "\\q", "\\x1", "\\ud800", "\\x🛟", "\\u12"] {
            assert_eq!(go_unquote(broken), None, "{broken}");
        }
    }

    #[test]
    fn json_is_gos() {
        let meta = EntryMeta {
            mode: 0o4755,
            mtime: "2026-01-02T03:04:05.678Z".parse().unwrap(),
            atime: "2026-01-02T03:04:05Z".parse().unwrap(),
            ctime: "2026-01-02T03:04:05.000000001Z".parse().unwrap(),
            uid: 0,
            gid: 7,
            user: "o<o".into(),
            group: String::new(),
        };
        let id = Id([0xab; 32]);
        let mut tree = TreeWriter::new();
        tree.add("a&b", &meta, &EntryKind::File { size: 3, content: vec![id] });
        tree.add("d", &meta, &EntryKind::Folder { tree: id });
        tree.add("l", &meta, &EntryKind::Link { target: "to/where".into() });
        let json = String::from_utf8(tree.finish()).unwrap();
        let rest = "\"mtime\":\"2026-01-02T03:04:05.678Z\",\"atime\":\"2026-01-02T03:04:05Z\",\
            \"ctime\":\"2026-01-02T03:04:05.000000001Z\",\"uid\":0,\"gid\":7,\"user\":\"o\\u003co\"";
        let expected = format!(
            "{{\"nodes\":[{{\"name\":\"a\\u0026b\",\"type\":\"file\",\"mode\":8389101,{rest},\"size\":3,\"content\":[\"{id}\"]}},\
             {{\"name\":\"d\",\"type\":\"dir\",\"mode\":2155872749,{rest},\"content\":null,\"subtree\":\"{id}\"}},\
             {{\"name\":\"l\",\"type\":\"symlink\",\"mode\":142606829,{rest},\"linktarget\":\"to/where\",\"content\":null}}]}}\n"
        );
        assert_eq!(json, expected);
        let nodes = parse(json.as_bytes()).unwrap();
        assert_eq!(nodes[0], Node { name: "a&b".into(), meta, kind: EntryKind::File { size: 3, content: vec![id] } });
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["..", ".", "", "a/b", "\\x00", "/", "\\x2e\\x2e"] {
            let json = serde_json::json!({"nodes": [{"name": name, "type": "file"}]}).to_string();
            assert!(parse(json.as_bytes()).unwrap_err().contains("impossible name"), "{name}");
        }
    }
}
